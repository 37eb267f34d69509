/** The command, where it needs no database: how it is used, and what it refuses. */
import { execFile } from "node:child_process"
import { describe, expect, it } from "vitest"

const cli = new URL("../src/cli.ts", import.meta.url).pathname

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const flowly = (args: ReadonlyArray<string>, env: Record<string, string> = {}): Promise<Ended> =>
  new Promise((resolve) => {
    execFile(process.execPath, [cli, ...args], { env, timeout: 30_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })

/** Nobody listens there. */
const DATABASE_URL = "postgres://user:canary@127.0.0.1:1/db"

describe("the command", () => {
  it.each([[[]], [["drop"]], [["migrate", "now"]], [["grants", "worker"]]])(
    "says how it is used, and fails, when it is told %j",
    async (args) => {
      const ended = await flowly(args, { DATABASE_URL })
      expect(ended).toMatchObject({ code: 2, stdout: "" })
      expect(ended.stderr).toMatch(/^flowly migrate .*flowly grants /s)
    },
  )

  it("says how it is used, and does nothing, when it is asked for help", async () => {
    const ended = await flowly(["migrate", "--help"], { DATABASE_URL })
    expect(ended).toMatchObject({ code: 0, stderr: "" })
    expect(ended.stdout).toMatch(/^flowly migrate .*flowly grants /s)
  })

  it.each([
    ["without a database", ["migrate"], {}, "DATABASE_URL is not set"],
    ["roles to a migration", ["migrate", "--worker", "app"], { DATABASE_URL }, "not of migrate"],
    ["a reader to one", ["migrate", "--reader", "app"], { DATABASE_URL }, "not of migrate"],
    ["an option that is none", ["grants", "--owner", "app"], {}, "--owner"],
    ["a schema that is none", ["grants", "--schema", "Big", "--worker", "app"], {}, "schema"],
  ])("refuses %s in one line, and fails", async (_, args, env, reason) => {
    const ended = await flowly(args, env)
    expect(ended).toMatchObject({ code: 1, stdout: "" })
    expect(ended.stderr).toMatch(/^flowly: [^\n]*\n$/)
    expect(ended.stderr).toContain(reason)
    expect(ended.stderr).not.toContain("canary")
  })
})
