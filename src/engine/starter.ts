/**
 * Starts runs: concurrent triggers share one insert.
 *
 * New runs have a lane of their own, because an insert can wait for a foreign transaction that holds
 * the same idempotency key. A caller waits until the store has answered, or its deadline passes;
 * then the error says whether the outcome is unknown. Ids are made before the first sending, so
 * sending again is safe.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { type StoreRejected, TriggerTimeout } from "../FlowlyError.ts"
import type { InsertAnswer, NewRun, StoreError, WorkflowStore } from "../WorkflowStore.ts"

/**
 * Inserts a run within a deadline. `claimFor` names the local worker that will execute it.
 */
export type Starter = (options: {
  readonly run: NewRun
  readonly claimFor: string | null
  readonly deadlineMs: number
}) => Effect.Effect<InsertAnswer, TriggerTimeout | StoreRejected>

interface Item {
  readonly run: NewRun
  readonly claimFor: string | null
  readonly reply: Deferred.Deferred<InsertAnswer, StoreRejected>
  sent: boolean
  expired: boolean
}

/** Runs in one insert. */
const maxBatch = 500

/**
 * Starts the lane's fiber in the current scope.
 */
export const makeStarter = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<Starter, never, Scope.Scope> {
  const work = yield* Latch.make()
  const queue: Array<Item> = []

  const insert = (items: ReadonlyArray<Item>): Effect.Effect<void> => {
    const [first] = items
    if (first === undefined) return Effect.void
    for (const item of items) item.sent = true
    const runs = items.map((item) => item.run)
    return store.insertRuns({ runs, claimFor: first.claimFor }).pipe(
      Effect.matchEffect({
        onSuccess: (answers) =>
          Effect.sync(() => {
            for (let i = 0; i < items.length; i++) {
              const answer = answers[i]
              if (answer) Deferred.doneUnsafe((items[i] as Item).reply, Effect.succeed(answer))
            }
          }),
        onFailure: (error: StoreError) => {
          if (error._tag === "StoreUnavailable") {
            // again, with whoever still waits, until it answers
            return Effect.delay(
              Effect.suspend(() => insert(items.filter((item) => !item.expired))),
              "100 millis",
            )
          }
          if (items.length === 1) {
            return Effect.asVoid(Deferred.fail(first.reply, error))
          }
          const half = Math.ceil(items.length / 2)
          return Effect.andThen(insert(items.slice(0, half)), insert(items.slice(half)))
        },
      }),
    )
  }

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.gen(function* () {
        yield* work.await
        if (queue.length === 0) {
          work.closeUnsafe()
          return
        }
        const claimFor = queue[0]?.claimFor ?? null
        const items: Array<Item> = []
        const rest: Array<Item> = []
        for (const item of queue.splice(0)) {
          if (item.expired) continue
          if (item.claimFor === claimFor && items.length < maxBatch) items.push(item)
          else rest.push(item)
        }
        queue.push(...rest)
        yield* insert(items)
      }),
    ),
  )

  return ({ run, claimFor, deadlineMs }) =>
    Effect.suspend(() => {
      const item: Item = {
        run,
        claimFor,
        reply: Deferred.makeUnsafe(),
        sent: false,
        expired: false,
      }
      queue.push(item)
      work.openUnsafe()
      return Deferred.await(item.reply).pipe(
        Effect.timeoutOrElse({
          duration: deadlineMs,
          orElse: () =>
            Effect.suspend(() =>
              Effect.fail(
                new TriggerTimeout({
                  workflow: run.workflow,
                  workflowRunId: run.workflowRunId,
                  timeoutMs: deadlineMs,
                  outcome: item.sent ? "unknown" : "not-applied",
                }),
              ),
            ),
        }),
        Effect.ensuring(
          Effect.sync(() => {
            item.expired = true
          }),
        ),
      )
    })
})
