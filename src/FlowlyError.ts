/**
 * The errors of flowly: tagged, schema-backed, each one a statement of what is true and what to do.
 *
 * Every error carries the ids it speaks of and says whether the same call may succeed later
 * (`retryable`). The promise API shows them as one plain class (`FlowlyError`, with `code` = the tag);
 * the Effect API fails with them as they stand here.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A value cannot be stored: a cycle, a function, a symbol, a class instance, a NUL character …
 *
 * @category errors
 * @since 0.1.0
 */
export class SerializationError extends Schema.TaggedError<SerializationError>(
  "flowly/SerializationError",
)("SerializationError", {
  /** What was to be stored: `input`, `result of step "charge"` … */
  field: Schema.String,
  /** Where in the value, `$` for the value itself: `$.items[2].price`. */
  path: Schema.String,
  reason: Schema.String,
}) {
  readonly retryable = false
  override get message() {
    return `the ${this.field} cannot be stored: ${this.reason} (at ${this.path})`
  }
}

/**
 * A value is larger than the limit, in bytes of its stored JSON text.
 *
 * @category errors
 * @since 0.1.0
 */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>("flowly/PayloadTooLarge")(
  "PayloadTooLarge",
  { field: Schema.String, bytes: Schema.Number, limitBytes: Schema.Number },
) {
  readonly retryable = false
  override get message() {
    return (
      `the ${this.field} is ${this.bytes} bytes, more than the limit of ${this.limitBytes}: ` +
      `store the value elsewhere and pass a reference to it`
    )
  }
}

/**
 * A payload codec of the application could not encode a value. Nothing was stored in its place: the
 * call is rejected, or the run paused.
 *
 * @category errors
 * @since 0.1.0
 */
export class PayloadCodecFailed extends Schema.TaggedError<PayloadCodecFailed>(
  "flowly/PayloadCodecFailed",
)("PayloadCodecFailed", { codec: Schema.String, reason: Schema.String }) {
  readonly retryable = false
  override get message() {
    return `the payload codec "${this.codec}" failed to encode a value: ${this.reason}`
  }
}

/**
 * An argument or option is not usable.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>("flowly/InvalidInput")(
  "InvalidInput",
  { field: Schema.String, reason: Schema.String },
) {
  readonly retryable = false
  override get message() {
    return `${this.field}: ${this.reason}`
  }
}

/**
 * The store could not be reached, or did not answer in time.
 *
 * `outcome` is `unknown` when the statement may or may not have been applied.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>(
  "flowly/StoreUnavailable",
)("StoreUnavailable", {
  operation: Schema.String,
  outcome: Schema.Literals(["unknown", "not-applied"]),
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  readonly retryable = true
  override get message() {
    return (
      `${this.operation}: the store is unavailable (${this.reason}); ` +
      (this.outcome === "unknown"
        ? "whether it was applied is unknown"
        : "nothing was applied; try again")
    )
  }
}

/**
 * The database refused a statement, and would again.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreRejected extends Schema.TaggedError<StoreRejected>("flowly/StoreRejected")(
  "StoreRejected",
  {
    operation: Schema.String,
    sqlState: Schema.NullOr(Schema.String),
    reason: Schema.String,
    cause: Schema.optionalKey(Schema.Defect()),
  },
) {
  readonly retryable = false
  override get message() {
    return `${this.operation}: refused by the database (${this.sqlState ?? "?"}: ${this.reason})`
  }
}

/**
 * The tables are missing or older than this library.
 *
 * @category errors
 * @since 0.1.0
 */
export class SchemaNotMigrated extends Schema.TaggedError<SchemaNotMigrated>(
  "flowly/SchemaNotMigrated",
)("SchemaNotMigrated", {
  schema: Schema.String,
  found: Schema.Number,
  needed: Schema.Number,
}) {
  readonly retryable = false
  override get message() {
    return (
      `schema "${this.schema}" is at migration ${this.found}, this version of flowly needs ` +
      `${this.needed}: call engine.migrate() once, from any process with DDL rights`
    )
  }
}

/**
 * The tables were migrated by a newer version of the library than this one understands.
 *
 * @category errors
 * @since 0.1.0
 */
export class SchemaTooNew extends Schema.TaggedError<SchemaTooNew>("flowly/SchemaTooNew")(
  "SchemaTooNew",
  { schema: Schema.String, found: Schema.Number, known: Schema.Number },
) {
  readonly retryable = false
  override get message() {
    return (
      `schema "${this.schema}" is at migration ${this.found}, this version of flowly knows ` +
      `only ${this.known}: upgrade flowly in this process`
    )
  }
}

/**
 * The connection pool cannot serve the configuration.
 *
 * @category errors
 * @since 0.1.0
 */
export class PoolTooSmall extends Schema.TaggedError<PoolTooSmall>("flowly/PoolTooSmall")(
  "PoolTooSmall",
  { max: Schema.Number, needed: Schema.Number, why: Schema.String },
) {
  readonly retryable = false
  override get message() {
    return `the pool has at most ${this.max} connections, ${this.needed} are needed (${this.why})`
  }
}

/**
 * The code does not ask for what the history holds: it changed under a running run.
 *
 * The run is paused before any side effect, its history intact. The code that wrote the history
 * finishes it after `resume`.
 *
 * @category errors
 * @since 0.1.0
 */
export class StepMismatch extends Schema.TaggedError<StepMismatch>("flowly/StepMismatch")(
  "StepMismatch",
  {
    workflowRunId: Schema.String,
    workflow: Schema.String,
    recordedKey: Schema.String,
    recordedKind: Schema.String,
    position: Schema.Number,
    calledKey: Schema.NullOr(Schema.String),
    calledKind: Schema.NullOr(Schema.String),
  },
) {
  readonly retryable = false
  override get message() {
    const called =
      this.calledKey === null
        ? "asked for nothing"
        : `called ${this.calledKind} "${this.calledKey}"`
    return (
      `run ${this.workflowRunId} of "${this.workflow}": the history has ${this.recordedKind} ` +
      `"${this.recordedKey}" at position ${this.position}, the code ${called}. Either the ` +
      `workflow's code changed while this run was under way: deploy the code that wrote the history ` +
      `and resume it. Or it does not do the same each time: what it draws, reads or waits for outside ` +
      `of steps belongs into one`
    )
  }
}

/**
 * A run recorded more operations, or opened more at once, than the limits allow.
 *
 * @category errors
 * @since 0.1.0
 */
export class HistoryTooLong extends Schema.TaggedError<HistoryTooLong>("flowly/HistoryTooLong")(
  "HistoryTooLong",
  {
    workflowRunId: Schema.String,
    records: Schema.Number,
    open: Schema.Number,
    bytes: Schema.Number,
    maxRecords: Schema.Number,
    maxFanOut: Schema.Number,
    maxBytes: Schema.Number,
  },
) {
  readonly retryable = false
  override get message() {
    return (
      `run ${this.workflowRunId} has ${this.records} records of ${this.bytes} bytes and ` +
      `${this.open} open operations; the limits are ${this.maxRecords} records, ` +
      `${this.maxBytes} bytes and ${this.maxFanOut} at once: split the work into child workflows`
    )
  }
}

/**
 * This store has no database to open a transaction in.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionUnsupported extends Schema.TaggedError<TransactionUnsupported>(
  "flowly/TransactionUnsupported",
)("TransactionUnsupported", { store: Schema.String }) {
  readonly retryable = false
  override get message() {
    return (
      `a transactional step needs a database, and the ${this.store} store has none: in a test, give ` +
      `it a client to hand out, new MemoryWorkflowStore({ client }) or MemoryStore.makeUnsafe({ sql })`
    )
  }
}

/**
 * The code of a transactional step left no transaction to record the step in: all is rolled back
 * that was not committed by that code itself.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionBroken extends Schema.TaggedError<TransactionBroken>(
  "flowly/TransactionBroken",
)("TransactionBroken", { reason: Schema.Literals(["ended", "failed", "released"]) }) {
  readonly retryable = false
  override get message() {
    if (this.reason === "released") {
      return "the step's code released its client amid the transaction: leave that to the engine, too"
    }
    return this.reason === "ended"
      ? "the step's code ended its transaction itself: leave BEGIN, COMMIT and ROLLBACK to the engine"
      : "a statement of the step's transaction failed, its error was caught, and Postgres accepts no " +
          "more statements: let the error through, or put a savepoint before the statement"
  }
}

/**
 * A try of a step took longer than its `timeoutMs`.
 *
 * @category errors
 * @since 0.1.0
 */
export class StepTimeout extends Schema.TaggedError<StepTimeout>("flowly/StepTimeout")(
  "StepTimeout",
  { stepKey: Schema.String, timeoutMs: Schema.Number },
) {
  readonly retryable = true
  override get message() {
    return `step "${this.stepKey}" did not end within ${this.timeoutMs} ms`
  }
}

/**
 * A try of a step gave no heartbeat for its `heartbeatTimeoutMs`.
 *
 * @category errors
 * @since 0.1.0
 */
export class StepHeartbeatTimeout extends Schema.TaggedError<StepHeartbeatTimeout>(
  "flowly/StepHeartbeatTimeout",
)("StepHeartbeatTimeout", { stepKey: Schema.String, timeoutMs: Schema.Number }) {
  readonly retryable = true
  override get message() {
    return `step "${this.stepKey}" gave no heartbeat for ${this.timeoutMs} ms`
  }
}

/**
 * A step did not complete within its deadline, which counts over all its tries.
 *
 * @category errors
 * @since 0.1.0
 */
export class StepDeadlineExceeded extends Schema.TaggedError<StepDeadlineExceeded>(
  "flowly/StepDeadlineExceeded",
)("StepDeadlineExceeded", {
  stepKey: Schema.String,
  deadlineMs: Schema.Number,
  /** Tries that had begun. */
  attempts: Schema.Number,
  /** What the newest failed try failed with. */
  lastFailure: Schema.NullOr(Schema.String),
}) {
  readonly retryable = false
  override get message() {
    const last = this.lastFailure === null ? "" : `; the last one failed with: ${this.lastFailure}`
    return (
      `step "${this.stepKey}" did not complete within its deadline of ${this.deadlineMs} ms ` +
      `(${this.attempts} tries${last})`
    )
  }
}

/**
 * The run was cancelled.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunCancelled extends Schema.TaggedError<RunCancelled>("flowly/RunCancelled")(
  "RunCancelled",
  { workflowRunId: Schema.String, reason: Schema.NullOr(Schema.String) },
) {
  readonly retryable = false
  override get message() {
    return `run ${this.workflowRunId} was cancelled${this.reason === null ? "" : `: ${this.reason}`}`
  }
}

/**
 * An operator ended the run at once: nothing was undone.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunTerminated extends Schema.TaggedError<RunTerminated>("flowly/RunTerminated")(
  "RunTerminated",
  { workflowRunId: Schema.String, reason: Schema.NullOr(Schema.String) },
) {
  readonly retryable = false
  override get message() {
    return (
      `run ${this.workflowRunId} was terminated${this.reason === null ? "" : `: ${this.reason}`} ` +
      `(completed steps were not undone; fork the run to start from one of them)`
    )
  }
}

/**
 * An operator paused the run. Its history is intact.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunPaused extends Schema.TaggedError<RunPaused>("flowly/RunPaused")("RunPaused", {
  workflowRunId: Schema.String,
  reason: Schema.NullOr(Schema.String),
}) {
  readonly retryable = false
  override get message() {
    return (
      `run ${this.workflowRunId} was paused${this.reason === null ? "" : `: ${this.reason}`} ` +
      `(resume it to go on)`
    )
  }
}

/**
 * The run's deadline passed.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunTimedOut extends Schema.TaggedError<RunTimedOut>("flowly/RunTimedOut")(
  "RunTimedOut",
  { workflowRunId: Schema.String },
) {
  readonly retryable = false
  override get message() {
    return `run ${this.workflowRunId} did not finish within its timeout`
  }
}

/**
 * A child run ended otherwise than `completed`. Its own error is the cause.
 *
 * @category errors
 * @since 0.1.0
 */
export class ChildFailed extends Schema.TaggedError<ChildFailed>("flowly/ChildFailed")(
  "ChildFailed",
  {
    workflow: Schema.String,
    workflowRunId: Schema.String,
    status: Schema.String,
    reason: Schema.String,
    cause: Schema.optionalKey(Schema.Defect()),
  },
) {
  readonly retryable = false
  override get message() {
    return `child "${this.workflow}" (run ${this.workflowRunId}) is ${this.status}: ${this.reason}`
  }
}

/**
 * The code of a compensating run does not offer an undo that the history asks for.
 *
 * @category errors
 * @since 0.1.0
 */
export class CompensationMissing extends Schema.TaggedError<CompensationMissing>(
  "flowly/CompensationMissing",
)("CompensationMissing", {
  workflowRunId: Schema.String,
  workflow: Schema.String,
  stepKeys: Schema.Array(Schema.String),
}) {
  readonly retryable = false
  override get message() {
    return (
      `run ${this.workflowRunId} of "${this.workflow}" must undo ${this.stepKeys.join(", ")}, but ` +
      `the code offers no compensation for it: deploy the code that does, and resume the run; or, ` +
      `if they need no undoing, skipCompensation for each of these steps`
    )
  }
}

/**
 * No run has this id.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunNotFound extends Schema.TaggedError<RunNotFound>("flowly/RunNotFound")(
  "RunNotFound",
  { workflowRunId: Schema.String },
) {
  readonly retryable = false
  override get message() {
    return `no run has the id ${this.workflowRunId}`
  }
}

/**
 * No run has issued this token: it is mistyped, forged, or of another database.
 *
 * The token is not shown.
 *
 * @category errors
 * @since 0.1.0
 */
export class TokenNotFound extends Schema.TaggedError<TokenNotFound>("flowly/TokenNotFound")(
  "TokenNotFound",
  {},
) {
  readonly retryable = false
  override get message() {
    return "no run has issued this token: nothing was stored"
  }
}

/**
 * The idempotency key, or the id, belongs to a run that was started with a different input (or to any
 * run, where joining it was not wanted).
 *
 * Where the inputs differ is named (`$.items[2].price`; `workflow`, where an id is that of another
 * workflow's run), at most ten places; what stands there is not shown.
 *
 * @category errors
 * @since 0.1.0
 */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>(
  "flowly/IdempotencyConflict",
)("IdempotencyConflict", {
  workflow: Schema.String,
  /** `null`: it is the id that is taken. */
  idempotencyKey: Schema.NullOr(Schema.String),
  workflowRunId: Schema.String,
  /** Where the inputs differ; empty: they do not. */
  fields: Schema.Array(Schema.String),
}) {
  readonly retryable = false
  override get message() {
    const what =
      this.idempotencyKey === null
        ? `the id ${this.workflowRunId}`
        : `idempotency key "${this.idempotencyKey}" of "${this.workflow}"`
    const run = this.idempotencyKey === null ? "a run" : `run ${this.workflowRunId}`
    return this.fields.length === 0
      ? `${what} belongs to ${run} already, and joining it was refused (onConflict)`
      : `${what} belongs to ${run}, which has a different input (at ${this.fields.join(", ")}): ` +
          `use another one for another input`
  }
}

/**
 * An active run holds the concurrency key.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConcurrencyConflict extends Schema.TaggedError<ConcurrencyConflict>(
  "flowly/ConcurrencyConflict",
)("ConcurrencyConflict", {
  workflow: Schema.String,
  concurrencyKey: Schema.String,
  workflowRunId: Schema.String,
}) {
  readonly retryable = true
  override get message() {
    return (
      `concurrency key "${this.concurrencyKey}" of "${this.workflow}" is held by the active run ` +
      `${this.workflowRunId}: wait until it has ended, or use another key`
    )
  }
}

/**
 * So many events wait in the run, taken by no wait, that it is sent no more (`maxPendingEvents`).
 *
 * @category errors
 * @since 0.1.0
 */
export class EventBacklogFull extends Schema.TaggedError<EventBacklogFull>(
  "flowly/EventBacklogFull",
)("EventBacklogFull", { workflowRunId: Schema.String, maxPendingEvents: Schema.Number }) {
  readonly retryable = true
  override get message() {
    return (
      `run ${this.workflowRunId} has ${this.maxPendingEvents} events that it has not taken, which ` +
      `is the limit (maxPendingEvents): nothing was stored; send it when the run has taken some`
    )
  }
}

/**
 * The engine was not told of this workflow.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownWorkflow extends Schema.TaggedError<UnknownWorkflow>("flowly/UnknownWorkflow")(
  "UnknownWorkflow",
  {
    workflow: Schema.String,
    version: Schema.NullOr(Schema.String),
    known: Schema.Array(Schema.String),
  },
) {
  readonly retryable = false
  override get message() {
    const version = this.version === null ? "" : ` in version "${this.version}"`
    if (this.known.includes(`"${this.workflow}"${version}`)) {
      return (
        `this engine knows another definition of "${this.workflow}"${version}: ` +
        `use the one that is in \`workflows\``
      )
    }
    return (
      `workflow "${this.workflow}"${version} is not registered with this engine ` +
      `(it knows: ${this.known.join(", ") || "none"}): add it to \`workflows\``
    )
  }
}

/**
 * Two workflows of one engine have the same name.
 *
 * @category errors
 * @since 0.1.0
 */
export class DuplicateWorkflow extends Schema.TaggedError<DuplicateWorkflow>(
  "flowly/DuplicateWorkflow",
)("DuplicateWorkflow", { workflow: Schema.String, version: Schema.NullOr(Schema.String) }) {
  readonly retryable = false
  override get message() {
    return this.version === null
      ? `two workflows are named "${this.workflow}": within an engine, a name must be unique, or ` +
          `each of them needs a \`version\``
      : `two workflows are named "${this.workflow}" and have version "${this.version}"`
  }
}

/**
 * The store did not answer a trigger within its deadline.
 *
 * With outcome `unknown` the run may or may not exist: trigger again with the same
 * `idempotencyKey`, or ask `getStatus` for the id.
 *
 * @category errors
 * @since 0.1.0
 */
export class TriggerTimeout extends Schema.TaggedError<TriggerTimeout>("flowly/TriggerTimeout")(
  "TriggerTimeout",
  {
    workflow: Schema.String,
    workflowRunId: Schema.String,
    timeoutMs: Schema.Number,
    outcome: Schema.Literals(["unknown", "not-applied"]),
  },
) {
  readonly retryable = true
  override get message() {
    return (
      `the store did not confirm run ${this.workflowRunId} of "${this.workflow}" within ` +
      `${this.timeoutMs} ms: ` +
      (this.outcome === "unknown"
        ? "whether it was started is unknown; ask getStatus, or trigger again with the same " +
          "idempotencyKey"
        : "it was not started; trigger again")
    )
  }
}

/**
 * The run cannot do what was asked of it in its present status.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunStateConflict extends Schema.TaggedError<RunStateConflict>(
  "flowly/RunStateConflict",
)("RunStateConflict", {
  workflowRunId: Schema.String,
  operation: Schema.String,
  reason: Schema.String,
}) {
  readonly retryable = false
  override get message() {
    return `run ${this.workflowRunId} cannot ${this.operation}: ${this.reason}`
  }
}

/**
 * The run ended otherwise than `completed`. Its own error is the cause.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunFailed extends Schema.TaggedError<RunFailed>("flowly/RunFailed")("RunFailed", {
  workflow: Schema.String,
  workflowRunId: Schema.String,
  status: Schema.String,
  reason: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {
  readonly retryable = false
  override get message() {
    return `run ${this.workflowRunId} of "${this.workflow}" is ${this.status}: ${this.reason}`
  }
}

/**
 * A stored value that the code's Schema refuses, or cannot be read at all. The run is paused, its
 * history intact.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnreadableValue extends Schema.TaggedError<UnreadableValue>("flowly/UnreadableValue")(
  "UnreadableValue",
  { field: Schema.String, reason: Schema.String },
) {
  readonly retryable = false
  override get message() {
    return (
      `the stored ${this.field} does not fit the code: ${this.reason}. Deploy code that reads it, ` +
      `and resume the run`
    )
  }
}
