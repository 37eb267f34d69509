/**
 * Starts runs: concurrent triggers share one insert.
 *
 * New runs have lanes of their own, because an insert can wait for a foreign transaction that holds
 * the same idempotency key; runs without keys do not wait behind those. A caller waits until the store has answered, or its deadline passes;
 * then the error says whether the outcome is unknown. Ids are made before the first sending, so
 * sending again is safe.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { type StoreRejected, TriggerTimeout } from "../FlowlyError.ts"
import type { InsertAnswer, NewRun, WorkflowStore } from "../WorkflowStore.ts"
import { bounded } from "./bounded.ts"

/**
 * Inserts a run within a deadline. `claimFor` names the local worker that will execute it.
 */
export type Starter = (options: {
  readonly run: NewRun
  readonly claimFor: string | null
  readonly deadlineMs: number
  /** Its id, too, may be somebody's already: the insert may have to wait for them. */
  readonly chosen?: boolean
}) => Effect.Effect<InsertAnswer, TriggerTimeout | StoreRejected>

interface Item {
  readonly run: NewRun
  readonly claimFor: string | null
  readonly reply: Deferred.Deferred<InsertAnswer, StoreRejected>
  sent: boolean
  /** Nobody waits any more. */
  expired: boolean
}

/** Runs in one insert. */
const maxBatch = 500

/** How often a batch on which the store dies is sent again whole. */
const defectsForgiven = 2

/**
 * Starts the lanes' fibers in the current scope.
 */
export const makeStarter = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<Starter, never, Scope.Scope> {
  // only a key can make an insert wait for others: who has none must not wait behind those who do
  const keyless = yield* makeLane(store)
  const keyed = yield* makeLane(store)

  return ({ run, claimFor, deadlineMs, chosen = false }) =>
    Effect.suspend(() => {
      const item: Item = {
        run,
        claimFor,
        reply: Deferred.makeUnsafe(),
        sent: false,
        expired: false,
      }
      const { idempotencyKey, concurrencyKey } = run
      const isFree = idempotencyKey === null && concurrencyKey === null && !chosen
      const lane = isFree ? keyless : keyed
      lane(item)
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

const makeLane = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<(item: Item) => void, never, Scope.Scope> {
  const work = yield* Latch.make()
  const queue: Array<Item> = []

  /** Sends until the store has answered, and only for those who still wait. */
  const insert = (given: ReadonlyArray<Item>, patience: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const items = given.filter((item) => !item.expired)
      const [first] = items
      if (first === undefined) return Effect.void
      for (const item of items) item.sent = true
      const runs = items.map((item) => item.run)
      return store.insertRuns({ runs, claimFor: first.claimFor }).pipe(
        bounded("insertRuns"),
        Effect.matchCauseEffect({
          onSuccess: (answers) =>
            Effect.sync(() => {
              for (let i = 0; i < items.length; i++) {
                const answer = answers[i]
                if (answer) Deferred.doneUnsafe((items[i] as Item).reply, Effect.succeed(answer))
              }
            }),
          onFailure: (cause) => {
            const error = cause.reasons.find(Cause.isFailReason)?.error
            if (error?._tag === "StoreUnavailable") {
              return Effect.delay(insert(items, patience), "100 millis")
            }
            // a defect of the store or its driver: perhaps a passing one
            if (error === undefined && patience > 0) {
              return Effect.delay(insert(items, patience - 1), "100 millis")
            }
            if (items.length === 1) {
              const refusal = error ? Effect.fail(error) : Effect.die(Cause.squash(cause))
              return Effect.sync(() => Deferred.doneUnsafe(first.reply, refusal))
            }
            const half = Math.ceil(items.length / 2)
            return Effect.andThen(insert(items.slice(0, half), 0), insert(items.slice(half), 0))
          },
        }),
      )
    })

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
        yield* insert(items, defectsForgiven)
      }),
    ),
  )

  return (item) => {
    queue.push(item)
    work.openUnsafe()
  }
})
