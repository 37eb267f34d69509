/**
 * The store as a process sees it: behind a network that takes time, loses, repeats and reorders.
 *
 * A call travels, is applied at one instant, by the store's clock, and its answer travels back. What
 * was sent is applied also when its sender died meanwhile, or gave up. The answer goes to the
 * process that sent the call: a frozen one reads it when it is thawed, a dead one never.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import { bounded } from "../../src/engine/bounded.ts"
import { StoreRejected, StoreUnavailable } from "../../src/FlowlyError.ts"
import type * as MemoryStore from "../../src/MemoryStore.ts"
import type {
  Claim,
  Hint,
  RecordWrite,
  RunWrite,
  Transaction,
  WorkflowStore,
  WriteAnswer,
} from "../../src/WorkflowStore.ts"
import type { Dice } from "../support/dice.ts"
import { type CallFault, callFaults, type Faults, type Options } from "./faults.ts"
import { epoch, type Machine, type Process } from "./machine.ts"
import type { SinkClient, SinkRow } from "./ledger.ts"
import { poison } from "./watched.ts"
import type { Timeline } from "./timeline.ts"

/** One call, when it was applied. */
export interface Applied {
  readonly verb: string
  readonly args: ReadonlyArray<unknown>
  readonly process: Process
  readonly exit: Exit.Exit<unknown, unknown>
  readonly at: number
}

/** Reads alone: nothing to observe. */
const reads: ReadonlySet<string> = new Set([
  "loadHistory",
  "loadSources",
  "readSignals",
  "getRuns",
  "listRuns",
  "getSteps",
  "getEvents",
  "tailEvents",
  "countRuns",
  "findToken",
  "getControls",
  "getSituation",
  "begin",
  "transactionOutcome",
  "listSchedules",
  "dueSchedules",
  "now",
  "verify",
  "migrate",
])

/** Between verbs that nobody sends a second time by himself. */
const neverTwice: ReadonlySet<string> = new Set(["resumeRun", "retryRun", "transact", "begin"])

/** What is asked again and again, and mostly in vain. */
const idle: ReadonlySet<string> = new Set([
  "sweep",
  "renewLease",
  "readSignals",
  "dueSchedules",
  "deadLetterPoison",
  "cancelOrphans",
  "getRuns",
  "loadHistory",
  "verify",
  "migrate",
  "begin",
])

const neverLate: ReadonlySet<string> = new Set(["upsertSchedule", "removeSchedule"])
const lasting: ReadonlySet<CallFault> = new Set(["lateApply", "twice", "slow"])

interface Listener {
  readonly process: Process
  readonly queue: Queue.Queue<Hint>
}

export class Network {
  /** Calls of these processes are neither applied nor answered. */
  readonly cut = new Set<Process>()
  /** Calls of these processes fail, each as it happens to. */
  readonly storm = new Set<Process>()
  hintsLost = false
  /** How often the driver of a process has died. */
  readonly deaths = new Map<Process, number>()
  readonly handle: MemoryStore.Handle
  readonly #machine: Machine
  readonly #faults: Faults
  readonly #options: Options
  readonly #timeline: Timeline
  readonly #dice: Dice
  readonly #listeners = new Set<Listener>()
  readonly #onApplied: (applied: Applied) => void
  readonly #storeClock: Clock.Clock
  readonly #sink: Array<SinkRow>

  constructor(given: {
    readonly handle: MemoryStore.Handle
    /** What transactions that were committed have written. */
    readonly sink: Array<SinkRow>
    readonly machine: Machine
    readonly faults: Faults
    readonly options: Options
    readonly timeline: Timeline
    readonly onApplied: (applied: Applied) => void
  }) {
    this.handle = given.handle
    this.#sink = given.sink
    this.#machine = given.machine
    this.#faults = given.faults
    this.#options = given.options
    this.#timeline = given.timeline
    this.#onApplied = given.onApplied
    this.#dice = given.machine.dice.fork()
    this.#storeClock = storeClockOf(given.machine)
  }

  /** Reads or writes the store itself, at once. */
  direct<A, E>(effect: Effect.Effect<A, E>): A {
    return Effect.runSync(Effect.provideService(effect, Clock.Clock, this.#storeClock))
  }

  /** Changes the store at once, as a person at its console would; it is observed. */
  atOnce(verb: string, effect: Effect.Effect<unknown, unknown>): void {
    this.#apply(this.#machine.nature, verb, [], effect)
  }

  /** The store, for the calls of one process. */
  clientOf(process: Process): WorkflowStore["Service"] {
    const { store } = this.handle
    const verbs = Object.entries(store).map(([name, verb]: [string, unknown]) => {
      // few runs, and yet two commits of a process at once
      if (name === "overlap") return [name, { commits: 2, from: 2 }]
      if (name === "listen") return [name, this.#listen(process)]
      if (name === "notify") return [name, (hints: ReadonlyArray<Hint>) => this.#notify(hints)]
      if (name === "callersTransaction" || name === "joinTransaction") return [name, verb]
      if (name === "transact") return [name, this.#transact(process)]
      if (Effect.isEffect(verb)) return [name, this.#call(process, name, [], verb as never)]
      if (typeof verb !== "function") return [name, verb]
      return [
        name,
        (...args: Array<unknown>) => {
          const sent = structuredClone(args)
          return this.#call(
            process,
            name,
            sent,
            Effect.suspend(() => verb(...sent)),
          )
        },
      ]
    })
    return Object.fromEntries(verbs) as WorkflowStore["Service"]
  }

  // --- transactions ------------------------------------------------------------

  /**
   * A transaction: it is opened, the step's code runs in its own process, and what that wrote appears
   * with its record, in one commit, or never. A commit is not applied twice, nor behind an answer: the
   * session that it was sent in would still be there.
   */
  #transact(process: Process) {
    return <E>(options: {
      readonly claim: Claim
      readonly use: (transaction: Transaction) => Effect.Effect<RecordWrite, E>
    }) => {
      const { claim, use } = options
      const written: Array<SinkRow> = []
      const client: SinkClient = { write: (row) => void written.push(row) }
      const notApplied = (error: unknown) =>
        error instanceof StoreUnavailable
          ? new StoreUnavailable({ operation: "transact", outcome: "not-applied", reason: "begin" })
          : error
      const begin = this.#call(process, "begin", [], Effect.void).pipe(
        (call) => bounded("transact")(call as Effect.Effect<void>),
        Effect.mapError(notApplied),
      )
      const commit = (record: RecordWrite) => {
        const sent = structuredClone({ claim, record })
        const effect = Effect.suspend(() =>
          this.#commitTransaction(sent.claim, sent.record, written),
        )
        const call = this.#call(process, "transact", [sent.claim, sent.record], effect)
        return Effect.uninterruptible(bounded("transact")(call as Effect.Effect<WriteAnswer>))
      }
      return Effect.flatMap(begin, () =>
        Effect.flatMap(use({ client, sql: client as never, faultOf: () => null }), commit),
      )
    }
  }

  #commitTransaction(claim: Claim, record: RecordWrite, written: ReadonlyArray<SinkRow>) {
    const { store } = this.handle
    const standing = this.direct(store.getSteps(claim.workflowRunId)).find(
      ({ stepKey }) => stepKey === record.stepKey,
    )
    const use = () => Effect.succeed(record)
    return Effect.tap(store.transact({ claim, isolation: null, use }), (answer) =>
      Effect.sync(() => {
        const isNew = standing === undefined || standing.status === "retrying"
        if (answer._tag === "committed" && isNew) this.#sink.push(...written)
      }),
    )
  }

  // --- calls -----------------------------------------------------------------

  #call(
    process: Process,
    verb: string,
    args: ReadonlyArray<unknown>,
    effect: Effect.Effect<unknown, unknown>,
  ): Effect.Effect<unknown, unknown> {
    return Effect.callback<unknown, unknown>((resume) => {
      const machine = this.#machine
      let gaveUp = false
      const fault = this.cut.has(process) ? null : this.#faultOf(process, verb)
      if (fault !== null) this.#timeline.add(process, `${verb} ${fault}`)
      const oneWay = () =>
        fault === "slow"
          ? this.#dice.roll() * Math.min(this.#options.leaseMs, 8000)
          : this.#dice.roll() * this.#options.latencyMs
      const wayBack = () =>
        verb === "loadSources" && this.#faults.on
          ? this.#dice.roll() * this.#options.sourcesMs
          : oneWay()
      const answer = (exit: Exit.Exit<unknown, unknown>) =>
        machine.after(machine.nature, wayBack(), () => {
          if (this.cut.has(process)) return
          // what waits for it is a fiber of that process
          machine.task(process, () => {
            if (!gaveUp) resume(exit)
          })
        })
      const apply = () => this.#apply(process, verb, args, effect)
      const unavailable = (outcome: "unknown" | "not-applied") =>
        answer(
          Exit.fail(new StoreUnavailable({ operation: verb, outcome, reason: `fault ${fault}` })),
        )
      machine.after(machine.nature, oneWay(), () => {
        if (this.cut.has(process)) return
        switch (fault) {
          case null:
          case "slow":
            return answer(apply())
          case "failBefore":
            return unavailable("not-applied")
          case "dropped":
            return unavailable("unknown")
          case "failAfter":
            apply()
            return unavailable("unknown")
          case "lateApply":
            machine.after(machine.nature, this.#dice.roll() * this.#options.leaseMs * 2, apply)
            return unavailable("unknown")
          case "twice":
            machine.after(machine.nature, this.#dice.roll() * 2000, apply)
            return answer(apply())
          case "hang":
            if (this.#dice.chance(0.5)) apply()
            return
          case "defect":
            this.deaths.set(process, (this.deaths.get(process) ?? 0) + 1)
            if (this.#dice.chance(0.5)) apply()
            return answer(Exit.die(new Error("the driver broke")))
          case "busy":
            return answer(this.#applySome(process, verb, args))
        }
      })
      return Effect.sync(() => {
        gaveUp = true
      })
    })
  }

  #faultOf(process: Process, verb: string): CallFault | null {
    if (this.storm.has(process) && this.#faults.on) {
      return this.#dice.pick(["failBefore", "dropped", "failAfter"] as const)
    }
    let roll = this.#dice.roll()
    // most calls only look whether there is something to do
    const weight = this.#matters(verb) ? 5 : 1
    for (const kind of callFaults) {
      const rate = Math.min(weight * (this.#options.calls[kind] ?? 0), 0.2)
      if (roll >= rate) {
        roll -= rate
        continue
      }
      if (kind === "busy" && verb !== "commit") return null
      if (kind === "twice" && neverTwice.has(verb)) return null
      if (kind === "lateApply" && verb === "transact") return null
      // one that comes behind the removal of its schedule would be for ever
      if (neverLate.has(verb) && lasting.has(kind)) return null
      return this.#faults.take(kind) ? kind : null
    }
    return null
  }

  #matters(verb: string): boolean {
    if (verb !== "claimRuns") return !idle.has(verb)
    const now = this.#storeClock.currentTimeMillisUnsafe()
    const { runs } = this.handle.inspect()
    return runs.some(({ workerId, dueAt }) => workerId === null && dueAt !== null && dueAt <= now)
  }

  #apply(
    process: Process,
    verb: string,
    args: ReadonlyArray<unknown>,
    effect: Effect.Effect<unknown, unknown>,
  ): Exit.Exit<unknown, unknown> {
    const refusal = refusalOf(verb, args)
    if (refusal !== null) {
      this.#timeline.add(process, `${verb} refused`)
      return Exit.fail(refusal)
    }
    const exit = Effect.runSyncExit(
      Effect.provideService(effect, Clock.Clock, this.#storeClock),
    ) as Exit.Exit<unknown, unknown>
    if (!reads.has(verb)) {
      this.#onApplied({ verb, args, process, exit, at: this.#machine.now })
    }
    return exit
  }

  /** A commit, some rows of which are locked by somebody else. */
  #applySome(
    process: Process,
    verb: string,
    args: ReadonlyArray<unknown>,
  ): Exit.Exit<unknown, unknown> {
    const writes = args[0] as ReadonlyArray<RunWrite>
    const free = writes.filter(() => this.#dice.chance(0.4))
    const exit = this.#apply(process, verb, [free], this.handle.store.commit(free))
    if (!Exit.isSuccess(exit)) return exit
    const given = new Map(
      (exit.value as ReadonlyArray<WriteAnswer>).map((one, i) => [free[i], one]),
    )
    const rows = new Map(this.handle.inspect().runs.map((row) => [row.workflowRunId, row]))
    return Exit.succeed(
      writes.map((write): WriteAnswer => {
        const { workflowRunId } = write
        const ours = rows.get(workflowRunId)?.token === write.token
        return given.get(write) ?? { _tag: ours ? "busy" : "lost", workflowRunId }
      }),
    )
  }

  // --- hints -----------------------------------------------------------------

  #notify(hints: ReadonlyArray<Hint>): Effect.Effect<void> {
    return Effect.sync(() => {
      const machine = this.#machine
      for (const listener of this.#listeners) {
        if (this.hintsLost && this.#faults.on) continue
        machine.after(machine.nature, this.#dice.roll() * this.#options.latencyMs * 2, () => {
          machine.task(listener.process, () => Queue.offerAllUnsafe(listener.queue, hints))
        })
      }
    })
  }

  #listen(process: Process) {
    return Effect.acquireRelease(
      Effect.map(Queue.sliding<Hint>(64), (queue) => {
        const listener = { process, queue }
        this.#listeners.add(listener)
        return listener
      }),
      (listener) =>
        Effect.andThen(
          Effect.sync(() => this.#listeners.delete(listener)),
          Queue.shutdown(listener.queue),
        ),
    ).pipe(Effect.map(({ queue }) => queue))
  }
}

/** Postgres refuses values that it cannot store: the whole statement, whoever shares it. */
const refusalOf = (verb: string, args: ReadonlyArray<unknown>): StoreRejected | null => {
  if (verb !== "commit") return null
  for (const write of args[0] as ReadonlyArray<RunWrite>) {
    if (!write.records.some(({ result }) => result?.json.includes(poison))) continue
    return new StoreRejected({ operation: verb, sqlState: "22P05", reason: "refused" })
  }
  return null
}

const storeClockOf = (machine: Machine): Clock.Clock => {
  const millis = () => Math.floor(epoch + machine.now)
  const nanos = () => BigInt(millis()) * 1_000_000n
  return {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: () => Effect.never,
  }
}
