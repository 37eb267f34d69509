/**
 * The journal: commits what runs produce, many runs to one durable commit.
 *
 * A lane that is idle commits at once; what arrives while a commit is in flight forms the next
 * batch. There are no timers, so a lone run pays one round trip, and a hundred busy runs share it.
 * Fragments of one run are folded, in order, into one row of the batch; a run stays in one lane.
 *
 * - An unknown outcome is never taken for "not applied": the same rows are sent again until the
 *   store answers (they carry the token that wrote them, so a second sending is recognised).
 * - A busy row goes, before anything newer of its run, into the next batch: a lane never waits for
 *   a lock.
 * - One bad row must not fail a hundred: a refused batch is halved until the culprit stands alone.
 *
 * Store calls run on the lane's fiber, never on a run's: interrupting a run does not reach them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Fragment } from "./engine/Execution.ts"
import { type Hints, makeHints } from "./engine/hints.ts"
import { encodeError } from "./ErrorPayload.ts"
import type { StoreRejected } from "./FlowlyError.ts"
import { type Claim, type RunWrite, WorkflowStore, type WriteAnswer } from "./WorkflowStore.ts"

/**
 * Takes fragments; answers through their callbacks, after the commit.
 *
 * @category services
 * @since 0.1.0
 */
export class Journal extends Context.Service<
  Journal,
  {
    readonly append: (claim: Claim, fragment: Fragment) => void
    /** Completes when nothing is queued or in flight. */
    readonly drained: Effect.Effect<void>
    readonly hints: Hints
    /** Commits and rows so far: for benchmarks and health. */
    readonly stats: () => { readonly commits: number; readonly runs: number }
  }
>()("flowly/Journal") {}

/** Bounds of a batch: runs, and characters of stored values. */
const maxRuns = 500
const maxChars = 4 * 1024 * 1024

interface Item {
  readonly claim: Claim
  readonly fragments: Array<Fragment>
}

const retryStore = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("2 seconds"),
]).pipe(Schedule.jittered)

/**
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Journal["Service"], never, WorkflowStore | Scope.Scope> =
  Effect.gen(function* () {
    const store = yield* WorkflowStore
    const hints = yield* makeHints(store)
    const work = yield* Latch.make()
    const idle = yield* Latch.make(true)
    const queue = new Map<string, Item>()
    let commits = 0
    let runs = 0

    const takeBatch = (): Array<Item> => {
      const batch: Array<Item> = []
      let chars = 0
      for (const [key, item] of queue) {
        chars += sizeOf(item)
        if (batch.length > 0 && chars > maxChars) break
        queue.delete(key)
        batch.push(item)
        if (batch.length >= maxRuns) break
      }
      return batch
    }

    const answer = (item: Item, result: WriteAnswer): boolean => {
      switch (result._tag) {
        case "committed":
          for (const fragment of item.fragments) {
            hintsAfter(fragment, result, hints)
            fragment.onCommitted(result)
          }
          return true
        case "lost":
          for (const fragment of item.fragments) fragment.onLost?.()
          return true
        case "busy":
          requeue(item)
          return false
      }
    }

    /** In front of whatever this run produced since. */
    const requeue = (item: Item) => {
      const key = item.claim.workflowRunId
      const newer = queue.get(key)
      if (newer && newer.claim.token !== item.claim.token) {
        for (const late of item.fragments) late.onLost?.()
        return
      }
      if (newer) item.fragments.push(...newer.fragments)
      queue.set(key, item)
    }

    const commit = (items: ReadonlyArray<Item>): Effect.Effect<boolean> =>
      store.commit(items.map(fold)).pipe(
        Effect.retry({
          schedule: retryStore,
          while: (error) => error._tag === "StoreUnavailable",
        }),
        Effect.matchEffect({
          onSuccess: (answers) =>
            Effect.sync(() => {
              commits++
              runs += items.length
              let progress = false
              for (let i = 0; i < items.length; i++) {
                const item = items[i] as Item
                const result = answers[i] ?? { _tag: "busy", workflowRunId: "" }
                if (answer(item, result)) progress = true
              }
              return progress
            }),
          onFailure: (error) => isolate(items, error as StoreRejected),
        }),
      )

    /** The database refuses something in this batch: find it, and let the others pass. */
    const isolate = (items: ReadonlyArray<Item>, error: StoreRejected): Effect.Effect<boolean> => {
      const [first] = items
      if (first === undefined) return Effect.succeed(false)
      if (items.length > 1) {
        const half = Math.ceil(items.length / 2)
        return Effect.zipWith(
          commit(items.slice(0, half)),
          commit(items.slice(half)),
          (a, b) => a || b,
        )
      }
      if (first.fragments.length > 1) {
        return Effect.as(
          Effect.forEach(
            first.fragments,
            (fragment) => commit([{ claim: first.claim, fragments: [fragment] }]),
            { discard: true },
          ),
          true,
        )
      }
      return Effect.as(
        Effect.andThen(
          Effect.logWarning(`flowly: a write was refused: ${error.message}`),
          Effect.sync(() => first.fragments[0]?.onRejected?.(encodeError(error))),
        ),
        true,
      )
    }

    yield* Effect.forkScoped(
      Effect.forever(
        Effect.gen(function* () {
          yield* work.await
          const batch = takeBatch()
          if (batch.length === 0) {
            work.closeUnsafe()
            idle.openUnsafe()
            return
          }
          const progress = yield* commit(batch)
          // only busy rows: give their holders a moment
          if (!progress) yield* Effect.sleep("10 millis")
        }),
      ),
    )

    return Journal.of({
      append: (claim, fragment) => {
        const item = queue.get(claim.workflowRunId)
        if (item?.claim.token === claim.token) item.fragments.push(fragment)
        else {
          queue.set(claim.workflowRunId, { claim, fragments: [fragment] })
          // a newer claim of the same run: what the older one still has to say is too late
          for (const late of item?.fragments ?? none) late.onLost?.()
        }
        idle.closeUnsafe()
        work.openUnsafe()
      },
      drained: idle.await,
      hints,
      stats: () => ({ commits, runs }),
    })
  })

/**
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Journal, never, WorkflowStore> = Layer.effect(Journal, make)

const none: ReadonlyArray<never> = []

const fold = ({ claim, fragments }: Item): RunWrite => {
  const [only] = fragments
  if (fragments.length === 1 && only !== undefined) {
    return {
      workflowRunId: claim.workflowRunId,
      token: claim.token,
      records: only.records ?? none,
      timers: only.timers ?? none,
      children: only.children ?? none,
      emitted: only.emitted ?? none,
      compensations: only.compensations ?? none,
      transition: only.transition ?? null,
    }
  }
  return {
    workflowRunId: claim.workflowRunId,
    token: claim.token,
    records: lastPerKey(fragments.flatMap((one) => one.records ?? none)),
    timers: fragments.flatMap((one) => one.timers ?? none),
    children: fragments.flatMap((one) => one.children ?? none),
    emitted: fragments.flatMap((one) => one.emitted ?? none),
    compensations: lastPerKey(fragments.flatMap((one) => one.compensations ?? none)),
    transition: fragments.findLast((one) => one.transition)?.transition ?? null,
  }
}

/** A backoff record and the outcome that replaced it may meet in one batch: the later counts. */
const lastPerKey = <A extends { readonly stepKey: string }>(rows: Array<A>): Array<A> =>
  rows.length < 2 ? rows : [...new Map(rows.map((row) => [row.stepKey, row])).values()]

const sizeOf = (item: Item): number => {
  let chars = 0
  for (const fragment of item.fragments) {
    for (const record of fragment.records ?? none) chars += record.result?.json.length ?? 0
    for (const child of fragment.children ?? none) chars += child.input.json.length
    for (const event of fragment.emitted ?? none) chars += event.payload.json.length
    if (fragment.transition?._tag === "Settle") {
      chars += fragment.transition.result?.json.length ?? 0
    }
  }
  return chars
}

const hintsAfter = (
  fragment: Fragment,
  result: Extract<WriteAnswer, { readonly _tag: "committed" }>,
  hints: Hints,
): void => {
  if (fragment.children?.length) hints.send("work")
  if (fragment.emitted?.length) hints.send("signal")
  const { transition } = fragment
  if (!transition) return
  switch (transition._tag) {
    case "Settle":
      // this process is told by the worker that settled it
      hints.remote("settled")
      return
    case "HandBack":
    case "RetryRun":
      hints.send("work")
      return
    case "Park":
      if (result.wakeCounter !== transition.wakeCounter) hints.send("work")
      return
    default:
  }
}
