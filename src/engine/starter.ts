/**
 * Starts runs: concurrent triggers share one insert.
 *
 * New runs have lanes of their own, because an insert can wait for a foreign transaction that holds
 * the same idempotency key; runs without keys do not wait behind those, and in numbers they have an
 * insert beside the one that is under way: the process and the server work at once. A caller waits until
 * the store has answered, or its deadline passes; then the error says whether the outcome is unknown. Ids
 * are made before the first sending, so sending again is safe.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { type StoreRejected, TriggerTimeout } from "../FlowlyError.ts"
import type { InsertAnswer, NewRun, WorkflowStore } from "../WorkflowStore.ts"
import { bounded, callPause, CallClock } from "./bounded.ts"

/**
 * Inserts a run within a deadline. `claimFor` names the local worker that will execute it.
 */
export type Starter = (options: {
  readonly run: NewRun
  readonly claimFor: string | null
  readonly deadlineMs: number
  /** Its id, too, may be somebody's already: the insert may have to wait for them. */
  readonly chosen?: boolean
}) => Reply

type Reply = Effect.Effect<InsertAnswer, TriggerTimeout | StoreRejected>

interface Item {
  readonly run: NewRun
  readonly claimFor: string | null
  /** As `Deadlines.now` tells it. */
  readonly deadlineAt: number
  readonly timeoutMs: number
  readonly reply: (reply: Reply) => void
  sent: boolean
  /** Nobody waits any more. */
  expired: boolean
}

/** Runs in one insert. */
const maxBatch = 500

/** So many that wait are worth an insert of their own, beside the one that is under way. */
const worthABatch = 80

/** How often a batch on which the store dies is sent again whole. */
const defectsForgiven = 2

/**
 * Starts the lanes' fibers in the current scope.
 */
export const makeStarter = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<Starter, never, Scope.Scope> {
  // only a key can make an insert wait for others: who has none must not wait behind those who do
  const keyless = yield* makeLane(store, 2)
  const keyed = yield* makeLane(store, 1)
  const deadlines = yield* makeDeadlines

  return ({ run, claimFor, deadlineMs, chosen = false }) =>
    Effect.callback((resume) => {
      const item: Item = {
        run,
        claimFor,
        deadlineAt: deadlines.now() + deadlineMs,
        timeoutMs: deadlineMs,
        reply: (reply) => {
          deadlines.forget(item)
          resume(reply)
        },
        sent: false,
        expired: false,
      }
      const { idempotencyKey, concurrencyKey } = run
      const isFree = idempotencyKey === null && concurrencyKey === null && !chosen
      const lane = isFree ? keyless : keyed
      deadlines.watch(item)
      lane(item)
      return Effect.sync(() => {
        item.expired = true
        deadlines.forget(item)
      })
    })
})

interface Deadlines {
  /** Monotonic, in milliseconds. */
  readonly now: () => number
  readonly watch: (item: Item) => void
  readonly forget: (item: Item) => void
}

/**
 * Tells those whose deadline passes. One fiber for all: a sleep for each took 10 µs, where starting a run
 * took the process some 100.
 */
const makeDeadlines: Effect.Effect<Deadlines, never, Scope.Scope> = Effect.gen(function* () {
  const items = new Set<Item>()
  const looksAgain = yield* Latch.make()
  const clock = yield* CallClock
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  /** When the fiber looks again. */
  let next = Infinity
  let closed = false

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const item of items) abandon(item)
    }),
  )

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.gen(function* () {
        looksAgain.closeUnsafe()
        next = Infinity
        for (const { deadlineAt } of items) next = Math.min(next, deadlineAt)
        if (next === Infinity) return yield* looksAgain.await
        const left = next - now()
        if (left > 0) return yield* Effect.raceFirst(looksAgain.await, callPause(Math.ceil(left)))
        for (const item of items) {
          if (item.deadlineAt > next) continue
          item.expired = true
          item.reply(Effect.fail(late(item)))
        }
      }),
    ),
  )

  return {
    now,
    watch: (item) => {
      if (closed) return abandon(item)
      items.add(item)
      if (item.deadlineAt < next) looksAgain.openUnsafe()
    },
    forget: (item) => {
      items.delete(item)
      // a timer that nobody needs would keep the process from ending
      if (items.size === 0) looksAgain.openUnsafe()
    },
  }
})

/** Nobody will answer it any more. */
const abandon = (item: Item): void => {
  item.expired = true
  item.reply(Effect.interrupt)
}

const late = ({ run, timeoutMs, sent }: Item): TriggerTimeout =>
  new TriggerTimeout({
    workflow: run.workflow,
    workflowRunId: run.workflowRunId,
    timeoutMs,
    outcome: sent ? "unknown" : "not-applied",
  })

const makeLane = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
  /** Inserts at once. */
  width: number,
): Effect.fn.Return<(item: Item) => void, never, Scope.Scope> {
  const work = yield* Latch.make()
  const queue: Array<Item> = []
  let underWay = 0

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
                if (answer) items[i]!.reply(Effect.succeed(answer))
              }
            }),
          onFailure: (cause) => {
            const error = cause.reasons.find(Cause.isFailReason)?.error
            if (error?._tag === "StoreUnavailable") {
              return Effect.andThen(callPause(100), insert(items, patience))
            }
            // a defect of the store or its driver: perhaps a passing one
            if (error === undefined && patience > 0) {
              return Effect.andThen(callPause(100), insert(items, patience - 1))
            }
            if (items.length === 1) {
              const refusal = error ? Effect.fail(error) : Effect.die(Cause.squash(cause))
              return Effect.sync(() => first.reply(refusal))
            }
            const half = Math.ceil(items.length / 2)
            return Effect.andThen(insert(items.slice(0, half), 0), insert(items.slice(half), 0))
          },
        }),
      )
    })

  const takeBatch = (): ReadonlyArray<Item> => {
    const claimFor = queue[0]?.claimFor ?? null
    const items: Array<Item> = []
    const rest: Array<Item> = []
    for (const item of queue.splice(0)) {
      if (item.expired) continue
      if (item.claimFor === claimFor && items.length < maxBatch) items.push(item)
      else rest.push(item)
    }
    queue.push(...rest)
    return items
  }

  /** Whether a batch is to be sent now. */
  const isTime = (): boolean =>
    queue.length > 0 && (underWay === 0 || (underWay < width && queue.length >= worthABatch))

  const landed = () => {
    underWay--
    work.openUnsafe()
  }

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.gen(function* () {
        yield* work.await
        if (!isTime()) {
          work.closeUnsafe()
          return
        }
        underWay++
        yield* Effect.forkChild(
          Effect.ensuring(insert(takeBatch(), defectsForgiven), Effect.sync(landed)),
          { startImmediately: true },
        )
      }),
    ),
  )

  return (item) => {
    queue.push(item)
    if (isTime()) work.openUnsafe()
  }
})
