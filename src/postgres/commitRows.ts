/**
 * The rows of the journal's batch: what a write and a record are as parameters.
 *
 * @since 0.1.0
 */
import type { RecordWrite, RunWrite, Transition } from "../WorkflowStore.ts"
import { boundedMs } from "./batch.ts"
import { type Columns, columns } from "./columns.ts"

/** A write whose records hold each key once, with the undos of its own records put into them. */
export interface Write extends Omit<RunWrite, "records"> {
  readonly records: ReadonlyArray<RecordWrite & { readonly undo?: RunWrite["compensations"][0] }>
}

/** A part of a write, and the write's place in the batch. */
export interface Owned<A> {
  readonly ord: number
  readonly item: A
}

const json = (value: object | null | undefined): string | null =>
  value == null ? null : JSON.stringify(value)

const writeColumns = {
  ord: { type: "int", get: (_: Write, ord: number) => ord },
  run: { type: "uuid", get: (write: Write) => write.workflowRunId },
  token: { type: "bigint", get: (write: Write) => write.token },
} as const

/** Writes that move no run. */
const staying = columns<Write>(writeColumns)

/** Writes with transitions among them. */
const moving = columns<Write>({
  ...writeColumns,
  kind: { type: "text", get: ({ transition }) => transition?._tag },
  status: { type: "text", get: ({ transition }) => transition && statusOf(transition) },
  due: {
    type: "float8",
    get: ({ transition }) => (transition?._tag === "Park" ? boundedMs(transition.dueAt) : null),
  },
  delay: { type: "float8", get: ({ transition }) => transition && delayOf(transition) },
  wakes: {
    type: "bigint",
    get: ({ transition }) => (transition?._tag === "Park" ? transition.wakeCounter : null),
  },
  waits: {
    type: "jsonb",
    get: ({ transition }) => (transition?._tag === "Park" ? json(transition.waits) : null),
  },
  codec: {
    type: "text",
    get: ({ transition }) => (transition?._tag === "Settle" ? transition.result?.codec : null),
  },
  result: {
    type: "jsonb",
    get: ({ transition }) => (transition?._tag === "Settle" ? transition.result?.json : null),
  },
  error: { type: "jsonb", get: ({ transition }) => transition && errorOf(transition) },
  failed_position: {
    type: "int",
    get: ({ transition }) =>
      transition && "failedPosition" in transition ? transition.failedPosition : null,
  },
})

const statusOf = (transition: Transition): string | null =>
  "status" in transition ? transition.status : null

const delayOf = (transition: Transition): number | null =>
  "delayMs" in transition ? boundedMs(transition.delayMs) : null

const errorOf = (transition: Transition): string | null =>
  "error" in transition ? json(transition.error) : null

/** The rows of the writes. */
export const writesOf = (shape: { readonly transitions: boolean }): Columns<Write> =>
  shape.transitions ? moving : staying

type OwnedRecord = Owned<Write["records"][number]>

/** The rows of the records. */
export const recordColumns = columns<OwnedRecord>({
  ord: { type: "int", get: ({ ord }) => ord },
  key: { type: "text", get: ({ item }) => item.stepKey },
  name: { type: "text", get: ({ item }) => item.name },
  kind: { type: "text", get: ({ item }) => item.kind },
  position: {
    type: "int",
    get: ({ item }) => (item.status === "retrying" ? null : item.position),
  },
  issued_after: { type: "int", get: ({ item }) => item.issuedAfter },
  status: { type: "text", get: ({ item }) => item.status },
  attempts: { type: "int", get: ({ item }) => item.attempts },
  codec: { type: "text", get: ({ item }) => item.result?.codec },
  result: { type: "jsonb", get: ({ item }) => item.result?.json },
  has_compensate: { type: "boolean", get: ({ item }) => item.hasCompensate },
  elapsed: { type: "float8", get: ({ item }) => boundedMs(item.elapsedMs) },
  more: { type: "jsonb", get: ({ item }) => moreOf(item) },
})

/** What most records do not have: the rest of them is read from this JSON, by `recordMore`. */
const moreOf = (record: OwnedRecord["item"]): string | null => {
  const { error, retryDelayMs, eventId, revision, heartbeat, undo } = record
  if (
    error === null &&
    retryDelayMs === null &&
    eventId === null &&
    !revision &&
    !heartbeat &&
    undo === undefined
  ) {
    return null
  }
  return JSON.stringify({
    error,
    retry: boundedMs(retryDelayMs),
    event: eventId,
    revision: revision ?? 0,
    beat_codec: heartbeat?.codec,
    // as text: it is JSON already
    beat: heartbeat?.json,
    undo_status: undo?.status,
    undo_attempts: undo?.attempts,
    undo_error: undo?.error,
    undo_retry: undo === undefined ? null : undoRetryOf(undo),
  })
}

/** SQL: the columns behind `more` of a record `x`. */
export const recordMore = (x: string): string => {
  const text = (name: string) => `(${x}.more->>'${name}'::text)`
  const object = (name: string) => `nullif(${x}.more->'${name}'::text, 'null'::jsonb)`
  return `${object("error")} as error, ${text("retry")}::float8 as retry,
    ${text("event")}::bigint as event, coalesce(${text("revision")}::int, 0) as revision,
    ${text("beat_codec")} as beat_codec, ${text("beat")}::jsonb as beat,
    ${text("undo_status")} as undo_status, ${text("undo_attempts")}::int as undo_attempts,
    ${object("undo_error")} as undo_error, ${text("undo_retry")}::float8 as undo_retry`
}

/** When an undo that is to be tried again may be. */
export const undoRetryOf = ({
  status,
  retryDelayMs,
}: RunWrite["compensations"][number]): number | null =>
  status === "retrying" ? boundedMs(retryDelayMs ?? null) : null
