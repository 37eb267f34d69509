/**
 * The rows of the journal's batch: what a write and a record are as parameters.
 *
 * @since 0.1.0
 */
import type { RecordWrite, RunWrite, Transition } from "../WorkflowStore.ts"
import { boundedMs } from "./batch.ts"
import { type Column, type Columns, columns, placeOf, type Value } from "./columns.ts"

/** A write whose records hold each key once, with the undos of its own records put into them. */
export interface Write extends Omit<RunWrite, "records"> {
  readonly records: ReadonlyArray<RecordWrite & { readonly undo?: RunWrite["compensations"][0] }>
}

/** A part of a write, and the write's place in the batch. */
export interface Owned<A> {
  readonly ord: number
  readonly item: A
}

/** A statement of the journal; the first parameter, the clock's, stands before these. */
export interface Statement {
  readonly text: string
  readonly parameters: ReadonlyArray<string | null>
}

const json = (value: object | null | undefined): string | null =>
  value == null ? null : JSON.stringify(value)

/** The place of something in its batch, where it is not that of what it belongs to. */
const ordOf = <A>(get: (row: A) => number): Column<A> => ({
  type: "int",
  get: (row, place) => (get(row) === place ? null : get(row)),
  otherwise: placeOf,
})

const writeColumns = {
  ord: { type: "int", get: () => null, otherwise: placeOf },
  run: { type: "uuid", get: (write: Write) => write.workflowRunId },
  token: { type: "bigint", get: (write: Write) => write.token },
} as const

/** Writes that move no run. */
const staying = columns<Write>(writeColumns)

/** Writes with transitions among them. */
const movingColumns = {
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
} satisfies Record<string, Column<Write>>

const moving = columns<Write>(movingColumns)

const statusOf = (transition: Transition): string | null =>
  "status" in transition ? transition.status : null

const delayOf = (transition: Transition): number | null =>
  "delayMs" in transition ? boundedMs(transition.delayMs) : null

export const errorOf = (transition: Transition): string | null =>
  "error" in transition ? json(transition.error) : null

/** The rows of the writes. */
export const writesOf = (shape: {
  readonly transitions: boolean
  readonly single: boolean
}): Columns<Write> => {
  if (shape.single) return shape.transitions ? singleMoving : single
  return shape.transitions ? moving : staying
}

type OwnedRecord = Owned<Write["records"][number]>

/** A value, unless it is the one that most records have. */
const unless = <A extends Value>(usual: A, value: A): A | null => (value === usual ? null : value)

const outcomeColumns = {
  key: { type: "text", get: ({ stepKey }) => stepKey },
  name: {
    type: "text",
    get: ({ name, stepKey }) => unless(stepKey, name),
    otherwise: "x.key",
  },
  kind: { type: "text", get: ({ kind }) => unless("step", kind), otherwise: "'step'" },
  position: {
    type: "int",
    get: ({ status, position }) => (status === "retrying" ? null : position),
  },
  issued_after: {
    type: "int",
    get: ({ status, position, issuedAfter }) =>
      status === "retrying" || position !== issuedAfter + 1 ? issuedAfter : null,
    otherwise: "x.position - 1",
  },
  status: {
    type: "text",
    get: ({ status }) => unless("completed", status),
    otherwise: "'completed'",
  },
  attempts: { type: "int", get: ({ attempts }) => unless(1, attempts), otherwise: "1" },
  codec: {
    type: "text",
    get: ({ result }) => unless("json", result?.codec),
    otherwise: "case when x.result is not null then 'json' end",
  },
  result: { type: "jsonb", get: ({ result }) => result?.json },
  has_compensate: {
    type: "boolean",
    get: ({ hasCompensate }) => hasCompensate || null,
    otherwise: "false",
  },
  // whole milliseconds: of most steps that leaves nothing
  elapsed: {
    type: "float8",
    get: ({ elapsedMs }) => unless(0, Math.round(boundedMs(elapsedMs) ?? 0)),
    otherwise: "0::float8",
  },
  more: { type: "jsonb", get: (record) => moreOf(record) },
} satisfies Record<string, Column<OwnedRecord["item"]>>

/** The same columns, of what `item` finds in a row, their names behind `prefix`. */
const within = <A, B>(
  given: Readonly<Record<string, Column<B>>>,
  item: (row: A) => B | undefined,
  prefix = "",
): Record<string, Column<A>> =>
  Object.fromEntries(
    Object.entries(given).map(([name, { get, type, otherwise }]) => [
      `${prefix}${name}`,
      {
        type,
        get: (row: A, place: number) => {
          const found = item(row)
          return found === undefined ? null : get(found, place)
        },
        ...(otherwise === undefined
          ? {}
          : { otherwise: otherwise.replaceAll("x.", `x.${prefix}`) }),
      },
    ]),
  )

/** The rows of the records. */
export const recordColumns = columns<OwnedRecord>({
  ord: ordOf(({ ord }) => ord),
  ...within(outcomeColumns, ({ item }: OwnedRecord) => item),
})

const beside = within(outcomeColumns, ({ records }: Write) => records[0], "s_")

/** Writes with one record at most, which stands beside the write. */
const single = columns<Write>({ ...writeColumns, ...beside })
const singleMoving = columns<Write>({ ...movingColumns, ...beside })

/** SQL: the records of such rows `h`, as `recordColumns` and `recordMore` give them. */
export const besideRecord = (h: string): string =>
  `${h}.run, ${h}.token, ${Object.keys(outcomeColumns)
    .map((name) => `${h}.s_${name} as ${name}`)
    .join(", ")}, ${recordMore(h, "s_more")}, false as carried`

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

/**
 * Whether a record is an outcome and nothing else, the first thing that is written of its key: what can
 * be inserted without a look at what stands.
 */
export const isPlain = (record: OwnedRecord["item"]): boolean =>
  record.first === true && record.status === "completed" && moreOf(record) === null

/** SQL: the columns behind `more` of a record `x`. */
export const recordMore = (x: string, more = "more"): string => {
  const text = (name: string) => `(${x}.${more}->>'${name}'::text)`
  const object = (name: string) => `nullif(${x}.${more}->'${name}'::text, 'null'::jsonb)`
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
