/**
 * The runs that this process executes: from a claim to the end of its execution.
 *
 * A run stays here until the commit that ends its claim was answered, so that whatever the store
 * holds for this worker is accounted for by an entry here, or released by reconciliation.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type { LifecycleEvent, RegisteredWorkflow } from "../Engine.ts"
import { bounded, callAgain, callPause } from "../engine/bounded.ts"
import { bodyEnded, cancelled, childrenToCancel, timedOut } from "../engine/endings.ts"
import {
  type ExecutionEnd,
  type ExecutionEnv,
  type ExecutionHandle,
  type ExecutionLimits,
  type ExecutionParts,
} from "../engine/Execution.ts"
import { startExecution } from "../engine/machine.ts"
import type { Outcomes } from "../engine/outcomes.ts"
import { SlotMap } from "../engine/SlotMap.ts"
import { due, sourcesChanged, start } from "../engine/steps.ts"
import { replayed } from "../engine/undoing.ts"
import { encodeError } from "../ErrorPayload.ts"
import type { Journal } from "../Journal.ts"
import type {
  Claim,
  ClaimedRun,
  RunHistory,
  RunSignals,
  RunSources,
  StoreError,
  Transition,
  WorkflowRef,
  WorkflowStore,
} from "../WorkflowStore.ts"
import { RunEnv, type SharedEnv } from "./runEnv.ts"

const parts: ExecutionParts = {
  start,
  due,
  sourcesChanged,
  bodyEnded,
  replayed,
  cancelled,
  timedOut,
}

/**
 * The executing runs of a worker.
 */
export interface Runs {
  readonly size: () => number
  /** A run with two or more crashes is executing here. */
  readonly suspect: () => boolean
  readonly accountsFor: (claim: Claim) => boolean
  readonly claims: () => ReadonlyArray<Claim>
  /** Executes claimed runs; histories are read together. */
  readonly execute: (runs: ReadonlyArray<ClaimedRun>) => void
  readonly onSignals: (
    claims: ReadonlyArray<Claim>,
    signals: ReadonlyArray<RunSignals & { readonly workflowRunId: string }>,
  ) => void
  /** The steps that are executing of a run; `null` where it is not here. */
  readonly executing: (workflowRunId: string) => ReadonlyArray<string> | null
  /** Runs whose sources are to be read; forgets them. */
  readonly takeStale: () => ReadonlyArray<string>
  readonly onSources: (sources: ReadonlyArray<RunSources>) => void
  readonly dropAll: () => void
  /** From now on, every run is handed back at its next safe point. */
  readonly handBackAll: () => void
  /** Hands back what is left, without waiting for its steps. */
  readonly forceHandBackAll: () => void
}

/** A class: see `engine/live.ts`. */
class Entry {
  readonly claim: Claim
  readonly run: ClaimedRun
  /** `null` while its history is being read, and when it has left. */
  handle: ExecutionHandle | null = null
  /** The claim is over for us: an end must not be told twice. */
  ended = false
  handBack: boolean
  /** Its claim is given up by a write of ours that is under way: it must not begin. */
  leaving = false
  /** Asks for signals when the deadline comes. */
  deadline: Fiber.Fiber<void> | null = null

  constructor(claim: Claim, run: ClaimedRun, handBack: boolean) {
    this.claim = claim
    this.run = run
    this.handBack = handBack
  }
}

/**
 * What the runs need from their worker.
 */
export interface RunsOptions {
  readonly store: WorkflowStore["Service"]
  readonly journal: Journal["Service"]
  readonly outcomes: Outcomes
  readonly workflow: (workflow: WorkflowRef) => RegisteredWorkflow | undefined
  readonly limits: ExecutionLimits
  readonly fork: ExecutionEnv["fork"]
  readonly leaseTrusted: () => boolean
  readonly monotonicMs: () => number
  readonly random: () => number
  readonly redact: ExecutionEnv["redact"]
  readonly lifecycle: (event: LifecycleEvent) => void
  /** Signals of runs should be read soon. */
  readonly wantSignals: () => void
  /** Sources of runs should be read soon. */
  readonly wantSources: () => void
  /** A claim may be left that no run accounts for. */
  readonly wantReconcile: () => void
  /** A slot became free. */
  readonly onFreed: () => void
}

/**
 * An empty set of runs.
 */
export const makeRuns = (options: RunsOptions): Runs => {
  const { store, journal, fork } = options
  const entries = new SlotMap<string, Entry>()
  const stale = new Set<string>()
  /** Of workflows whose runs have parked too soon: how long their bodies must have been at rest. */
  const graces = new Map<string, number>()
  let handingBack = false

  const remove = (entry: Entry) => {
    if (entries.get(entry.claim.workflowRunId) === entry) {
      entries.delete(entry.claim.workflowRunId)
    }
    entry.handle = null
    options.onFreed()
  }

  /** Whatever becomes of a call, also where the driver dies: again, while the lease is trusted. */
  const insistently = <A>(call: Effect.Effect<A, unknown>): Effect.Effect<void> =>
    call.pipe(
      Effect.catchDefect(Effect.fail),
      callAgain({ schedule: storeRetry, while: () => options.leaseTrusted() }),
      Effect.ignore,
    )

  /**
   * Wakes a run that parked while its body was still at work: what that work leads to would else wait
   * for the wake of something else, perhaps for ever.
   */
  const wakeAgain = ({ workflowRunId }: Claim) =>
    store
      .wakeRuns({ workflowRunIds: [workflowRunId], endSleeps: false, reason: null })
      .pipe(insistently, Effect.andThen(Effect.sync(() => journal.hints.send("work"))))

  /** What this misses, or dies before, is found by the sweep: `cancelOrphans`. */
  const cancelChildren: ExecutionEnv["cancelChildren"] = (ids) =>
    Effect.forEach(
      ids,
      (workflowRunId) =>
        store
          .requestCancel({ workflowRunId, compensate: null, reason: "its parent ended" })
          .pipe(insistently),
      { discard: true },
    ).pipe(
      Effect.andThen(
        Effect.sync(() => {
          journal.hints.send("work")
          journal.hints.send("signal")
        }),
      ),
    )

  const shared: SharedEnv = {
    ...options,
    wantSourcesOf: (workflowRunId) => {
      stale.add(workflowRunId)
      options.wantSources()
    },
    cancelChildren,
    // pure asynchronous work took longer than we waited: go on with it, and wait longer from now
    parkedTooSoon: (claim, workflow, restedMs) => {
      const waited = Math.max(options.limits.parkGraceMs, graces.get(workflow) ?? 0)
      graces.set(workflow, Math.min(Math.max(restedMs, waited) * 2, maxParkGraceMs))
      fork(wakeAgain(claim))
    },
  }

  /** Gives up a claim whose run does not execute. */
  const leave = (entry: Entry, transition: Transition) => {
    if (entry.ended || entry.leaving) return
    entry.leaving = true
    const gone = () => ended(entry, { _tag: "lost" })
    journal.append(entry.claim, {
      transition,
      onCommitted: gone,
      onLost: gone,
      onRejected: gone,
    })
  }

  /** What breaks before there is an execution would break again, on any worker: ask a person. */
  const begin = (entry: Entry, history: RunHistory | null) => {
    try {
      beginUnsafe(entry, history)
    } catch (error) {
      leave(entry, { _tag: "Pause", error: options.redact(encodeError(error)) })
    }
  }

  const beginUnsafe = (entry: Entry, history: RunHistory | null) => {
    const { run, claim } = entry
    const workflow = options.workflow({ name: run.workflow, version: run.version })
    if (entry.ended || entry.leaving) return
    // unregistered since the claim: another worker may know it
    if (workflow === undefined) return leave(entry, { _tag: "HandBack" })
    const parkGraceMs = Math.max(options.limits.parkGraceMs, graces.get(run.workflow) ?? 0)
    const env = new RunEnv(shared, claim, run, workflow, parkGraceMs)
    // its first claim, which may have a history: of events that came before, or of a fork's origin
    if (claim.token === 1 && !run.compensating) {
      const { workflowRunId, attempt } = run
      const type = "workflow:started"
      options.lifecycle({ workflowRunId, workflow: run.workflow, attempt, type })
    }
    entry.handle = startExecution({
      run,
      history,
      env,
      parts,
      startBody: workflow.startBody,
      onEnd: (end) => ended(entry, end),
    })
    if (entry.handBack || handingBack) entry.handle.requestHandBack()
    watchDeadline(entry)
  }

  /** The store says whether a deadline has passed; our timer only says when to ask. */
  const watchDeadline = (entry: Entry) => {
    const { deadlineAt, compensating } = entry.run
    if (deadlineAt === null || compensating) return
    if (entry.ended) return
    entry.deadline = fork(
      Effect.gen(function* () {
        let pauseMs = 50
        while (!entry.ended) {
          const left = deadlineAt - (entry.handle?.execution.storeNow() ?? deadlineAt)
          yield* Effect.sleep(Math.max(left, pauseMs))
          // late already: whoever acts on it, or cannot yet, was told
          if (left <= 0) pauseMs = Math.min(pauseMs * 2, 5000)
          if (!entry.ended) options.wantSignals()
        }
      }),
    )
  }

  const ended = (entry: Entry, end: ExecutionEnd) => {
    if (entry.ended) return
    entry.ended = true
    entry.deadline?.interruptUnsafe()
    const { run } = entry
    if (end._tag === "compensate") {
      // the same claim goes on, as a replay that undoes
      const undoing = { ...run, compensating: true, error: end.error, hasHistory: true }
      const next = new Entry(entry.claim, undoing, entry.handBack)
      entries.set(run.workflowRunId, next)
      readThenBegin([next])
      return
    }
    if (end._tag === "settled" && entry.handle !== null) {
      const children = childrenToCancel(entry.handle.execution)
      if (children.length > 0) fork(cancelChildren(children))
    }
    try {
      tell(entry, end)
    } finally {
      remove(entry)
    }
  }

  const tell = ({ run }: Entry, end: ExecutionEnd) => {
    const info = {
      workflowRunId: run.workflowRunId,
      workflow: run.workflow,
      attempt: run.attempt,
    }
    if (end._tag === "retrying") {
      const { error } = end
      options.lifecycle({
        ...info,
        type: "workflow:failed",
        status: "pending",
        error,
        willRetry: true,
      })
    }
    if (end._tag !== "settled") return options.outcomes.left(run.workflowRunId)
    const { status, result, error } = end.transition
    options.outcomes.settled(run.workflowRunId, { status, result, error })
    if (run.parent !== null) {
      journal.hints.send("work")
      journal.hints.send("signal")
    }
    if (status === "completed") {
      options.lifecycle({ ...info, type: "workflow:completed", result })
    } else if (status === "compensated") {
      options.lifecycle({ ...info, type: "workflow:compensated", error })
    } else {
      options.lifecycle({ ...info, type: "workflow:failed", status, error, willRetry: false })
    }
  }

  const readThenBegin = (batch: ReadonlyArray<Entry>) => {
    fork(read(batch, defectsForgiven))
  }

  const read = (batch: ReadonlyArray<Entry>, patience: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const open = batch.filter((entry) => !entry.ended && !entry.leaving)
      if (open.length === 0) return Effect.void
      return store.loadHistory(open.map((entry) => entry.claim.workflowRunId)).pipe(
        bounded("loadHistory"),
        callAgain({
          schedule: storeRetry,
          while: (error: StoreError) => error._tag === "StoreUnavailable" && options.leaseTrusted(),
        }),
        Effect.matchCauseEffect({
          onSuccess: (histories) =>
            Effect.sync(() => {
              const byId = new Map(histories.map((one) => [one.workflowRunId, one]))
              for (const entry of open) {
                const history = byId.get(entry.claim.workflowRunId)
                // no row: the run was deleted
                if (history === undefined) ended(entry, { _tag: "lost" })
                else begin(entry, history)
              }
            }),
          onFailure: (cause) => {
            const error = cause.reasons.find(Cause.isFailReason)?.error
            if (error?._tag === "StoreUnavailable") {
              return Effect.sync(() => {
                for (const entry of open) ended(entry, { _tag: "lost" })
                options.wantReconcile()
              })
            }
            // a defect of the store or its driver: perhaps a passing one
            if (error === undefined && patience > 0) {
              return Effect.andThen(callPause(100), read(open, patience - 1))
            }
            if (open.length > 1) {
              return Effect.forEach(open, (entry) => read([entry], 0), { discard: true })
            }
            return Effect.sync(() => {
              for (const entry of open) {
                const defect = options.redact(encodeError(Cause.squash(cause)))
                leave(entry, { _tag: "Pause", error: defect })
              }
            })
          },
        }),
      )
    })

  const drop = (entry: Entry) => {
    try {
      entry.handle?.stopLost()
    } finally {
      // also what waits for an answer of the journal: the claim is not to be trusted
      ended(entry, { _tag: "lost" })
    }
  }

  return {
    size: () => entries.size,
    suspect: () => [...entries.values()].some((entry) => entry.run.crashCount >= 2),
    accountsFor: (claim) => entries.get(claim.workflowRunId)?.claim.token === claim.token,
    claims: () => [...entries.values()].map((entry) => entry.claim),
    execute: (runs) => {
      const withHistory: Array<Entry> = []
      const fresh: Array<Entry> = []
      for (const run of runs) {
        const claim = { workflowRunId: run.workflowRunId, token: run.token }
        const entry = new Entry(claim, run, handingBack)
        const older = entries.get(run.workflowRunId)
        entries.set(run.workflowRunId, entry)
        // a newer claim of the same run: the older one is over
        if (older) drop(older)
        ;(run.hasHistory ? withHistory : fresh).push(entry)
      }
      for (const entry of fresh) begin(entry, null)
      if (withHistory.length > 0) readThenBegin(withHistory)
    },
    onSignals: (claims, signals) => {
      const byId = new Map(signals.map((one) => [one.workflowRunId, one]))
      for (const claim of claims) {
        const entry = entries.get(claim.workflowRunId)
        if (entry === undefined || entry.claim.token !== claim.token || !entry.handle) continue
        const signal = byId.get(claim.workflowRunId)
        if (signal) entry.handle.onSignals(signal)
        else if (entry.handle.execution.mode !== "stopped") drop(entry)
      }
    },
    executing: (workflowRunId) => {
      const entry = entries.get(workflowRunId)
      if (entry === undefined) return null
      const open = [...(entry.handle?.execution.open ?? [])]
      return open.filter((one) => one.running !== null).map((one) => one.key)
    },
    takeStale: () => {
      const ids = [...stale].filter((id) => entries.has(id))
      stale.clear()
      return ids
    },
    onSources: (sources) => {
      for (const one of sources) entries.get(one.workflowRunId)?.handle?.onSources(one)
    },
    dropAll: () => {
      for (const entry of entries.values()) drop(entry)
    },
    handBackAll: () => {
      handingBack = true
      for (const entry of entries.values()) {
        entry.handBack = true
        entry.handle?.requestHandBack()
      }
    },
    forceHandBackAll: () => {
      for (const entry of entries.values()) {
        const { handle } = entry
        if (handle === null) leave(entry, { _tag: "HandBack" })
        else handle.execution.finish({ _tag: "HandBack" }, { _tag: "handed-back" })
      }
    },
  }
}

/** Longer pure work beside an open wait is done again and again, until it happens to be faster. */
const maxParkGraceMs = 60_000

/** How often a read on which the store dies is tried again whole. */
const defectsForgiven = 2

const storeRetry = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("1 second"),
]).pipe(Schedule.jittered)
