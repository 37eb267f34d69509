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
