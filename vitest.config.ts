// Two projects: `unit` needs no Postgres and starts none; `integration` is every `*.pg.test.ts`,
// on the server that test/support/globalSetup.ts chooses.
import * as path from "node:path"
import { defineConfig } from "vitest/config"

const integration = "test/**/*.pg.test.ts"

const src = path.join(import.meta.dirname, "src")

export default defineConfig({
  resolve: {
    // Tests of examples import flowly as applications do, and get the source.
    alias: [
      { find: /^flowly$/, replacement: path.join(src, "index.ts") },
      { find: /^flowly\/(.*)$/, replacement: path.join(src, "$1.ts") },
    ],
  },
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
