/** Runs `exits.ts` as a process of its own. */
import { spawn } from "node:child_process"
import * as path from "node:path"

export const runProgram = (
  ...args: ReadonlyArray<string>
): Promise<{ readonly code: number | null; readonly output: string }> =>
  new Promise((resolve, reject) => {
    const script = path.join(import.meta.dirname, "exits.ts")
    const program = spawn(process.execPath, [script, ...args], {
      env: { ...process.env, NODE_OPTIONS: "", NODE_NO_WARNINGS: "" },
    })
    let output = ""
    const note = (data: Buffer) => {
      output += data.toString()
    }
    program.stdout.on("data", note)
    program.stderr.on("data", note)
    const timer = setTimeout(() => program.kill("SIGKILL"), 25_000)
    program.on("error", reject)
    program.on("close", (code) => {
      clearTimeout(timer)
      resolve({ code, output })
    })
  })
