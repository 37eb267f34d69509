/**
 * What can keep an embedded Postgres from starting or stopping, each with what to do about it.
 * One error with a `reason`: callers rarely branch, and where they do, on the reason.
 */
import * as Schema from "effect/Schema"

/**
 * The embedded Postgres could not be started, found or stopped. `reason` says which part failed,
 * the message says what to do.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>(
  "flowly/EmbeddedPostgresError",
)("EmbeddedPostgresError", {
  reason: Schema.Literals([
    "BinariesMissing",
    "NoAccount",
    "DataDirectory",
    "PortInUse",
    "InvalidOption",
    "StartFailed",
    "StopFailed",
  ]),
  detail: Schema.String,
}) {
  readonly retryable = false
  override get message() {
    return `embedded Postgres: ${this.detail}`
  }
}

/** `ENOENT`, `EACCES` … of a system error, `""` of anything else. */
export function systemCode(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined
  return typeof code === "string" ? code : ""
}
