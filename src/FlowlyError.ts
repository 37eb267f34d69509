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
