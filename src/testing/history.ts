/**
 * What a run did, with decoded values: for the assertions of a test.
 */
import * as Effect from "effect/Effect"
import { anyValue } from "../engine/values.ts"
import { decodeError } from "../ErrorPayload.ts"
import type { Encoded } from "../Payload.ts"
import type { EventRow, StepRecord } from "../WorkflowStore.ts"

/**
 * One remembered operation. Values are as they are stored: what a Schema encoded, or the value
 * itself where no Schema was given.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryEntry {
  /** The name; from its second use in a run, `name#2` … */
  readonly key: string
  readonly name: string
  readonly kind:
    | "step"
    | "sleep"
    | "child"
    | "event"
    | "side_effect"
    | "emit"
    | "token"
    | "no_return"
    | "child_start"
    | "patch"
  /** `retrying`: it failed, and another try is due. */
  readonly status: "completed" | "failed" | "retrying"
  /** Tries so far. */
  readonly attempts: number
  readonly result: unknown
  readonly error: unknown
  /** How it was undone, if it was. */
  readonly compensation: "completed" | "failed" | "retrying" | "skipped" | null
  readonly completedAt: Date | null
  /** With `retrying`. */
  readonly retryAt: Date | null
}

/**
 * An event that a run emitted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Emitted {
  readonly name: string
  readonly data: unknown
  readonly at: Date
}

/**
 * In order of completion; what is being retried comes last.
 */
export const historyOf = (records: ReadonlyArray<StepRecord>): ReadonlyArray<HistoryEntry> =>
  records.map((record) => ({
    key: record.stepKey,
    name: record.name,
    kind: record.kind,
    status: record.status,
    attempts: record.attempts,
    result: valueOf(record.result),
    error: record.error === null ? undefined : decodeError(record.error),
    compensation: record.compensation?.status ?? null,
    completedAt: dateOf(record.completedAt),
    retryAt: dateOf(record.retryAt),
  }))

/**
 * In order of emission.
 */
export const emittedOf = (rows: ReadonlyArray<EventRow>): ReadonlyArray<Emitted> =>
  rows.map((row) => ({
    name: row.name,
    data: valueOf(row.payload),
    at: new Date(row.createdAt),
  }))

const dateOf = (millis: number | null): Date | null => (millis === null ? null : new Date(millis))

const valueOf = (encoded: Encoded | null): unknown =>
  encoded === null
    ? undefined
    : Effect.runSync(
        Effect.catch(anyValue.decode(encoded), () => Effect.succeed(encoded.json as unknown)),
      )
