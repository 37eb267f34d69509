/**
 * Real processes for tests: started, told, frozen and killed by pid; and what they left in the
 * database, as a test asks for it.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as net from "node:net"
import * as path from "node:path"
import pg from "pg"
import { DurableEngine, type DurableEngineOptions } from "../../src/index.ts"
import type { TestDatabase } from "../support/provision.ts"
import { type LedgerRow, witnessTables } from "./witness.ts"
import { makeWorkflows, pause, type Workflows } from "./workflows.ts"

/** How a worker process is set up. */
export interface ProcessConfig {
  readonly url: string
  /** Where the witness writes, if not where the engine does. */
  readonly witnessUrl?: string
  readonly schema: string
  readonly driver?: "url" | "pool"
  /** Names of the workflows it knows. Default: all. */
  readonly workflows?: ReadonlyArray<string>
  readonly worker?: DurableEngineOptions["worker"]
  /** The point at which it kills itself. */
  readonly dieAt?: string | undefined
  /** The point at which a step's body, or an undo, stands still for ever. */
  readonly haltAt?: string | undefined
  /** Starts its engine without being told. */
  readonly startNow?: boolean
  /** Does not tell which points it passes. */
  readonly quiet?: boolean
  /** Does not end when its parent lets go of it. */
  readonly outlives?: boolean
}

export interface Call {
  readonly id: number
  readonly method:
    | "start"
    | "stop"
    | "stop twice"
    | "migrate"
    | "health"
    | "schedule"
    | "trigger order"
    | "trigger flaky"
    /** Stops the engine, closes everything, and ends by itself. */
    | "close"
  readonly args: ReadonlyArray<unknown>
}

export type FromWorker =
  | { readonly type: "ready" }
  | { readonly type: "passed"; readonly point: string; readonly run: string }
  | { readonly type: "log"; readonly level: string; readonly message: string }
  | {
      readonly type: "answer"
      readonly id: number
      readonly ok: boolean
      readonly value: unknown
    }

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** A process that was started by a test. */
export interface Process {
  readonly pid: number
  readonly exited: Promise<Exit>
  /** Waits for its end, which must come soon. */
  readonly exit: () => Promise<Exit>
  readonly hasExited: () => boolean
  /** Resolves when the point is passed, or was. */
  readonly passed: (point: string) => Promise<void>
  readonly logs: ReadonlyArray<string>
  readonly call: (method: Call["method"], ...args: ReadonlyArray<unknown>) => Promise<unknown>
  readonly signal: (signal: NodeJS.Signals) => void
}

const patience = 60_000

/** Waits until the condition holds. */
export const until = async (
  what: string,
  condition: () => Promise<boolean> | boolean,
  milliseconds = patience,
): Promise<void> => {
  const deadline = performance.now() + milliseconds
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`)
    await pause(20)
  }
}

/** The value, or an error that names what did not come. */
export const within = async <A>(what: string, promise: Promise<A>, ms = patience): Promise<A> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Processes of one test; `end` kills what is left of them. */
class Processes {
  readonly #all = new Set<{ readonly child: ChildProcess; readonly exited: Promise<Exit> }>()

  /** Starts a process; resolves when its modules are loaded. */
  async spawn(config: ProcessConfig, options: SpawnOptions = {}): Promise<Process> {
    const here = import.meta.dirname
    const preload = options.preload ? ["--import", path.join(here, options.preload)] : []
    const child = spawn(
      process.execPath,
      [...preload, path.join(here, options.script ?? "worker.ts")],
      {
        stdio: ["ignore", "inherit", "pipe", "ipc"],
        env: { ...process.env, ...options.env, FLOWLY_PROCESS: JSON.stringify(config) },
      },
    )
    let gone = false
    let stderr = ""
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-4000)
    })
    const exited = new Promise<Exit>((resolve) => {
      child.once("exit", (code, signal) => {
        gone = true
        resolve({ code, signal })
      })
    })
    const entry = { child, exited }
    this.#all.add(entry)
    void exited.then(() => this.#all.delete(entry))

    const points = new Set<string>()
    const logs: Array<string> = []
    const waiting = new Set<() => void>()
    const answers = new Map<number, (message: FromWorker & { type: "answer" }) => void>()
    let isReady = false
    let nextCall = 1
    child.on("message", (message: FromWorker) => {
      if (message.type === "ready") isReady = true
      else if (message.type === "passed") points.add(message.point)
      else if (message.type === "log") logs.push(`${message.level}: ${message.message}`)
      else answers.get(message.id)?.(message)
      for (const look of waiting) look()
    })
    void exited.then(() => waiting.forEach((look) => look()))

    const state = () =>
      `${gone ? "it is gone" : "it lives"}; ${logs.slice(-5).join(" | ")} ${stderr}`
    /** Looks again at each message, and at the exit. */
    const when = (what: string, holds: () => boolean): Promise<void> =>
      within(
        `${what} of process ${child.pid}`,
        new Promise<void>((resolve, reject) => {
          const look = () => {
            if (!holds() && !gone) return
            waiting.delete(look)
            if (holds()) resolve()
            else reject(new Error(`process ${child.pid} ended before: ${what}; ${state()}`))
          }
          waiting.add(look)
          look()
        }),
      )
    await when("being ready", () => isReady)
    return {
      pid: child.pid ?? -1,
      exited,
      exit: () => within(`the end of process ${child.pid}`, exited),
      hasExited: () => gone,
      logs,
      passed: (point) => when(`passing "${point}"`, () => points.has(point)),
      signal: (signal) => {
        if (!gone) child.kill(signal)
      },
      call: async (method, ...args) => {
        const id = nextCall++
        let answer: (FromWorker & { type: "answer" }) | undefined
        answers.set(id, (message) => {
          answer = message
        })
        child.send({ id, method, args } satisfies Call)
        await when(`the answer to ${method}`, () => answer !== undefined)
        answers.delete(id)
        if (answer?.ok) return answer.value
        const { code, message } = (answer?.value ?? {}) as { code?: string; message?: string }
        throw Object.assign(new Error(message), { code })
      },
    }
  }

  /** Kills what is left. */
  async end(): Promise<void> {
    const left = [...this.#all]
    for (const { child } of left) child.kill("SIGKILL")
    await Promise.all(left.map(({ exited }) => exited))
  }
}

/** How a process is started, beside its configuration. */
interface SpawnOptions {
  /** Default: `worker.ts`. */
  readonly script?: string
  /** A module to load before it. */
  readonly preload?: string
  readonly env?: Readonly<Record<string, string>>
}

interface PlaceOptions {
  /** As of the engine. */
  readonly prepare?: boolean
}

/**
 * A database with a witness, an engine that triggers and asks, but executes nothing, and the worker
 * processes of a test, which end with it.
 */
export class Place {
  readonly url: string
  readonly schema: string
  readonly workflows: Workflows
  readonly engine: DurableEngine
  readonly pool: pg.Pool
  readonly #witness: TestDatabase
  readonly #processes = new Processes()

  private constructor(witness: TestDatabase, url: string, options: PlaceOptions) {
    const schema = "durable_workflow"
    this.url = url
    this.schema = schema
    this.#witness = witness
    const nothing = {
      note: async () => 0,
      seen: async () => undefined,
      close: async () => undefined,
    }
    this.workflows = makeWorkflows({ witness: nothing, pass: async () => undefined })
    this.engine = new DurableEngine({
      url,
      schema,
      prepare: options.prepare,
      workflows: Object.values(this.workflows),
      worker: { pollIntervalMs: 100 },
    })
    this.pool = new pg.Pool({ connectionString: witness.url, max: 4 })
    this.pool.on("error", () => undefined)
  }

  /** A fresh, migrated database. With a `url` the engine works there, and only the witness here. */
  static async create(url?: string): Promise<Place> {
    // only inside a test is there a server to be found so
    const { createDatabase } = await import("../support/database.ts")
    return Place.on(await createDatabase(), url)
  }

  /** On a database that is the place's from now on. */
  static async on(witness: TestDatabase, url?: string, options: PlaceOptions = {}): Promise<Place> {
    const place = new Place(witness, url ?? witness.url, options)
    await place.pool.query(witnessTables)
    await place.engine.migrate()
    return place
  }

  /** Starts a process on this database; resolves when its modules are loaded. */
  spawn(config: Partial<ProcessConfig> = {}, options: SpawnOptions = {}): Promise<Process> {
    const given = { url: this.url, witnessUrl: this.#witness.url, schema: this.schema }
    return this.#processes.spawn({ ...given, worker: quick, ...config }, options)
  }

  async query<Row extends pg.QueryResultRow>(
    text: string,
    values: ReadonlyArray<unknown> = [],
  ): Promise<ReadonlyArray<Row>> {
    const { rows } = await this.pool.query<Row>(text, [...values])
    return rows
  }

  /** The runs of bodies and undos, in order. */
  ledger(run: string): Promise<ReadonlyArray<LedgerRow>> {
    return this.query<LedgerRow>(
      "select seq::int as seq, run, step, key, pid, at from ledger where run = $1 order by seq",
      [run],
    )
  }

  /** The names in the ledger, in order. */
  async did(run: string): Promise<ReadonlyArray<string>> {
    return (await this.ledger(run)).map(({ step }) => step)
  }

  /** Resolves when the run is in this status. */
  reaches(run: string, status: string): Promise<void> {
    return until(`run ${run} ${status}`, async () => {
      const now = await this.engine.getStatus(run)
      return now?.status === status
    })
  }

  /** Kills its processes, and drops the database. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#processes.end()
    await this.engine.stop()
    await this.pool.end()
    await this.#witness.drop()
  }
}

type Mode = "pass" | "silent" | "closed" | "ending"

const readyForQuery = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])

/** An ErrorResponse of the protocol. */
const terminated = ((): Buffer => {
  const text = "terminating connection due to administrator command"
  const fields = Buffer.from(`SFATAL\0VFATAL\0C57P01\0M${text}\0\0`)
  const head = Buffer.alloc(5, "E")
  head.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
})()

/**
 * A TCP proxy to a server, which may stop answering: "pass", "silent" (accepts and says nothing),
 * "closed" (refuses, and has cut what was open), or "ending" (as when an operator ends each session
 * at once: the news is in the very packet that completes the connection).
 */
export class Proxy {
  readonly url: string
  readonly #server: net.Server
  readonly #target: URL
  readonly #sockets = new Set<net.Socket>()
  #mode: Mode = "pass"

  private constructor(server: net.Server, target: URL) {
    this.#server = server
    this.#target = target
    const own = new URL(target)
    own.hostname = "127.0.0.1"
    own.port = String((server.address() as net.AddressInfo).port)
    this.url = own.href
    server.on("connection", (near) => this.#connect(near))
  }

  static async to(url: string): Promise<Proxy> {
    const server = net.createServer().listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    return new Proxy(server, new URL(url))
  }

  #connect(near: net.Socket): void {
    if (this.#mode === "closed") {
      near.destroy()
      return
    }
    const { hostname, port } = this.#target
    const far = net.connect(Number(port || 5432), hostname)
    const sockets = [near, far] as const
    for (const socket of sockets) {
      this.#sockets.add(socket)
      socket.on("error", () => undefined)
      socket.on("close", () => {
        this.#sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.on("data", (chunk) => {
      if (this.#mode !== "silent") far.write(chunk)
    })
    far.on("data", (chunk: Buffer) => {
      if (this.#mode === "ending" && chunk.subarray(-6).equals(readyForQuery)) {
        near.end(Buffer.concat([chunk, terminated]))
      } else if (this.#mode !== "silent") near.write(chunk)
    })
  }

  /** What was swallowed while silent is lost: connections of that time do not recover. */
  be(mode: Mode): void {
    const wasSilent = this.#mode === "silent"
    this.#mode = mode
    if (mode === "closed" || wasSilent) for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.be("closed")
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** Quick to notice the dead, yet no heartbeat comes too late on a busy machine. */
export const quick = {
  leaseMs: 2500,
  pollIntervalMs: 100,
  maxConcurrent: 5,
  useNotify: false,
} as const
