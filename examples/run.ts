/**
 * `npm run examples [-- 03 cron]`: runs the numbered examples one after another, each on a database
 * of its own (`DATABASE_URL`), each within a deadline. The server is chosen as for the tests.
 */
import { spawn } from "node:child_process"
import { readdirSync } from "node:fs"
import * as path from "node:path"
import { createDatabaseOn } from "../test/support/provision.ts"
import { startTestServer } from "../test/support/server.ts"

const DEADLINE_MS = 90_000

const wanted = process.argv.slice(2)
const names = readdirSync(import.meta.dirname)
  .filter((name) => /^\d\d-/.test(name))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
  .toSorted()
if (names.length === 0) throw new Error(`no example matches ${wanted.join(", ") || "NN-*"}`)

const server = await startTestServer()
console.log(`Postgres for the examples: ${server.description}`)
const failed: Array<string> = []
try {
  for (const name of names) {
    console.log(`\n=== ${name}`)
    const database = await createDatabaseOn(server.url)
    const outcome = await runExample(name, database.url)
    await database.drop()
    if (outcome !== "ok") failed.push(`${name} (${outcome})`)
  }
} finally {
  await server.stop()
}
console.log(`\n${names.length - failed.length} of ${names.length} examples succeeded`)
if (failed.length > 0) {
  console.error(`failed: ${failed.join(", ")}`)
  process.exitCode = 1
}

/** In a process group of its own, so that the deadline also ends what the example has started. */
function runExample(name: string, url: string): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path.join(import.meta.dirname, name, "main.ts")], {
      env: { ...process.env, DATABASE_URL: url },
      stdio: ["ignore", "inherit", "inherit"],
      detached: true,
    })
    const endGroup = () => {
      if (child.pid === undefined) return
      try {
        process.kill(-child.pid, "SIGKILL")
      } catch {
        // nothing of it is left
      }
    }
    let late = false
    const timer = setTimeout(() => {
      late = true
      endGroup()
    }, DEADLINE_MS)
    process.once("exit", endGroup)
    child.once("error", (error) => resolve(String(error)))
    child.once("close", (code, signal) => {
      clearTimeout(timer)
      process.off("exit", endGroup)
      endGroup()
      if (late) resolve(`not done within ${DEADLINE_MS / 1000} seconds`)
      else resolve(code === 0 ? "ok" : `ended with ${signal ?? `code ${code}`}`)
    })
  })
}
