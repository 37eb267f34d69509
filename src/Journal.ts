/**
 * The journal: commits what runs produce, many runs to one durable commit.
 *
 * A lane that is idle commits at once, but for a turn of the event loop or two; what arrives while a
 * commit is in flight forms the next batch. There are no timers, so a lone run pays one round trip, and
 * a hundred busy runs share it. (The second turn: 0.107 statements a run of three steps instead of
 * 0.185, 50 in flight, and 1,450 runs/s instead of 1,240. A run by itself goes without.)
 * Fragments of one run are folded, in order, into one row of the batch; a run stays in one lane.
 *
 * What hundreds of runs produce goes in two halves, where the store takes two commits at once: one
 * half executes while the other is being committed, so the process and the server work at the same time.
 * What a run produces while a commit of it is under way waits for that, so the two are never about the
 * same run.
 *
 * (500 in flight, runs of three steps, 2 cores; one commit at a time of all that is there: 6,300 runs/s,
 * the server idle while the process works. Half of it told, sent, and the rest told meanwhile: 7,600,
 * with batches so small that a run took the server 0.12 ms. Two at once: 8,100 on two connections,
 * 8,750 in line on one, where a run takes 0.10 ms and neither waits for the other. More than two: no gain.)
 *
 * - An unknown outcome is never taken for "not applied": the same rows are sent again until the
 *   store answers (they carry the token that wrote them, so a second sending is recognised).
 * - A busy row goes, before anything newer of its run, into the next batch: a lane never waits for
 *   a lock.
 * - One bad row must not fail a hundred: a refused batch is halved until the culprit stands alone.
 * - A callback that throws costs its own run (it is dropped, and claimed anew), never the lane.
 *
 * Store calls run on the lane's fiber, never on a run's: interrupting a run does not reach them.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { bounded, callAgain, callPause } from "./engine/bounded.ts"
import type { Fragment } from "./engine/Execution.ts"
import { type Hints, makeHints } from "./engine/hints.ts"
import { SlotMap } from "./engine/SlotMap.ts"
import { encodeError } from "./ErrorPayload.ts"
import { StoreRejected } from "./FlowlyError.ts"
import {
  type Claim,
  type RunWrite,
  type StoreError,
  WorkflowStore,
  type WriteAnswer,
} from "./WorkflowStore.ts"

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

/** Bounds of a batch: runs, their fragments, and characters of stored values. */
const maxRuns = 500
const maxFragments = 2000
const maxChars = 4 * 1024 * 1024
/** How often a batch on which the store dies is sent again whole. */
const defectsForgiven = 2

/** What one run has to write. A class: see `engine/live.ts`. */
class Item {
  readonly claim: Claim
  readonly fragments: Array<Fragment>

  constructor(claim: Claim, fragments: Array<Fragment>) {
    this.claim = claim
    this.fragments = fragments
  }
}

const untilAnswered = callAgain({
  schedule: Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(
    Schedule.jittered,
  ),
  while: (error: StoreError) => error._tag === "StoreUnavailable",
})

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
    const queue = new SlotMap<string, Item>()
    /** Runs of the commits that are under way. */
    const flying = new Set<string>()
    let flights = 0
    let commits = 0
    let runs = 0

    /** What callbacks threw: logged by the lane. */
    const defects: Array<unknown> = []

    const guarded = (callback: () => void): boolean => {
      try {
        callback()
        return true
      } catch (error) {
        defects.push(error)
        return false
      }
    }

    /** A machine that breaks over an answer is over, here: its run is released and claimed anew. */
    const tell = (fragment: Fragment, callback: () => void): void => {
      if (!guarded(callback)) guarded(() => fragment.onLost?.())
    }

    const tellLost = (fragments: ReadonlyArray<Fragment>): void => {
      for (const fragment of fragments) guarded(() => fragment.onLost?.())
    }

    const { commits: atOnce, from: worthACommit } = store.overlap
    /** The most that was there lately, queued or under way. */
    let most = 0
    /** Of a batch. What has gone in parts comes back in parts, and what is a part is not divided again. */
    const fairShare = (): number => {
      most = Math.max(queue.size + flying.size, most * 0.98)
      const isAll = queue.size > (most * (atOnce + 1)) / (2 * atOnce)
      return isAll && queue.size >= atOnce * worthACommit ? Math.ceil(queue.size / atOnce) : maxRuns
    }

    /** The oldest first. What one run produced may be more than a batch: the rest keeps its place. */
    const takeBatch = (): Array<Item> => {
      const batch: Array<Item> = []
      const share = fairShare()
      let chars = 0
      let count = 0
      for (const item of queue.values()) {
        if (flying.has(item.claim.workflowRunId)) continue
        let taken = 0
        for (const fragment of item.fragments) {
          const size = sizeOf(fragment)
          if (count > 0 && (chars + size > maxChars || count >= maxFragments)) break
          chars += size
          count++
          taken++
        }
        if (taken === 0) break
        if (taken < item.fragments.length) {
          batch.push(new Item(item.claim, item.fragments.splice(0, taken)))
          break
        }
        batch.push(item)
        queue.delete(item.claim.workflowRunId)
        if (batch.length >= share) break
      }
      return batch
    }

    /** In front of whatever this run produced since. */
    const requeue = (item: Item): void => {
      const key = item.claim.workflowRunId
      const newer = queue.get(key)
      if (newer === undefined || newer.claim.token < item.claim.token) {
        queue.set(key, item)
        if (newer) tellLost(newer.fragments)
      } else if (newer.claim.token > item.claim.token) {
        tellLost(item.fragments)
      } else {
        queue.set(key, new Item(item.claim, [...item.fragments, ...newer.fragments]))
      }
    }

    /** Tells the fragments of an item; false where the row was busy. */
    const answer = (item: Item, result: WriteAnswer | undefined): boolean => {
      switch (result?._tag) {
        case "committed":
          for (const fragment of item.fragments) {
            tell(fragment, () => {
              hintsAfter(fragment, result, hints)
              fragment.onCommitted(result)
            })
          }
          // an array may be made in the old generation, too: it is to refer to nothing
          item.fragments.length = 0
          return true
        case "lost":
          tellLost(item.fragments)
          return true
        default:
          return false
      }
    }

    /** Commits until the store has answered; answers the items whose rows were busy. */
    const commit = (
      items: ReadonlyArray<Item>,
      patience: number,
    ): Effect.Effect<ReadonlyArray<Item>> =>
      Effect.suspend(() => store.commit(items.map(fold))).pipe(
        bounded("commit"),
        untilAnswered,
        Effect.matchCauseEffect({
          onSuccess: (answers) =>
            Effect.sync(() => {
              commits++
              runs += items.length
              return items.filter((item, i) => !answer(item, answers[i]))
            }),
          onFailure: (cause) => {
            const refusal = cause.reasons.find(Cause.isFailReason)?.error
            if (refusal?._tag === "StoreRejected") return isolate(items, refusal, patience)
            // a defect of the store or its driver: perhaps a passing one
            return patience > 0
              ? Effect.andThen(callPause(100), commit(items, patience - 1))
              : isolate(items, Cause.squash(cause), 0)
          },
        }),
      )

    /**
     * Something in this batch cannot be written: find it, and let the others pass. A store that has
     * refused a value may die once, all the same; one that died each time was forgiven before.
     */
    const isolate = (
      items: ReadonlyArray<Item>,
      error: unknown,
      patience: number,
    ): Effect.Effect<ReadonlyArray<Item>> => {
      const [first] = items
      if (first === undefined) return Effect.succeed([])
      if (items.length > 1) {
        const half = Math.ceil(items.length / 2)
        return Effect.zipWith(
          commit(items.slice(0, half), patience),
          commit(items.slice(half), patience),
          (a, b) => [...a, ...b],
        )
      }
      return first.fragments.length > 1 ? oneByOne(first, patience) : refuse(first, error)
    }

    const oneByOne = Effect.fnUntraced(function* ({ claim, fragments }: Item, patience: number) {
      for (let i = 0; i < fragments.length; i++) {
        const busy = yield* commit([{ claim, fragments: fragments.slice(i, i + 1) }], patience)
        // the rest must not overtake it
        if (busy.length > 0) return [{ claim, fragments: fragments.slice(i) }]
      }
      return []
    })

    /**
     * Refused by the database: nothing was applied, and the run is told. A defect may have come
     * after the commit, so nobody is told an outcome: the run leaves memory, for a person to see.
     */
    const refuse = Effect.fnUntraced(function* ({ claim, fragments }: Item, error: unknown) {
      const stored = encodeError(error)
      const rejected = error instanceof StoreRejected
      yield* Effect.logWarning(`flowly: a write was refused: ${stored.message}`)
      if (!rejected) {
        const pause: Fragment = {
          transition: { _tag: "Pause", error: stored },
          onCommitted: () => undefined,
        }
        yield* Effect.exit(bounded("commit")(store.commit([fold({ claim, fragments: [pause] })])))
      }
      for (const fragment of fragments) {
        if (rejected) tell(fragment, () => fragment.onRejected?.(stored))
        else tellLost([fragment])
      }
      return []
    })

    const fly = (batch: ReadonlyArray<Item>): Effect.Effect<void> =>
      Effect.ensuring(
        Effect.gen(function* () {
          const busy = yield* commit(batch, defectsForgiven)
          for (const item of busy) requeue(item)
          for (const error of defects.splice(0)) {
            yield* Effect.logError("flowly: an answer of the journal broke its run", error)
          }
          // only busy rows: give their holders a moment
          if (busy.length === batch.length && queue.size === busy.length) yield* callPause(10)
        }),
        Effect.sync(() => {
          flights--
          for (const { claim } of batch) flying.delete(claim.workflowRunId)
          work.openUnsafe()
        }),
      )

    /** What is queued may go now. */
    const mayFly = () => flights === 0 || (flights < atOnce && queue.size >= worthACommit)

    /** Of the last batch. */
    let size = 0
    const turn = Effect.gen(function* () {
      yield* work.await
      // What the last answers set off comes in the next two turns of the event loop: one batch, not
      // two. A run by itself has nobody to wait for.
      yield* Effect.yieldNow
      if (size > 1) yield* Effect.yieldNow
      if (!mayFly()) {
        work.closeUnsafe()
        return
      }
      const batch = takeBatch()
      size = batch.length
      if (size === 0) {
        work.closeUnsafe()
        if (flights === 0) idle.openUnsafe()
        return
      }
      flights++
      for (const { claim } of batch) flying.add(claim.workflowRunId)
      if (size < worthACommit || atOnce === 1) yield* fly(batch)
      else yield* Effect.forkChild(fly(batch), { startImmediately: true })
    })
    yield* Effect.forkScoped(Effect.forever(turn, { disableYield: true }))

    return Journal.of({
      append: (claim, fragment) => {
        const item = queue.get(claim.workflowRunId)
        // of two claims of a run only the newer has a say
        if (item !== undefined && item.claim.token > claim.token) {
          tellLost([fragment])
          return
        }
        if (item?.claim.token === claim.token) item.fragments.push(fragment)
        else {
          queue.set(claim.workflowRunId, new Item(claim, [fragment]))
          if (item) tellLost(item.fragments)
        }
        idle.closeUnsafe()
        if (mayFly()) work.openUnsafe()
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
      ...(only.attributes === undefined ? {} : { attributes: only.attributes }),
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
    ...attributesOf(fragments),
    transition: fragments.findLast((one) => one.transition)?.transition ?? null,
  }
}

const attributesOf = (fragments: ReadonlyArray<Fragment>): Pick<RunWrite, "attributes"> => {
  const given = fragments.filter((one) => one.attributes !== undefined)
  if (given.length === 0) return {}
  return { attributes: Object.assign({}, ...given.map((one) => one.attributes)) }
}

/** A backoff record and the outcome that replaced it may meet in one batch: the later counts. */
const lastPerKey = <A extends { readonly stepKey: string }>(rows: Array<A>): Array<A> =>
  rows.length < 2 ? rows : [...new Map(rows.map((row) => [row.stepKey, row])).values()]

const sizeOf = (fragment: Fragment): number => {
  let chars = 0
  for (const record of fragment.records ?? none) chars += record.result?.json.length ?? 0
  for (const child of fragment.children ?? none) chars += child.input.json.length
  for (const event of fragment.emitted ?? none) chars += event.payload.json.length
  if (fragment.transition?._tag === "Settle") {
    chars += fragment.transition.result?.json.length ?? 0
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
