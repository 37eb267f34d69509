/** The worker processes of the demo: starting them, killing them, and leaving none behind. */
import { fork, type ChildProcess } from "node:child_process"
import * as path from "node:path"
import type { Progress } from "./shop.ts"

export type FromWorker =
  | { readonly type: "ready" }
  | { readonly type: "progress"; readonly progress: Progress }

/** How a process ended. */
export interface End {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface WorkerProcess {
  readonly name: string
  readonly pid: number
  readonly ready: Promise<void>
  readonly ended: Promise<End>
  /** SIGKILL: no handler, no `finally`, no goodbye to the database. */
  readonly kill: () => void
  /** Lets it finish what it is at. */
  readonly stop: () => void
}

const alive = new Set<ChildProcess>()
let isOver = false

export const workersAlive = (): number => alive.size

export function startWorker(options: {
  readonly name: string
  readonly url: string
  readonly onProgress: (progress: Progress) => void
}): WorkerProcess {
  const { name, url } = options
  if (isOver) throw new Error("the demo is over")
  const child = fork(path.join(import.meta.dirname, "worker.ts"), {
    env: { ...process.env, DATABASE_URL: url, WORKER_NAME: name },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  })
  alive.add(child)
  child.on("error", () => {}) // a message to one that was just killed
  const ended = new Promise<End>((resolve) => {
    child.once("exit", (code, signal) => {
      alive.delete(child)
      resolve({ code, signal })
    })
  })
  const ready = new Promise<void>((resolve, reject) => {
    child.on("message", (message: FromWorker) => {
      if (message.type === "ready") resolve()
      else options.onProgress(message.progress)
    })
    void ended.then(({ code, signal }) =>
      reject(new Error(`${name} ended (${signal ?? `code ${code}`}) before it was ready`)),
    )
  })
  ready.catch(() => {}) // who waits for it is told
  return {
    name,
    pid: child.pid ?? 0,
    ready,
    ended,
    kill: () => void child.kill("SIGKILL"),
    stop: () => void child.send("stop"),
  }
}

/** The end of the demo, however it comes. */
export function killAllWorkers(): void {
  isOver = true
  for (const child of alive) child.kill("SIGKILL")
}
