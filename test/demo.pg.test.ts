/** The demo leaves no process behind, however it ends; and the next one finishes what it left. */
import { type ChildProcess, spawn } from "node:child_process"
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { afterAll, afterEach, describe, expect, it } from "vitest"

const root = path.resolve(import.meta.dirname, "..")
const folder = mkdtempSync(path.join(tmpdir(), "flowly-demo-"))
chmodSync(folder, 0o755) // for the account of the server, should we be root
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const started: Array<ChildProcess> = []
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL")
})

/** On the sources of flowly, in a folder that the demos of this file share. */
function startDemo() {
  const hook = path.join(root, "test/readme/useSources.ts")
  const main = path.join(root, "examples/demo/main.ts")
  const args = ["--import", hook, main, "--data-dir", path.join(folder, "data")]
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] })
  started.push(child)
  let output = ""
  const listeners = new Set<() => void>()
  const add = (chunk: Buffer) => {
    output += chunk.toString()
    for (const listener of listeners) listener()
  }
  child.stdout.on("data", add)
  child.stderr.on("data", add)
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once("close", (code, signal) => resolve(signal ?? code))
  })
  const prints = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => (output.includes(text) ? resolve() : undefined)
      listeners.add(look)
      look()
      void ended.then(() => reject(new Error(`it ended without "${text}":\n${output}`)))
    })
  return { child, ended, prints, output: () => output }
}

/** The workers that it says it has started, and that are still there. */
const workersOf = (output: string): ReadonlyArray<number> =>
  [...output.matchAll(/worker \d started, process (\d+)/g)].map((match) => Number(match[1]))

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
  // Where nobody reaps orphans, the dead are still listed.
  if (process.platform !== "linux") return true
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}

async function allGone(pids: ReadonlyArray<number>): Promise<void> {
  expect(pids.length).toBeGreaterThan(0)
  const deadline = Date.now() + 30_000
  while (pids.some(isAlive)) {
    if (Date.now() > deadline) throw new Error(`still there: ${pids.filter(isAlive).join(", ")}`)
    await new Promise((resolve) => {
      setTimeout(resolve, 50)
    })
  }
}

const postmasterPid = (): number =>
  Number(readFileSync(path.join(folder, "data/cluster/postmaster.pid"), "utf8").split("\n")[0])

describe("the demo", () => {
  it("that is interrupted stops its worker and its server", { timeout: 120_000 }, async () => {
    const demo = startDemo()
    await demo.prints("cooling off until")
    const server = postmasterPid()
    demo.child.kill("SIGINT")
    expect(await demo.ended).toBe(130)
    await allGone([...workersOf(demo.output()), server])
  })

  it("that is killed leaves neither worker nor server", { timeout: 120_000 }, async () => {
    const demo = startDemo()
    await demo.prints("cooling off until")
    const server = postmasterPid()
    demo.child.kill("SIGKILL")
    expect(await demo.ended).toBe("SIGKILL")
    await allGone([...workersOf(demo.output()), server])
  })

  it("that comes after them finishes their orders and its own", { timeout: 180_000 }, async () => {
    const demo = startDemo()
    const code = await demo.ended
    expect(demo.output()).toContain("has left 2 orders unfinished")
    expect(demo.output()).toContain("All 9 checks hold.")
    expect(code).toBe(0)
    const workers = workersOf(demo.output())
    expect(workers).toHaveLength(3)
    await allGone(workers)
  })
})
