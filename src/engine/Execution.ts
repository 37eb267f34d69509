/**
 * The model of an execution: what a run's body, its operations and their outcomes are to each other.
 *
 * The machine that moves it is `machine.ts`; steps, waits, endings and undoing are its parts, and
 * share the state and the verbs of `Execution`.
 */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Attributes } from "../Attributes.ts"
import type { StoredError } from "../ErrorPayload.ts"
import type { PoolTooSmall, TransactionBroken, TransactionUnsupported } from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import type {
  ChildRow,
  ClaimedRun,
  EventRow,
  Isolation,
  RecordWrite,
  RunSignals,
  RunSources,
  RunWrite,
  StepRecord,
  StoreError,
  Transaction,
  Transition,
  WriteAnswer,
} from "../WorkflowStore.ts"
import type { RunningAttempt } from "./attempt.ts"
import type { Operation, Outcome } from "./Operation.ts"
import type { Rest } from "./rest.ts"

/**
 * A part of a run's write, with the way back. `rejected`: the database refuses these very rows.
 */
export interface Fragment extends FragmentParts {
  readonly onCommitted: (answer: Committed) => void
  readonly onRejected?: (error: StoredError) => void
  readonly onLost?: () => void
}

/**
 * What is written of a fragment.
 */
export type FragmentParts = {
  readonly [K in Exclude<keyof RunWrite, "workflowRunId" | "token">]?: RunWrite[K] | undefined
}

/**
 * The answer to a write that stands.
 */
export type Committed = Extract<WriteAnswer, { readonly _tag: "committed" }>

/**
 * How an execution ended. The claim is over, but for `compensate`, where the same claim goes on.
 */
export type ExecutionEnd =
  | { readonly _tag: "settled"; readonly transition: Extract<Transition, { _tag: "Settle" }> }
  | { readonly _tag: "compensate"; readonly error: StoredError }
  | { readonly _tag: "parked"; readonly woken: boolean }
  | { readonly _tag: "handed-back" }
  | { readonly _tag: "retrying"; readonly error: StoredError }
  | { readonly _tag: "paused"; readonly error: StoredError }
  | { readonly _tag: "lost" }

/**
 * How a body ended.
 */
export type BodyEnd =
  | { readonly _tag: "Success"; readonly result: Encoded }
  /** `raw` is what the body failed with, for finding the record that it came from. */
  | { readonly _tag: "Failure"; readonly error: StoredError; readonly raw: unknown }
  /** A stored value could not be read by this code: stop, keep everything, ask a person. */
  | { readonly _tag: "Unreadable"; readonly error: StoredError }

/**
 * The limits and pauses of an execution.
 */
export interface ExecutionLimits {
  /** How long the body may be at rest before an unasked record is a divergence. */
  readonly divergenceGraceMs: number
  /** How long the body must have been at rest before the run parks. */
  readonly parkGraceMs: number
  /** Waits and backoffs up to this stay in memory. */
  readonly shortWaitMs: number
  /** Records of one run. */
  readonly maxRecords: number
  /** Operations open at once in one run. */
  readonly maxFanOut: number
  /** Of all results of one run, in characters of their stored text. */
  readonly maxHistoryBytes: number
  /** How long a failing run waits for its executing steps. */
  readonly drainMs: number
}

/**
 * What `WorkflowStore.transact` is asked for under an execution's claim.
 */
export interface TransactOptions<E> {
  readonly isolation: Isolation | null
  readonly use: (transaction: Transaction) => Effect.Effect<RecordWrite, E>
}

/**
 * What it answers.
 */
export type TransactAnswer<E> = Effect.Effect<
  Exclude<WriteAnswer, { readonly _tag: "busy" }>,
  E | StoreError | TransactionUnsupported | TransactionBroken | PoolTooSmall
>

/**
 * Which endings of a run undo its completed steps.
 */
export interface CompensateOn {
  readonly failure: boolean
  readonly cancel: boolean
  readonly timeout: boolean
}

/**
 * What an execution needs from its process.
 */
export interface ExecutionEnv {
  readonly limits: ExecutionLimits
  /** Runs an effect in the worker's context; the fiber is supervised by the worker. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly append: (fragment: Fragment) => void
  /** Asks the store for this run's signals soon; they come through `onSignals`. */
  readonly refreshSignals: () => void
  /** Asks the store for this run's sources; they come through `onSources`. */
  readonly refreshSources: () => void
  readonly transact: <E>(options: TransactOptions<E>) => TransactAnswer<E>
  readonly transactionOutcome: (
    record: RecordWrite,
  ) => Effect.Effect<Exclude<WriteAnswer, { _tag: "busy" }> | null, StoreError>
  /** Whether completed steps are undone, as the workflow chooses. */
  readonly compensateOn: CompensateOn
  readonly cancelChildren: (workflowRunIds: ReadonlyArray<string>) => Effect.Effect<void>
  /** The run has parked, and its body went on after so long at rest: it was too soon. */
  readonly parkedTooSoon: (restedMs: number) => void
  /** The trust deadline has not passed: asked synchronously before each step body. */
  readonly leaseTrusted: () => boolean
  readonly monotonicMs: () => number
  readonly random: () => number
  readonly newRunId: () => string
  /** What the application keeps out of errors: of its code, before anybody is told of them. */
  readonly redact: (error: StoredError) => StoredError
  readonly hook: (event: ExecutionHook) => void
}

/**
 * What happens inside a run, told to hooks of this process.
 */
export type ExecutionHook =
  | { readonly _tag: "step:started"; readonly stepKey: string; readonly attempt: number }
  | { readonly _tag: "step:completed"; readonly stepKey: string; readonly attempts: number }
  | {
      readonly _tag: "step:failed"
      readonly stepKey: string
      readonly attempts: number
      readonly error: StoredError
      readonly willRetry: boolean
    }
  | { readonly _tag: "compensated"; readonly stepKey: string; readonly failed: boolean }

/**
 * What a body gets back for an operation: the outcome with its place in the order of completion.
 */
export interface Delivered {
  readonly outcome: Outcome
  readonly position: number
}

/**
 * An operation the body has asked for. A class, as all that there is one of for each run or step: see
 * `live.ts`.
 */
export class Issued {
  readonly key: string
  readonly operation: Operation
  readonly resume: (delivered: Delivered) => void
  phase: "unstarted" | "active" | "waiting" | "recorded" | "delivered" = "unstarted"
  /** The branch that asked is gone: a delivery changes nothing. */
  abandoned = false
  attempts = 0
  /** While `waiting`: by the store's clock; `null` waits for a child or an event. */
  wakeAt: number | null = null
  timer: Fiber.Fiber<void> | null = null
  /** Begins what waits for its time: the next try of a step, or an operation that was postponed. */
  again: (() => void) | null = null
  /** Of a step: what is to be written of it in the commit that hands the run back. */
  noteToLeave: (() => RecordWrite | null) | null = null
  /** A note on it is on its way to the store, or stands there since this execution began. */
  noted = false
  /** The try under way, of the step or of its undo. */
  running: RunningAttempt | null = null
  startedAtMs = 0
  /** Deliveries that the body had seen when it asked. */
  readonly afterDeliveries: number
  /** The highest position among them. */
  readonly issuedAfter: number
  /** Asked for by pure asynchronous work, not in the wake of a delivery. */
  readonly spontaneous: boolean

  constructor(
    key: string,
    operation: Operation,
    resume: (delivered: Delivered) => void,
    afterDeliveries: number,
    issuedAfter: number,
    spontaneous: boolean,
  ) {
    this.key = key
    this.operation = operation
    this.resume = resume
    this.afterDeliveries = afterDeliveries
    this.issuedAfter = issuedAfter
    this.spontaneous = spontaneous
  }
}

/**
 * A place in the order of completion, for a record that is on its way by itself.
 */
export interface Reserved {
  readonly record: RecordWrite
  readonly committed: (answer: Extract<WriteAnswer, { readonly _tag: "committed" }>) => void
  /** It is certain that the record will never be. */
  readonly dropped: () => void
}

/**
 * The machine's state and the verbs that its parts (steps, waits, endings) share.
 */
export interface Execution {
  readonly run: ClaimedRun
  readonly env: ExecutionEnv
  readonly rest: Rest
  readonly issued: ReadonlyMap<string, Issued>
  /** Those of them that have not been delivered. */
  readonly open: ReadonlySet<Issued>
  /** All final records known so far, from the history and from this execution. */
  readonly records: Map<string, StepRecord>
  readonly retrying: Map<string, StepRecord>
  readonly timers: Map<string, number>
  /** What stands in `retrying`; asking makes no map. */
  readonly noteOn: (stepKey: string) => StepRecord | undefined
  /** What stands in `timers`. */
  readonly timerOf: (stepKey: string) => number | undefined
  readonly children: Map<string, ChildRow>
  readonly events: Array<EventRow>
  /** Ids of events that records of this execution consume. */
  readonly takenEvents: Set<number>
  /** Errors given to the body, with the position of the record each came from. */
  readonly failures: Map<unknown, number>
  signals: RunSignals
  /** The wake counter as of the newest reading of the sources. */
  sourcesCounter: number
  bodyEnd: BodyEnd | null
  lastFailure: number | null
  /** Time of the last completion delivered to the body: what the body's clock shows. */
  nowForBody: number
  /** Called in mode `ending` whenever a step ended or an answer came. */
  onProgress: (() => void) | null
  /** Steps whose body runs. */
  executing: number
  /** Fragments handed to the journal that have no answer yet. */
  inFlight: number
  /** `ending`: the outcome is decided, executing steps are awaited. */
  mode: "forward" | "compensating" | "ending" | "stopped"
  readonly handBack: () => boolean
  readonly storeNow: () => number
  readonly issue: (operation: Operation, resume: (delivered: Delivered) => void) => Issued | null
  readonly abandon: (issued: Issued) => void
  /** The run is asked to leave: `again` is for the case that the request is withdrawn. */
  readonly postpone: (issued: Issued) => void
  /** Nothing more will come of this operation. */
  readonly forget: (issued: Issued) => void
  readonly record: (
    issued: Issued,
    outcome: Outcome,
    extra?: Partial<Pick<RecordWrite, "eventId">> &
      Pick<Fragment, "emitted" | "children"> & {
        /** With a failure: a step of which it is not known what it did, and which is to be undone. */
        readonly unknown?: boolean
      },
  ) => void
  /**
   * Takes the next place in the order of completion for a record that a transaction commits by
   * itself. Nothing later is delivered before it is known what became of it.
   */
  readonly reserve: (issued: Issued, result: Encoded) => Reserved
  readonly write: (fragment: Fragment) => void
  /** Attributes, and the status text, that the run shows from now on. */
  readonly publish: (values: Attributes) => void
  readonly finish: (transition: Transition, end: ExecutionEnd, with_?: Partial<Fragment>) => void
  /** Something changed: look again what can be delivered, started, parked or concluded. */
  readonly progress: () => void
  readonly stop: (end: ExecutionEnd) => void
  /** The body asked for an operation, or ended, after its execution had stopped. */
  readonly wentOn: () => void
  readonly noteAnswer: (answer: RunSignals & { readonly now?: number }) => void
}

/**
 * What the machine calls in its neighbours, so that each part can be read by itself.
 */
export interface ExecutionParts {
  readonly start: (execution: Execution, issued: Issued) => void
  /** The timer of a waiting operation has run out, by our clock. */
  readonly due: (execution: Execution, issued: Issued) => void
  readonly sourcesChanged: (execution: Execution) => void
  readonly bodyEnded: (execution: Execution, end: BodyEnd) => void
  /** The history is used up and the body is at rest, in a compensating replay. */
  readonly replayed: (execution: Execution) => void
  readonly cancelled: (execution: Execution) => void
  readonly timedOut: (execution: Execution) => void
}

/**
 * What the worker holds of a running execution.
 */
export interface ExecutionHandle {
  readonly execution: Execution
  readonly onSignals: (signals: RunSignals) => void
  readonly onSources: (sources: RunSources) => void
  /** Reach the next safe point, then hand the run back. */
  readonly requestHandBack: () => void
  /** The claim is lost, or not to be trusted: stop at once, write nothing more. */
  readonly stopLost: () => void
}

/** The step is undone also where nobody knows what it did. */
export const undoesUnknown = (operation: Operation): boolean =>
  "undo" in operation && operation.undo?.onUnknown === true

/** A record as the store answers it from now on. */
export const recordOf = (write: RecordWrite, now: number): StepRecord => ({
  ...write,
  carried: false,
  startedAt: null,
  completedAt: write.status === "retrying" ? null : now,
  retryAt: write.retryDelayMs === null ? null : now + write.retryDelayMs,
  revision: write.revision ?? 0,
  heartbeat: write.heartbeat ?? null,
  compensation: null,
})
