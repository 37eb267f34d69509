/**
 * `commit`: one statement for the batch, and others only for what it left open.
 *
 * Where all that is written is of the usual kind, that statement is a shorter one; what it leaves open
 * goes to the full one. What is open then is looked at: the last statement (`standing`) reads what became
 * of writes that were not applied, or only in part because an earlier sending had been. Its snapshot is
 * taken after the others ended, so it tells `busy` from `lost`, and finds what a backend that we had given
 * up committed meanwhile.
 * An answer is never built from what we *meant* to write: record counts are compared.
 *
 * Measured on Postgres 18, 2 vCPU, round trip with the wait for the disk: a batch of 480 runs with one
 * record each takes 9.6 ms (12.5 while writes and records were joined), one that settles them 14 ms.
 * (200 runs: 4.0 ms joined, 8.3 as JSON instead of arrays, and 11 while the planner took the batch for
 * one row and joined it with itself by nested loops.)
 *
 * One write alone has a statement of its own: `loneWrite.ts`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { RunWrite, StoreError, TimerRow, Transition, WriteAnswer } from "../WorkflowStore.ts"
import { batch, boundedMs, RawJson } from "./batch.ts"
import {
  isPlain,
  type Owned,
  recordColumns,
  type Statement,
  undoRetryOf,
  type Write,
  writesOf,
} from "./commitRows.ts"
import { commitStatement, type Shape } from "./commitStatement.ts"
import type { Database, Row } from "./database.ts"
import { loneWrites } from "./loneWrite.ts"
import { newRuns } from "./newRuns.ts"
import { bool, int, signalsOf, text } from "./rows.ts"
import { isDuplicate } from "./sqlErrors.ts"
import { answerStanding, readStanding } from "./standing.ts"

export const commit = (
  database: Database,
  wait = false,
): ((writes: ReadonlyArray<RunWrite>) => Effect.Effect<ReadonlyArray<WriteAnswer>, StoreError>) => {
  const statements = new Map<number, string>()
  const statementOf = (shape: Shape): string => {
    const key =
      (shape.records ? 1 : 0) +
      (shape.transitions ? 2 : 0) +
      (shape.extras ? 4 : 0) +
      (shape.retry ? 8 : 0) +
      (shape.attributes ? 16 : 0) +
      (shape.timed ? 32 : 0) +
      (shape.single ? 64 : 0) +
      (shape.alone ? 128 : 0) +
      (shape.plain ? 256 : 0) +
      (shape.settles ? 512 : 0)
    const known = statements.get(key)
    if (known !== undefined) return known
    const made = commitStatement(database.names, shape)
    statements.set(key, made)
    return made
  }
  const stand = readStanding(database)
  const lone = loneWrites(database.names)

  /** Most writes have statements that do less. What these leave open goes to the full one. */
  const short = (shape: Shape, writes: ReadonlyArray<Write>): Statement | null => {
    const [first] = writes
    const alone = shape.alone && first !== undefined ? lone(shape, first) : null
    if (alone !== null) return alone
    if (!shape.plain && !shape.settles) return null
    return { text: statementOf(shape), parameters: parametersOf(shape, writes) }
  }
  const full = (shape: Shape, writes: ReadonlyArray<Write>): Statement => {
    const wide = { ...shape, plain: false, settles: false }
    return { text: statementOf(wide), parameters: parametersOf(wide, writes) }
  }

  return Effect.fnUntraced(function* (sent) {
    if (sent.length === 0) return []
    const writes = sent.map(fold)
    assertOnePerRun(writes)
    const shape = shapeOf(writes, wait)
    const now = yield* database.now
    const ask = (statement: Statement, about: ReadonlyArray<Write>) =>
      Effect.map(database.write("commit", statement.text, [now, ...statement.parameters]), (rows) =>
        answersOf(about, rows),
      )
    const quick = short(shape, writes)
    const answers = yield* quick === null
      ? ask(full(shape, writes), writes)
      : Effect.catchIf(ask(quick, writes), isDuplicate, () =>
          Effect.succeed(writes.map((): Told => "open")),
        )
    let open = openOf(answers)
    if (quick !== null && open.length > 0) {
      const asked = open.map((ord) => writes[ord]!)
      const again = yield* ask(full(shapeOf(asked, wait), asked), asked)
      open.forEach((ord, i) => (answers[ord] = again[i]!))
      open = openOf(answers)
    }
    if (open.length > 0) {
      const asked = open.map((ord) => writes[ord]!)
      const found = yield* stand(now, asked)
      for (const ord of open) {
        const write = writes[ord]!
        const isHeld = answers[ord] === "in part"
        answers[ord] = answerStanding(write, isHeld, found.get(write.workflowRunId))
      }
    }
    return answers as ReadonlyArray<WriteAnswer>
  })
}

/**
 * What a statement tells of a write: its answer; that it was applied, some of it having stood before; or
 * nothing.
 */
type Told = WriteAnswer | "in part" | "open"

const openOf = (answers: ReadonlyArray<Told>): ReadonlyArray<number> =>
  answers.flatMap((answer, ord) => (typeof answer === "string" ? [ord] : []))

/** One row changes once in a statement: the last word on a key is the one that is written. */
const fold = (write: RunWrite): Write => {
  if (write.records.length === 0) return write
  if (write.records.length === 1 && write.compensations.length === 0) return write
  const records = new Map<string, Write["records"][number]>()
  for (const record of write.records) {
    const earlier = records.get(record.stepKey)
    if (earlier === undefined || earlier.status === "retrying") records.set(record.stepKey, record)
  }
  const compensations = write.compensations.filter((undo) => {
    const record = records.get(undo.stepKey)
    if (record === undefined) return true
    records.set(undo.stepKey, { ...record, undo })
    return false
  })
  return { ...write, records: [...records.values()], compensations }
}

const assertOnePerRun = (writes: ReadonlyArray<Write>): void => {
  const runs = new Set<string>()
  for (const { workflowRunId } of writes) {
    if (runs.has(workflowRunId)) throw new Error(`commit: two writes for run ${workflowRunId}`)
    runs.add(workflowRunId)
  }
}

const shapeOf = (writes: ReadonlyArray<Write>, wait: boolean): Shape => {
  let records = false
  let transitions = false
  let extras = false
  let retry = false
  let attributes = false
  let timed = false
  let single = true
  // an error would end the caller's transaction
  let plain = !wait
  let settles = true
  for (const write of writes) {
    records ||= write.records.length > 0
    single &&= write.records.length <= 1
    plain &&= write.records.every(isPlain)
    timed ||= write.records.some(({ kind }) => kind === "sleep" || kind === "event")
    transitions ||= write.transition !== null
    settles &&= write.transition === null || isFree(write.transition)
    retry ||= write.transition?._tag === "RetryRun"
    attributes ||= write.attributes !== undefined
    extras ||=
      write.timers.length > 0 ||
      write.children.length > 0 ||
      write.emitted.length > 0 ||
      write.compensations.length > 0
  }
  single &&= records && !extras && !attributes && !timed && !retry
  const alone = writes.length === 1 && (single || !records)
  plain &&= single
  settles &&= !wait && transitions && !extras && !attributes && !timed
  return {
    records,
    transitions,
    extras,
    retry,
    wait,
    attributes,
    timed,
    single,
    alone,
    plain,
    settles,
  }
}

const isFree = (transition: Transition): boolean =>
  transition._tag === "Settle" && transition.wakesParent === false

const parametersOf = (shape: Shape, writes: ReadonlyArray<Write>): ReadonlyArray<string | null> => {
  const [alone] = writes
  const parameters: Array<string | null> =
    shape.alone && alone !== undefined
      ? [...writesOf(shape).parametersOfRow(alone)]
      : [...writesOf(shape).parameters(writes)]
  if (shape.records && !shape.single) {
    parameters.push(...recordColumns.parameters(each(writes, (w) => w.records)))
  }
  if (shape.extras) {
    parameters.push(
      batch(
        each(writes, (w) => w.timers),
        ({ ord, item }) => ({
          ord,
          key: item.stepKey,
          delay: "delayMs" in item ? boundedMs(item.delayMs) : null,
          at: "wakeAt" in item ? boundedMs(item.wakeAt) : null,
        }),
      ),
      ...newRuns.parameters(
        each(writes, (w) => w.children).map(({ ord, item }) => ({ owner: ord, run: item })),
      ),
      batch(
        each(writes, (w) => w.emitted),
        ({ ord, item }, place) => ({
          ord,
          place,
          key: item.stepKey,
          name: item.name,
          codec: item.payload.codec,
          payload: new RawJson(item.payload.json),
        }),
      ),
      batch(
        each(writes, (w) => w.compensations),
        ({ ord, item }) => ({
          ord,
          key: item.stepKey,
          status: item.status,
          attempts: item.attempts,
          error: jsonOf(item.error),
          retry: undoRetryOf(item),
        }),
      ),
    )
  }
  if (shape.attributes) {
    parameters.push(
      batch(
        each(writes, (w) => (w.attributes === undefined ? [] : [w.attributes])),
        ({ ord, item }) => ({ ord, attributes: new RawJson(JSON.stringify(item)) }),
      ),
    )
  }
  return parameters
}

const each = <A>(
  writes: ReadonlyArray<Write>,
  items: (write: Write) => ReadonlyArray<A>,
): ReadonlyArray<Owned<A>> =>
  writes.flatMap((write, ord) => items(write).map((item) => ({ ord, item })))

const jsonOf = (value: object | null): RawJson | null =>
  value === null ? null : new RawJson(JSON.stringify(value))

/** By write and step key. */
type Lists<A> = Map<number, Map<string, A>>

const none: ReadonlyArray<never> = []

const add = <A>(lists: Lists<A>, ord: number, key: string, value: A): void => {
  const list = lists.get(ord)
  if (list === undefined) lists.set(ord, new Map([[key, value]]))
  else list.set(key, value)
}

/** What the statement itself tells. */
const answersOf = (writes: ReadonlyArray<Write>, rows: ReadonlyArray<Row>): Array<Told> => {
  // most writes have none of them
  const timers: Lists<number> = new Map()
  const early: Lists<number | null> = new Map()
  const children: Lists<string> = new Map()
  for (const row of rows) {
    if (row["tag"] == null) continue
    const ord = int(row["ord"])
    const key = text(row["key"])
    if (row["tag"] === "timer") add(timers, ord, key, int(row["value"]))
    else if (row["tag"] === "child") add(children, ord, key, text(row["value"]))
    else add(early, ord, key, row["value"] == null ? null : int(row["value"]))
  }
  const answers = writes.map((): Told => "open")
  for (const row of rows) {
    if (row["tag"] != null) continue
    const ord = int(row["ord"])
    const write = writes[ord]!
    const now = int(row["at"])
    const isWhole =
      // Somewhere in the batch a record stood already, from an earlier sending: look which.
      (bool(row["whole"]) || write.records.length === 0) &&
      write.timers.every(({ stepKey }) => timers.get(ord)?.has(stepKey)) &&
      write.children.every(({ parent }) => children.get(ord)?.has(parent?.stepKey ?? ""))
    if (!isWhole) {
      answers[ord] = "in part"
      continue
    }
    answers[ord] = {
      _tag: "committed",
      workflowRunId: write.workflowRunId,
      ...signalsOf(row["wake_counter"], row["signals"]),
      now,
      timers: rowsOf(timers.get(ord)),
      refusedSleeps: rowsOf(early.get(ord), now),
      children: childrenOf(children.get(ord)),
    }
  }
  return answers
}

const childrenOf = (
  children: ReadonlyMap<string, string> | undefined,
): Extract<WriteAnswer, { readonly _tag: "committed" }>["children"] =>
  children === undefined
    ? none
    : Array.from(children, ([stepKey, workflowRunId]) => ({ stepKey, workflowRunId }))

/** A sleep without a timer is a bug of the caller: it is refused until now, for ever. */
const rowsOf = (
  timers: ReadonlyMap<string, number | null> | undefined,
  otherwise = 0,
): ReadonlyArray<TimerRow> =>
  timers === undefined
    ? none
    : Array.from(timers, ([stepKey, wakeAt]) => ({ stepKey, wakeAt: wakeAt ?? otherwise }))
