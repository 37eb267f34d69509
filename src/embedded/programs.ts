/**
 * Starting programs as the server's account: a clean environment, no inherited terminal, and an
 * error that shows what the program said.
 */
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process"
import type { Account } from "./account.ts"
import { EmbeddedPostgresError, systemCode } from "./errors.ts"

/** How to start a program. */
export interface ProgramOptions {
  readonly args: ReadonlyArray<string>
  readonly account: Account | undefined
  /** A folder the account may enter: programs look at their working directory. */
  readonly cwd: string
}

/** `PGPORT` and the like are meant for clients; messages are read here, so they are in English. */
function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG|TZ$)/.test(name))
  return { ...Object.fromEntries(kept), LC_ALL: "C" }
}

/** Starts a program in a session of its own: Ctrl-C in the terminal is for us to handle. */
export function start(file: string, options: ProgramOptions, stdio: StdioOptions): ChildProcess {
  return spawn(file, options.args, {
    cwd: options.cwd,
    env: environment(),
    stdio,
    detached: process.platform !== "win32",
    windowsHide: true,
    ...(options.account && { uid: options.account.uid, gid: options.account.gid }),
  })
}

/** Runs a program to its end. */
export function run(file: string, options: ProgramOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = start(file, options, ["ignore", "pipe", "pipe"])
    let said = ""
    const listen = (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000)
    }
    child.stdout?.on("data", listen)
    child.stderr?.on("data", listen)
    child.once("error", (error) => reject(notRunnable(file, error)))
    child.once("close", (code, signal) => {
      if (code === 0) resolve()
      else reject(failed(file, `ended with ${signal ?? `code ${code}`}:\n${said.trim()}`))
    })
  })
}

/** The program could not even be started. */
export function notRunnable(file: string, error: unknown): EmbeddedPostgresError {
  const hint =
    systemCode(error) === "ENOENT"
      ? " (the binaries need glibc: on Alpine, use a Postgres server of your own)"
      : ""
  return failed(file, `cannot be run: ${String(error)}${hint}`)
}

const failed = (file: string, what: string) =>
  new EmbeddedPostgresError({ reason: "StartFailed", detail: `${file} ${what}` })
