/**
 * Starts thousands of runs: one statement for each chunk, bounded in rows and in characters, and two
 * chunks at once: the process and the server work at the same time. (5,000 runs in a call: 34,000 a
 * second instead of 25,000. Three at once, and the halves of a thousand, won nothing.)
 *
 * Ids are made before the first sending, so a chunk whose answer was lost is sent again. A chunk is one
 * commit, the whole is not, but inside the caller's transaction. What becomes of one run (a conflict of
 * its keys) is no concern of the others.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import {
  type ConcurrencyConflict,
  type IdempotencyConflict,
  TriggerTimeout,
} from "../FlowlyError.ts"
import type { NewRun, RunRow, StoreError, WorkflowStore } from "../WorkflowStore.ts"
import { bounded, callAgain, within } from "./bounded.ts"
import { join, type OnConflict, started } from "./identity.ts"

const untilAnswered = callAgain({
  schedule: Schedule.spaced("100 millis"),
  while: (error: StoreError) => error._tag === "StoreUnavailable",
})

const maxRows = 1000
const maxChars = 4 * 1024 * 1024

/** A run to start, checked. */
export interface Item {
  readonly run: NewRun
  readonly onConflict: OnConflict | undefined
  /** The caller chose the id: it may be somebody's already. */
  readonly chosen: boolean
}

/** What became of it. */
export type Outcome = Result.Result<
  { readonly workflowRunId: string; readonly existing: boolean },
  IdempotencyConflict | ConcurrencyConflict
>

const isFree = ({ run, chosen }: Item): boolean =>
  run.idempotencyKey === null && run.concurrencyKey === null && !chosen

const chunksOf = (items: ReadonlyArray<Item>): ReadonlyArray<ReadonlyArray<Item>> => {
  const chunks: Array<Array<Item>> = []
  let chars = Infinity
  for (const item of items) {
    const size = item.run.input.json.length
    const last = chunks.at(-1)
    if (last === undefined || last.length >= maxRows || chars + size > maxChars) {
      chunks.push([item])
      chars = size
    } else {
      last.push(item)
      chars += size
    }
  }
  return chunks
}

/**
 * Starts the runs; outcomes align with them. Sends again what was not answered, until the deadline.
 */
export const startMany = (
  store: WorkflowStore["Service"],
  items: ReadonlyArray<Item>,
  options: { readonly deadlineMs: number; readonly again: boolean },
): Effect.Effect<ReadonlyArray<Outcome>, StoreError | TriggerTimeout> => {
  const { deadlineMs, again } = options
  const [first] = items
  if (first === undefined) return Effect.succeed([])
  const patiently = <A>(call: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
    again ? untilAnswered(bounded("insertRuns")(call)) : call
  let sent = false

  const rowsOf = (chosen: ReadonlyArray<string>) =>
    chosen.length === 0
      ? Effect.succeed(new Map<string, RunRow>())
      : Effect.map(
          patiently(store.getRuns(chosen)),
          (rows) => new Map(rows.map((row) => [row.workflowRunId, row])),
        )

  const startChunk = Effect.fnUntraced(function* (chunk: ReadonlyArray<Item>) {
    const chosen = chunk.flatMap(({ run, chosen: is }) => (is ? [run.workflowRunId] : []))
    const before = yield* rowsOf(chosen)
    sent = true
    const runs = chunk.map(({ run }) => run)
    const answers = yield* patiently(store.insertRuns({ runs, claimFor: null }))
    // an id of the caller's choice may have been taken by another start in between
    const after = yield* rowsOf(chosen)
    return yield* Effect.forEach(chunk, ({ run, onConflict }, i) => {
      const was = before.get(run.workflowRunId)
      if (was !== undefined) return Effect.result(join(run, was, onConflict, null))
      const is = after.get(run.workflowRunId)
      const answer = answers[i] as (typeof answers)[number]
      const checked =
        is === undefined || answer._tag !== "Inserted"
          ? Effect.void
          : Effect.asVoid(join(run, is, "join", null))
      return Effect.result(Effect.andThen(checked, started(run, answer, onConflict)))
    })
  })

  // with keys, two of its own inserts could wait for each other
  const concurrency = again && items.every(isFree) ? 2 : 1
  const all = Effect.forEach(chunksOf(items), startChunk, { concurrency })
  return Effect.map(all, (outcomes) => outcomes.flat()).pipe(
    within(
      Duration.millis(deadlineMs),
      () =>
        new TriggerTimeout({
          workflow: first.run.workflow,
          workflowRunId: first.run.workflowRunId,
          timeoutMs: deadlineMs,
          outcome: sent && again ? "unknown" : "not-applied",
        }),
    ),
  )
}
