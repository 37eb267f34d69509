/**
 * One sequence of verbs on two stores: what each answers, what each shows afterwards, and the first
 * difference between them.
 *
 * A verb's generator (`verbs.ts`) is given dice and the world, and makes an operation that both
 * stores are asked for. What it may choose from is what the memory store shows: as long as nothing
 * differed, the other one shows the same. Ids of events, cursors and clients are each store's own:
 * an operation asks its `side` for them.
 */
import { inspect, isDeepStrictEqual } from "node:util"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type {
  NewRun,
  RunHistory,
  RunRow,
  RunWrite,
  ScheduleRow,
  WorkflowStore,
} from "../../../src/WorkflowStore.ts"
import { start } from "../conformanceFixture.ts"

export type Store = WorkflowStore["Service"]

/** A store, and what is its own. */
export interface Side {
  readonly store: Store
  /** Where its reading of emitted events is. */
  cursor: string | null
  /** A client in an open transaction, and what ends that with a commit. */
  readonly begin: Effect.Effect<{ readonly client: unknown; readonly commit: Effect.Effect<void> }>
  /** Ids of sent events by `name of the run`, oldest first, as it shows them. */
  readonly events: Map<string, ReadonlyArray<number>>
}

export interface Operation {
  readonly text: string
  readonly run: (side: Side) => Effect.Effect<unknown, unknown>
}

export const at = (text: string, run: Operation["run"]): Operation => ({ text, run })

/** Numbers from a seed, then zeros: the first of any choice is the plainest one. */
export class Dice {
  readonly #numbers: ReadonlyArray<number>
  #next = 0

  constructor(numbers: ReadonlyArray<number>) {
    this.#numbers = numbers
  }

  /** From 0 up to `below`, not included. */
  int(below: number): number {
    return below <= 1 ? 0 : (this.#numbers[this.#next++] ?? 0) % below
  }

  pick<A>(list: readonly [A, ...ReadonlyArray<A>]): A
  pick<A>(list: ReadonlyArray<A>): A | undefined
  pick<A>(list: ReadonlyArray<A>): A | undefined {
    return list[this.int(list.length)]
  }

  /** True once in so many. Never by a zero. */
  oneIn(times: number): boolean {
    return this.int(times) === times - 1
  }
}

/** What a sequence has done so far, and what the stores show of it. */
export class World {
  now = start
  /** Runs that some operation has named as new, oldest first. */
  readonly ids: Array<string> = []
  readonly inserted: Array<NewRun> = []
  readonly sent: Array<{ readonly text: string; readonly of: (side: Side) => RunWrite }> = []
  /** Incarnations of each worker, the last one is the present. */
  readonly workers: Array<Array<string>> = [[], [], []]
  /** The tokens of each run that were a claim's, oldest first. */
  readonly granted: Map<string, Array<number>> = new Map()
  /** Claims that a write of their holder has let go: nothing new is sent under them. */
  readonly letGo: Set<string> = new Set()
  rows: ReadonlyMap<string, RunRow> = new Map()
  histories: ReadonlyMap<string, RunHistory> = new Map()
  schedules: ReadonlyArray<ScheduleRow> = []
  readonly trace: Array<string> = []

  get held(): ReadonlyArray<RunRow> {
    return [...this.rows.values()].filter((row) => row.workerId !== null)
  }
}

/** `name` tells the stores apart. */
export type Verb = Exclude<keyof Store, "name" | "sparesConnection" | "overlap">

/** `null`: not at this moment. */
export type Generator = (world: World, dice: Dice) => Operation | null

/** `answer`, `failure` or `defect`, in a form in which two stores are compared. */
const outcomeOf = (exit: Exit.Exit<unknown, unknown>): unknown => {
  if (Exit.isSuccess(exit)) return { answer: normal(exit.value) }
  const failed = Cause.findErrorOption(exit.cause)
  if (failed._tag === "Some") return { failure: errorOf(failed.value) }
  return { defect: String(Cause.squash(exit.cause)) }
}

/** Tag and fields. The words are each store's own, and so is what lies behind. */
const errorOf = (error: unknown): unknown => {
  if (typeof error !== "object" || error === null || !("_tag" in error)) return error
  const { reason: _reason, cause: _cause, ...fields } = error as unknown as Record<string, unknown>
  return normal({ ...fields })
}

const ownIds: ReadonlySet<string> = new Set(["eventId", "controlId", "cursor"])

/** Without what is a store's own; values, not the text in which they are stored. */
export const normal = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(normal)
  if (typeof value !== "object" || value === null) return value
  if ("codec" in value && "json" in value) {
    const { codec, json } = value as { readonly codec: string; readonly json: string }
    return { codec, value: JSON.parse(json) as unknown }
  }
  const out: Record<string, unknown> = {}
  for (const [key, part] of Object.entries(value)) {
    if (part !== undefined && !ownIds.has(key)) out[key] = normal(part)
  }
  return out
}

/** For answers whose order is not promised. */
export const sorted = <A extends { readonly workflowRunId: string }>(
  list: ReadonlyArray<A>,
): ReadonlyArray<A> =>
  list.toSorted((a, b) => (a.workflowRunId < b.workflowRunId ? -1 : Number(a !== b)))

/** What a store shows of the runs at every moment. */
const look = (world: World, { store, events }: Side) =>
  Effect.gen(function* () {
    const [rows, histories, schedules] = yield* Effect.all(
      [store.getRuns(world.ids), store.loadHistory(world.ids), store.listSchedules],
      { concurrency: "unbounded" },
    )
    for (const history of histories) {
      events.set(
        history.workflowRunId,
        history.events.map((event) => event.eventId),
      )
    }
    // in no promised order
    const ordered = sorted(histories).map((one) =>
      Object.assign({}, one, {
        timers: one.timers.toSorted((a, b) => (a.stepKey < b.stepKey ? -1 : 1)),
      }),
    )
    return { rows: sorted(rows), histories: ordered, schedules }
  })

/** Everything else that a store shows. */
const lookCloser = (world: World, { store }: Side) =>
  Effect.forEach(
    world.ids,
    (id) =>
      Effect.all(
        {
          steps: store.getSteps(id),
          events: store.getEvents(id),
          controls: store.getControls(id),
          situation: Effect.map(store.getSituation(id), (situation) =>
            situation === null
              ? null
              : {
                  ...situation,
                  workers: situation.workers.toSorted((a, b) => (a.workerId < b.workerId ? -1 : 1)),
                },
          ),
        },
        { concurrency: "unbounded" },
      ),
    { concurrency: 3 },
  )

export class Difference extends Error {}

const compare = (world: World, what: string, memory: unknown, postgres: unknown): void => {
  if (isDeepStrictEqual(memory, postgres)) return
  const show = (value: unknown) => inspect(value, { depth: 12, breakLength: 140, sorted: true })
  throw new Difference(
    [
      `${what} differ:`,
      ...differences(memory, postgres).slice(0, 12),
      `memory:   ${show(memory).slice(0, 3000)}`,
      `postgres: ${show(postgres).slice(0, 3000)}`,
      "after:",
      ...world.trace.map((line, n) => `${n + 1}. ${line}`),
    ].join("\n"),
  )
}

/** Where two values differ. */
function differences(a: unknown, b: unknown, path = ""): ReadonlyArray<string> {
  if (isDeepStrictEqual(a, b)) return []
  const isRecord = (value: unknown) => typeof value === "object" && value !== null
  if (!isRecord(a) || !isRecord(b)) return [`  ${path}: ${inspect(a)} and ${inspect(b)}`]
  const [x, y] = [a, b] as [Record<string, unknown>, Record<string, unknown>]
  const keys = new Set([...Object.keys(x), ...Object.keys(y)])
  return [...keys].flatMap((key) => differences(x[key], y[key], `${path}.${key}`))
}

const atOf = (now: number): Clock.Clock => ({
  currentTimeMillisUnsafe: () => now,
  currentTimeMillis: Effect.succeed(now),
  currentTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
  currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
  monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
  monotonicTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
  sleep: () => Effect.never,
})

/** Asks both stores, and compares what they answer and what they show then. */
export const play = Effect.fnUntraced(function* (
  world: World,
  sides: { readonly memory: Side; readonly postgres: Side; readonly clock: { now: number } },
  operation: Operation,
  depth: "answers" | "states" | "everything",
) {
  const { memory, postgres, clock } = sides
  clock.now = world.now
  const onMemory = Effect.provideService(Clock.Clock, atOf(world.now))
  const mine = outcomeOf(yield* Effect.exit(onMemory(operation.run(memory))))
  world.trace.push(`${operation.text} → ${inspect(mine, { depth: 4, breakLength: Infinity })}`)
  const theirs = outcomeOf(yield* Effect.exit(operation.run(postgres)))
  compare(world, `answers to ${operation.text}`, mine, theirs)
  if (depth === "answers") return mine
  const seen = yield* onMemory(look(world, memory))
  compare(
    world,
    `states after ${operation.text}`,
    normal(seen),
    normal(yield* look(world, postgres)),
  )
  world.rows = new Map(seen.rows.map((row) => [row.workflowRunId, row]))
  for (const { workflowRunId, token } of world.held) {
    const granted = world.granted.get(workflowRunId) ?? []
    if (granted.at(-1) !== token) granted.push(token)
    world.granted.set(workflowRunId, granted)
  }
  world.histories = new Map(seen.histories.map((one) => [one.workflowRunId, one]))
  world.schedules = seen.schedules
  if (depth === "states") return mine
  const close = normal(yield* onMemory(lookCloser(world, memory)))
  compare(world, "closer looks", close, normal(yield* lookCloser(world, postgres)))
  return mine
})
