/**
 * The life of one embedded server: start it, notice when it is ready, stop it, and never let it
 * outlive the process that started it.
 *
 * Two processes may want the same data directory. Postgres' own lock file decides who starts the
 * server; the other finds it running and shares it. A server whose starter is dead is stopped and
 * replaced, so that settings, port and lifetime are again those of a living process.
 */
import type { ChildProcess } from "node:child_process"
import { createServer } from "node:net"
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import { setTimeout as delay } from "node:timers/promises"
import type { Account } from "./account.ts"
import type { Binaries } from "./binaries.ts"
import { type DataDirectory, discard } from "./dataDirectory.ts"
import { EmbeddedPostgresError, systemCode } from "./errors.ts"
import { findPostmaster, isAlive, lastStart, OWNER_SETTING } from "./postmaster.ts"
import { notRunnable, start } from "./programs.ts"
import { guard } from "./guard.ts"

/** Recovery after a crash reads the log since the last checkpoint: seconds, rarely more. */
const START_DEADLINE_MS = 60_000
/** Fast shutdown writes one checkpoint; then immediate shutdown; then the operating system. */
const FAST_DEADLINE_MS = 20_000
const IMMEDIATE_DEADLINE_MS = 5_000
const LOOK_AGAIN_MS = 20
const LOG_LIMIT_BYTES = 4 * 1024 * 1024
/** The server's account owns the folder, and we may be root: a link there is not followed. */
const APPEND =
  constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | (constants.O_NOFOLLOW ?? 0)

/** What to start, on which folder, as whom. */
export interface ServerPlan {
  readonly binaries: Binaries
  readonly account: Account | undefined
  readonly data: DataDirectory
  readonly port: number | undefined
  readonly settings: Readonly<Record<string, string>>
}

/** A server that accepts connections. */
export interface RunningServer {
  readonly pid: number
  readonly port: number
  /** False when another living process started it: then `stop` leaves it alone. */
  readonly owned: boolean
  readonly stop: () => Promise<void>
}

/** Starts the server, or joins the one that runs on the same data directory. */
export async function startServer(plan: ServerPlan): Promise<RunningServer> {
  const deadline = Date.now() + START_DEADLINE_MS
  let port = plan.port
  for (;;) {
    const joined = await join(plan, deadline)
    if (joined !== undefined) return joined
    port ??= await choosePort(plan.data.cluster)
    const outcome = await launch(plan, port, deadline)
    if (typeof outcome !== "string") return outcome
    if (Date.now() > deadline) throw startFailed(outcome)
    if (/could not bind|Address already in use/i.test(outcome)) {
      if (plan.port !== undefined) throw portInUse(plan.port)
      port = await freePort() // somebody took it between the choice and the use
    } else if (/pre-existing shared memory/.test(outcome)) {
      await delay(100) // the sessions of a killed server are still leaving
    } else if (!/lock file "postmaster.pid"/.test(outcome)) {
      throw startFailed(outcome)
    }
  }
}

/** The server of another process, once it is ready. An orphan is stopped instead. */
async function join(plan: ServerPlan, deadline: number): Promise<RunningServer | undefined> {
  for (;;) {
    const found = await findPostmaster(plan.data.cluster)
    if (found === undefined) return undefined
    if (found.owner === undefined || !isAlive(found.owner)) {
      await stopProcess(found.pid, () => hasLeft(found.pid, plan.data.cluster))
    } else if (found.ready) {
      if (plan.port !== undefined && plan.port !== found.port) throw otherPort(plan, found.port)
      return { pid: found.pid, port: found.port, owned: false, stop: async () => {} }
    }
    if (Date.now() > deadline) {
      throw startFailed(`process ${found.pid} holds ${plan.data.cluster} and does not get ready`)
    }
    await delay(LOOK_AGAIN_MS)
  }
}

/** Its pid file is gone, or names another. (Alive it may look: nobody waits for an orphan.) */
const hasLeft = async (pid: number, cluster: string) => (await findPostmaster(cluster))?.pid !== pid

/** Starts the server. A string is what it said before it gave up. */
async function launch(
  plan: ServerPlan,
  port: number,
  deadline: number,
): Promise<RunningServer | string> {
  const { data, binaries, account } = plan
  const { log, offset } = await openLog(data.log)
  const settings = { ...defaults(port), ...plan.settings }
  const args = ["-D", data.cluster]
  for (const [name, value] of Object.entries(settings)) args.push("-c", `${name}=${value}`)
  const child = start(binaries.postgres, { args, account, cwd: data.root }, [
    "ignore",
    log.fd,
    log.fd,
  ])
  await log.close() // after spawn has handed it on
  const ended = watch(child)
  const pid = child.pid
  if (pid === undefined) throw notRunnable(binaries.postgres, await ended.error)
  const release = guard({ child, plan })
  while (!ended.done && Date.now() < deadline) {
    const found = await findPostmaster(data.cluster)
    if (found?.pid === pid && found.ready) {
      child.unref()
      const stop = once(async () => {
        child.ref()
        await stopProcess(pid, () => ended.done)
        release()
        await discard(data)
      })
      return { pid, port, owned: true, stop }
    }
    await delay(LOOK_AGAIN_MS)
  }
  await stopProcess(pid, () => ended.done)
  release()
  return readFrom(data.log, offset)
}

const defaults = (port: number): Record<string, string> => ({
  port: String(port),
  listen_addresses: "127.0.0.1",
  // No socket file: its path may not exceed 107 characters, and nobody needs it.
  unix_socket_directories: "",
  timezone: "UTC",
  log_timezone: "UTC",
  [OWNER_SETTING]: String(process.pid),
})

interface Ended {
  done: boolean
  readonly error: Promise<unknown>
}

function watch(child: ChildProcess): Ended {
  const ended: { done: boolean; error: Promise<unknown> } = {
    done: false,
    error: new Promise((resolve) => child.once("error", resolve)),
  }
  child.once("exit", () => {
    ended.done = true
  })
  return ended
}

/** Fast shutdown, then immediate, then kill, each with a deadline. */
async function stopProcess(pid: number, hasEnded: () => boolean | Promise<boolean>): Promise<void> {
  const steps: ReadonlyArray<readonly [NodeJS.Signals, number]> = [
    ["SIGINT", FAST_DEADLINE_MS],
    ["SIGQUIT", IMMEDIATE_DEADLINE_MS],
    ["SIGKILL", IMMEDIATE_DEADLINE_MS],
  ]
  for (const [signal, limit] of steps) {
    if (await hasEnded()) return
    signalServer(pid, signal)
    const until = Date.now() + limit
    while (!(await hasEnded()) && Date.now() < until) await delay(LOOK_AGAIN_MS)
  }
  if (!(await hasEnded())) {
    throw new EmbeddedPostgresError({
      reason: "StopFailed",
      detail: `process ${pid} does not stop`,
    })
  }
}

function signalServer(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (systemCode(error) === "ESRCH") return
    throw new EmbeddedPostgresError({
      reason: "StopFailed",
      detail: `process ${pid} belongs to somebody else (${String(error)}): stop it there`,
    })
  }
}

/** The port of the last start, so that an address stays good, if nobody took it since. */
async function choosePort(cluster: string): Promise<number> {
  const { port } = await lastStart(cluster)
  return port === undefined ? freePort() : freePort(port).catch(() => freePort())
}

/** A port on which nobody listens now; `wanted`, or a rejection. */
function freePort(wanted = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen({ host: "127.0.0.1", port: wanted, exclusive: true }, () => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : wanted
      server.close(() => resolve(port))
    })
  })
}

async function openLog(file: string) {
  const size = await fs.stat(file).then(
    (stat) => stat.size,
    () => 0,
  )
  if (size > LOG_LIMIT_BYTES) await fs.truncate(file)
  const log = await fs.open(file, APPEND, 0o600)
  return { log, offset: (await log.stat()).size }
}

async function readFrom(file: string, offset: number): Promise<string> {
  const text = await fs.readFile(file)
  return text.subarray(offset).toString("utf8").slice(-4000).trim()
}

function once(action: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined
  return () => (result ??= action())
}

const startFailed = (said: string) =>
  new EmbeddedPostgresError({ reason: "StartFailed", detail: `the server did not start:\n${said}` })

const portInUse = (port: number) =>
  new EmbeddedPostgresError({
    reason: "PortInUse",
    detail: `port ${port} is in use: choose another, or leave the choice to us`,
  })

const otherPort = (plan: ServerPlan, port: number) =>
  new EmbeddedPostgresError({
    reason: "PortInUse",
    detail:
      `another process serves ${plan.data.root} on port ${port}, not on ${plan.port}: ` +
      `ask for that port or none, or stop it`,
  })
