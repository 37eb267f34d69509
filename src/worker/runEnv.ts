/**
 * What the execution of one claim needs from its worker.
 *
 * An object with methods, not a record of closures: there is one for each run that executes, and all of
 * them share everything but the claim.
 */
import { v7 as uuidv7 } from "uuid"
import type { LifecycleEvent, RegisteredWorkflow } from "../Engine.ts"
import { bounded } from "../engine/bounded.ts"
import type {
  CompensateOn,
  ExecutionEnv,
  ExecutionHook,
  ExecutionLimits,
  Fragment,
  TransactAnswer,
  TransactOptions,
} from "../engine/Execution.ts"
import type { Journal } from "../Journal.ts"
import type { Claim, ClaimedRun, RecordWrite, WorkflowStore } from "../WorkflowStore.ts"

/** What all executions of a worker share. */
export interface SharedEnv {
  readonly store: WorkflowStore["Service"]
  readonly journal: Journal["Service"]
  readonly limits: ExecutionLimits
  readonly fork: ExecutionEnv["fork"]
  readonly leaseTrusted: () => boolean
  readonly monotonicMs: () => number
  readonly random: () => number
  readonly lifecycle: (event: LifecycleEvent) => void
  readonly redact: ExecutionEnv["redact"]
  readonly wantSignals: () => void
  readonly wantSourcesOf: (workflowRunId: string) => void
  readonly cancelChildren: ExecutionEnv["cancelChildren"]
  readonly parkedTooSoon: (claim: Claim, workflow: string, restedMs: number) => void
}

const allEndings: CompensateOn = { failure: true, cancel: true, timeout: true }

export class RunEnv implements ExecutionEnv {
  readonly limits: ExecutionLimits
  readonly compensateOn: CompensateOn
  readonly #shared: SharedEnv
  readonly #claim: Claim
  readonly #run: ClaimedRun

  /** `parkGraceMs`: how long bodies of this workflow must have been at rest before a run parks. */
  constructor(
    shared: SharedEnv,
    claim: Claim,
    run: ClaimedRun,
    workflow: RegisteredWorkflow,
    parkGraceMs: number,
  ) {
    const { limits } = shared
    this.#shared = shared
    this.#claim = claim
    this.#run = run
    this.limits = parkGraceMs === limits.parkGraceMs ? limits : { ...limits, parkGraceMs }
    this.compensateOn = workflow.compensateOn ?? allEndings
  }

  get fork(): ExecutionEnv["fork"] {
    return this.#shared.fork
  }

  append(fragment: Fragment): void {
    this.#shared.journal.append(this.#claim, fragment)
  }

  get refreshSignals(): ExecutionEnv["refreshSignals"] {
    return this.#shared.wantSignals
  }

  refreshSources(): void {
    this.#shared.wantSourcesOf(this.#run.workflowRunId)
  }

  transact<E>(transaction: TransactOptions<E>): TransactAnswer<E> {
    return this.#shared.store.transact({ claim: this.#claim, ...transaction })
  }

  transactionOutcome(record: RecordWrite): ReturnType<ExecutionEnv["transactionOutcome"]> {
    const claim = this.#claim
    return bounded("transactionOutcome")(this.#shared.store.transactionOutcome({ claim, record }))
  }

  get cancelChildren(): ExecutionEnv["cancelChildren"] {
    return this.#shared.cancelChildren
  }

  parkedTooSoon(restedMs: number): void {
    this.#shared.parkedTooSoon(this.#claim, this.#run.workflow, restedMs)
  }

  get leaseTrusted(): ExecutionEnv["leaseTrusted"] {
    return this.#shared.leaseTrusted
  }

  get monotonicMs(): ExecutionEnv["monotonicMs"] {
    return this.#shared.monotonicMs
  }

  get random(): ExecutionEnv["random"] {
    return this.#shared.random
  }

  get redact(): ExecutionEnv["redact"] {
    return this.#shared.redact
  }

  get newRunId(): ExecutionEnv["newRunId"] {
    return uuidv7
  }

  hook(event: ExecutionHook): void {
    const { workflowRunId, workflow, attempt } = this.#run
    this.#shared.lifecycle({ workflowRunId, workflow, attempt, type: "step", event })
  }
}
