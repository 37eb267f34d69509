/**
 * What a failed statement means to the engine: wait and try again, or give this item up.
 *
 * effect/sql's own classes do not decide it: shutdowns (57P01), a full disk (53100), a promoted
 * standby (25006) and others arrive there as `UnknownError`. So the SQLSTATE is read from the
 * driver's error. An error from the server says that the statement was rolled back, but for the
 * states that speak of the connection or of a commit in doubt; an error without SQLSTATE says
 * nothing once the statement may have been sent.
 *
 * @since 0.1.0
 */
import type { SqlError } from "effect/sql/SqlError"
import { StoreRejected, StoreUnavailable } from "../FlowlyError.ts"
import type { StoreError } from "../WorkflowStore.ts"

/** Whether the statement writes: only then is an outcome ever in doubt. */
export type Effects = "reads" | "writes"

/** The SQLSTATE that the driver's error carries. */
export const sqlStateOf = (error: SqlError): string | null => {
  let cause: unknown = error.reason.cause
  for (let depth = 0; depth < 4 && typeof cause === "object" && cause !== null; depth++) {
    const code = (cause as { readonly code?: unknown }).code
    if (typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !nodeCodes.has(code)) return code
    cause = (cause as { readonly cause?: unknown }).cause
  }
  return null
}

/** Five capital letters, but of Node's, not of Postgres. */
const nodeCodes: ReadonlySet<string> = new Set(["EPIPE", "EBUSY", "EPERM", "EINTR", "EPROTO"])

const transient = (state: string): boolean =>
  // connection · resources (disk, memory, connections) · shutdown and start-up
  state.startsWith("08") ||
  state.startsWith("53") ||
  state.startsWith("57P0") ||
  // canceled (statement_timeout, an operator) · idle or transaction timeouts end the session
  state === "57014" ||
  state === "57P05" ||
  state === "25P03" ||
  state === "25P04" ||
  // read only: a standby that was, or will be, the primary
  state === "25006" ||
  state === "40001" ||
  state === "40P01" ||
  state === "40003" ||
  state === "55P03" ||
  // a plan or a prepared name that a failover or a migration made stale
  state === "26000"

/**
 * What an error that came out of a step's code says about the moment, whatever driver, query builder or
 * wrapper it came through: by the SQLSTATE in its chain of causes, or by what drivers say of a
 * connection that is gone.
 */
export const faultOf = (error: unknown): "serialization" | "unavailable" | null => {
  let at: unknown = error
  for (let depth = 0; depth < 6 && typeof at === "object" && at !== null; depth++) {
    const { code, cause, reason, message } = at as Readonly<
      Record<"code" | "cause" | "reason" | "message", unknown>
    >
    if (code === "40001" || code === "40P01") return "serialization"
    if (typeof code === "string" && isOfConnection(code)) return "unavailable"
    if (typeof message === "string" && saysConnectionLost.test(message)) return "unavailable"
    const tag = (reason as { readonly _tag?: unknown } | undefined)?._tag
    if (tag === "ConnectionError") return "unavailable"
    at = cause ?? reason
  }
  return null
}

/** What `pg` says, without a code, of a session that is gone. */
const saysConnectionLost = /^Connection terminated|is not queryable$/

const isOfConnection = (code: string): boolean =>
  /^(08...|57P0[123]|ECONN[A-Z]+|EPIPE|ETIMEDOUT)$/.test(code)

/** States after which the transaction may have committed all the same. */
const inDoubt = (state: string): boolean =>
  // 08: the connection, 40003: "statement completion unknown", 57P01/02: the session was ended,
  // which may happen between the commit and the answer. 57P03: was never let in.
  state.startsWith("08") || state === "40003" || state === "57P01" || state === "57P02"

/** Operations of the drivers that end before any statement is sent. */
const beforeSending: ReadonlySet<string> = new Set(["connect", "acquireConnection"])

/**
 * The engine's error for a driver's error. Without the driver's error as its cause: that one holds
 * `detail` and `where`, which quote keys and values, and causes are logged and stored.
 */
export const toStoreError = (operation: string, effects: Effects, error: SqlError): StoreError => {
  const sqlState = sqlStateOf(error)
  const reason = messageOf(error)
  if (sqlState === null) {
    if (isCodecFailure(error)) return new StoreRejected({ operation, sqlState, reason })
    const sent = !beforeSending.has(error.reason.operation ?? "")
    const outcome = effects === "writes" && sent ? "unknown" : "not-applied"
    return new StoreUnavailable({ operation, outcome, reason })
  }
  if (sqlState === "42501") return refusedRights(operation, sqlState, reason)
  if (!transient(sqlState)) return new StoreRejected({ operation, sqlState, reason })
  const sent = !beforeSending.has(error.reason.operation ?? "")
  const unknown = effects === "writes" && sent && inDoubt(sqlState)
  return new StoreUnavailable({
    operation,
    outcome: unknown ? "unknown" : "not-applied",
    reason: `${sqlState}: ${reason}`,
  })
}

/** Something stands under a key that was said to be free. Nothing of the statement was applied. */
export const isDuplicate = (error: StoreError): boolean =>
  error._tag === "StoreRejected" && error.sqlState === "23505"

/** The role lacks a right: who has it, and how it is given. */
const refusedRights = (operation: string, sqlState: string, reason: string): StoreRejected =>
  new StoreRejected({
    operation,
    sqlState,
    reason:
      operation === "migrate"
        ? `${reason}; migrate as a role that may create, and let it grant this one what ` +
          "`flowly grants` prints"
        : `${reason}; let the owner of the tables grant this role what \`flowly grants\` prints`,
  })

/** The deadline of a statement passed. */
export const deadlinePassed = (
  operation: string,
  effects: Effects,
  milliseconds: number,
): StoreUnavailable =>
  new StoreUnavailable({
    operation,
    outcome: effects === "writes" ? "unknown" : "not-applied",
    reason: `no answer within ${milliseconds} ms`,
  })

/** A value that the driver could not encode never left the process. */
const isCodecFailure = (error: SqlError): boolean => {
  const cause = error.reason.cause
  return (
    typeof cause === "object" &&
    cause !== null &&
    (cause as { readonly _tag?: unknown })._tag === "PgTypesCodecError"
  )
}

/** The server's primary message: it quotes no row and no parameter (`detail` would). */
const messageOf = (error: SqlError): string => {
  const cause = error.reason.cause
  const message =
    typeof cause === "object" && cause !== null
      ? (cause as { readonly message?: unknown }).message
      : undefined
  return String(message ?? error.reason.message ?? "connection failed").slice(0, 500)
}
