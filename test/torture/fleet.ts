/** The worker processes of a scenario: started, frozen, killed by pid, and replaced. */
import { type ChildProcess, spawn } from "node:child_process"
import { tmpdir } from "node:os"
import * as path from "node:path"
import type { Dice } from "../support/dice.ts"
import { withClient } from "../support/provision.ts"
import { noProxy, openProxy, type Proxy } from "./proxy.ts"
import type { FromWorker, ToWorker, Vitals, WorkerConfig } from "./worker.ts"

export type WorkerState = "loaded" | "working" | "frozen" | "dead"

export interface WorkerProcess {
  readonly name: string
  /** The role of its sessions: what it changes can be told from what others do. */
  readonly role: string
  readonly pid: number
  readonly proxy: Proxy
  readonly state: () => WorkerState
  readonly kill: () => void
  readonly freeze: () => void
  readonly thaw: () => void
  readonly vitals: () => Promise<Vitals | null>
  readonly send: (message: ToWorker) => void
  readonly started: Promise<void>
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>
}

export interface FleetOptions {
  readonly url: string
  /** Names of roles begin with it. */
  readonly prefix: string
  readonly dice: Dice
  readonly workload: string
  /** Its bodies tell the witness what they see. Default true. */
  readonly isWatched?: boolean
  readonly worker: WorkerConfig["worker"]
  readonly size: number
  /** Loaded processes that wait to take a dead one's place. */
  readonly spares: number
  readonly tell: (who: string, what: string) => void
  /** Nothing happens on the network: no proxy in between. */
  readonly direct: boolean
  /** Of Node, for its processes. */
  readonly flags: ReadonlyArray<string>
  /** A process ended that nobody had killed. */
  readonly onCrash: (name: string, how: string, stderr: string) => void
  readonly onFailure: (name: string, what: string, message: string) => void
}

/**
 * Compiled code is kept, also of what is compiled only when a worker has started: most of the time that
 * a process needs goes into compiling. Of a processor it takes 1.0 to 1.5 s until it is loaded without,
 * 0.55 s with; then 0.1 s until its engine has started.
 */
const compiled = path.join(tmpdir(), "flowly-torture-compiled")

export class Fleet {
  readonly logs: Array<string> = []
  readonly everyone: Array<WorkerProcess> = []
  readonly #options: FleetOptions
  readonly #spares: Array<Promise<WorkerProcess>> = []
  #named = 0
  #filling = Promise.resolve()
  /** Also those that stand still: they would hear of nothing. */
  readonly #killAll = () => {
    for (const one of this.everyone) one.kill()
  }
  #ending = false

  constructor(options: FleetOptions) {
    this.#options = options
    process.once("exit", this.#killAll)
  }

  /** Those that are at work, frozen ones too. */
  alive(): ReadonlyArray<WorkerProcess> {
    return this.everyone.filter((one) => one.state() === "working" || one.state() === "frozen")
  }

  working(): ReadonlyArray<WorkerProcess> {
    return this.everyone.filter((one) => one.state() === "working")
  }

  /** As many as there should be. */
  fill(): Promise<void> {
    this.#filling = this.#filling.then(() => this.#fill())
    return this.#filling
  }

  async #fill(): Promise<void> {
    const { size, spares } = this.#options
    while (!this.#ending && this.alive().length < size) {
      const next = this.#spares.shift() ?? this.#load()
      const one = await next
      if (this.#ending) return
      one.send({ type: "start" })
    }
    while (!this.#ending && this.#spares.length < spares) this.#spares.push(this.#load())
  }

  /** Asks all to stop; answers those that did not end by themselves within the time. */
  async close(withinMs: number): Promise<ReadonlyArray<string>> {
    this.#ending = true
    const spare = await Promise.all(this.#spares)
    const all = this.everyone.filter((one) => one.state() !== "dead")
    for (const one of all) {
      if (one.state() === "frozen") one.thaw()
      if (spare.includes(one)) one.kill()
      else one.send({ type: "close" })
    }
    const left: Array<string> = []
    await Promise.all(
      all.map(async (one) => {
        const ended = await Promise.race([
          one.exited,
          new Promise<null>((resolve) => setTimeout(() => resolve(null), withinMs)),
        ])
        if (ended === null) left.push(one.name)
        else if (ended.code !== 0 && ended.signal !== "SIGKILL") {
          left.push(`${one.name} (exit code ${ended.code})`)
        }
      }),
    )
    return left
  }

  /** Kills what is left, drops the roles. */
  async end(): Promise<void> {
    this.#ending = true
    process.off("exit", this.#killAll)
    await Promise.allSettled(this.#spares)
    for (const one of this.everyone) one.kill()
    await Promise.all(this.everyone.map(({ exited }) => exited))
    await Promise.all(this.everyone.map(({ proxy }) => proxy.close()))
    await withClient(this.#options.url, async (client) => {
      for (const { role } of this.everyone) await client.query(`drop role if exists ${role}`)
    })
  }

  async #load(): Promise<WorkerProcess> {
    const { url, prefix, dice, tell } = this.#options
    const name = `w${++this.#named}`
    const role = `${prefix}_${name}`
    const driver = dice.chance(0.7) ? "url" : "pool"
    const useNotify = dice.chance(0.5)
    await this.#untilDone(() =>
      withClient(url, (client) =>
        client.query(
          `do $$ begin
            if not exists (select from pg_roles where rolname = '${role}') then
              create role ${role} login superuser password 'torture';
            end if;
          end $$`,
        ),
      ),
    )
    const own = new URL(url)
    own.username = role
    own.password = "torture"
    const proxy = this.#options.direct ? noProxy(own.href) : await openProxy(own.href)
    const config: WorkerConfig = {
      name,
      url: proxy.url,
      witnessUrl: this.#options.isWatched === false ? null : url,
      driver,
      workload: this.#options.workload,
      worker: { ...this.#options.worker, useNotify },
    }
    const child = spawn(
      process.execPath,
      ["--expose-gc", ...this.#options.flags, path.join(import.meta.dirname, "worker.ts")],
      {
        stdio: ["ignore", "ignore", "pipe", "ipc"],
        env: {
          ...process.env,
          NODE_ENV: "production",
          NODE_COMPILE_CACHE: compiled,
          FLOWLY_TORTURE: JSON.stringify(config),
        },
      },
    )
    tell(name, `is loaded (${driver}${useNotify ? ", listens" : ""})`)
    return this.#watch(child, { name, role, proxy })
  }

  /** The server may be away. */
  async #untilDone(act: () => Promise<unknown>): Promise<void> {
    for (;;) {
      try {
        await act()
        return
      } catch (error) {
        if (this.#ending) throw error
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
  }

  async #watch(
    child: ChildProcess,
    given: Pick<WorkerProcess, "name" | "role" | "proxy">,
  ): Promise<WorkerProcess> {
    const { tell, onCrash, onFailure } = this.#options
    const { name } = given
    let state: WorkerState = "loaded"
    let expected = false
    let stderr = ""
    const waiting: Array<(vitals: Vitals | null) => void> = []
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-4000)
    })
    const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
      child.once("exit", (code, signal) => {
        if (!expected) {
          tell(name, `ended by itself: ${signal ?? code}`)
          onCrash(name, String(signal ?? code), stderr)
        }
        state = "dead"
        for (const answer of waiting) answer(null)
        resolve({ code, signal })
      })
    })
    let loaded: () => void
    let starts: () => void
    const isLoaded = new Promise<void>((resolve) => {
      loaded = resolve
    })
    const started = new Promise<void>((resolve) => {
      starts = resolve
    })
    child.on("message", (message: FromWorker) => {
      if (message.type === "loaded") loaded()
      else if (message.type === "started") {
        tell(name, "is at work")
        starts()
      } else if (message.type === "log") this.logs.push(`${name}: ${message.text}`)
      else if (message.type === "vitals") waiting.shift()?.(message.vitals)
      else if (message.type === "failed") onFailure(name, message.what, message.message)
    })
    const one: WorkerProcess = {
      ...given,
      pid: child.pid ?? -1,
      started,
      exited,
      state: () => state,
      kill: () => {
        expected = true
        if (state !== "dead") child.kill("SIGKILL")
        state = "dead"
      },
      freeze: () => {
        if (state === "working" && child.kill("SIGSTOP")) state = "frozen"
      },
      thaw: () => {
        if (state === "frozen" && child.kill("SIGCONT")) state = "working"
      },
      vitals: () =>
        new Promise((resolve) => {
          if (state !== "working") return resolve(null)
          waiting.push(resolve)
          child.send({ type: "vitals" } satisfies ToWorker)
        }),
      send: (message) => {
        if (message.type === "start") state = "working"
        if (message.type === "close") expected = true
        if (child.connected) child.send(message, () => undefined)
      },
    }
    this.everyone.push(one)
    await Promise.race([isLoaded, exited])
    return one
  }
}
