// Two projects: `unit` needs no Postgres and starts none; `integration` is every `*.pg.test.ts`,
// on the server that test/support/globalSetup.ts chooses.
import { defineConfig } from "vitest/config"

const integration = "test/**/*.pg.test.ts"

export default defineConfig({
  test: {
    projects: [
      {
        extends: true,
        test: { name: "unit", include: ["test/**/*.test.ts"], exclude: [integration] },
      },
      {
        extends: true,
        test: {
          name: "integration",
          include: [integration],
          globalSetup: ["test/support/globalSetup.ts"],
        },
      },
    ],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
