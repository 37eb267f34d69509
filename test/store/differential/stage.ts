/**
 * Where sequences are played: an empty memory store and an emptied Postgres for each, one clock.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import pg from "pg"
import { EngineClock } from "../../../src/EngineClock.ts"
import * as MemoryStore from "../../../src/MemoryStore.ts"
import * as PostgresStore from "../../../src/PostgresStore.ts"
import { WorkflowStore } from "../../../src/WorkflowStore.ts"
import { leaseMs, start } from "../conformanceFixture.ts"
import { readingVerbs } from "./reading.ts"
import { generators, weights } from "./verbs.ts"
import { Dice, type Operation, play, type Side, type Verb, World } from "./world.ts"

/** An operation before it is made: which verb, and the dice for it. */
export interface Throw {
  readonly verb: Verb | "advance"
  readonly dice: ReadonlyArray<number>
}

/** In a list, each as often as its weight says. */
export const throwable: ReadonlyArray<Throw["verb"]> = [
  ...Object.entries(weights).flatMap(([verb, weight]) =>
    Array.from({ length: weight }, () => verb as Verb),
  ),
  ...Array.from({ length: 20 }, () => "advance" as const),
]

const advance = (world: World, dice: Dice): Operation => {
  const ms = dice.pick([1000, 1, 500, 1000, 1, 500, leaseMs, 60_000, 3_600_001])
  world.now += ms
  return { text: `advance ${ms}`, run: ({ store }) => store.now }
}

const tables = [
  "workflow_runs",
  "workflow_steps",
  "sleep_timers",
  "workflow_events",
  "workflow_wakes",
  "workflow_attributes",
  "workflow_workers",
  "cron_schedules",
  "schedule_ticks",
]

export interface Stage {
  /** Plays one sequence on empty stores; fails with the first difference. */
  readonly play: (sequence: ReadonlyArray<Throw>) => Promise<void>
  /** How often each verb gave each answer. */
  readonly seen: Map<string, number>
  readonly close: () => Promise<void>
}

/** What these change, if anything, is shown by the look after the next verb. */
const readsOnly: ReadonlySet<Throw["verb"]> = new Set([
  ...(Object.keys(readingVerbs) as ReadonlyArray<Verb>),
  ...(["loadHistory", "loadSources", "readSignals", "findToken", "listSchedules"] as const),
  ...(["dueSchedules", "notify", "listen", "now", "callersTransaction", "verify"] as const),
  ...(["migrate", "advance"] as const),
])

/** How many operations pass between two closer looks. */
const closerEach = 10

export const openStage = async (url: string, schema = "differential"): Promise<Stage> => {
  const clock = { now: start }
  const pool = new pg.Pool({ connectionString: url, max: 3 })
  const scope = Scope.makeUnsafe()
  const layer = PostgresStore.layerUrl({ url, schema, maxConnections: 8 }).pipe(
    PostgresStore.migrated,
    Layer.provide(Layer.succeed(EngineClock, { now: Effect.sync(() => clock.now) })),
  )
  const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  const store = Context.get(context, WorkflowStore)
  const seen = new Map<string, number>()

  const empty = tables.map((table) => `delete from ${schema}.${table}`).join("; ")
  const begin: Side["begin"] = Effect.promise(async () => {
    const client = await pool.connect()
    await client.query("begin")
    const commit = Effect.promise(async () => {
      await client.query("commit")
      client.release()
    })
    return { client, commit }
  })
  const side = (of: Side["store"], how: Side["begin"]): Side => ({
    store: of,
    cursor: null,
    begin: how,
    events: new Map(),
  })

  const playOne = Effect.fnUntraced(function* (sequence: ReadonlyArray<Throw>) {
    yield* Effect.promise(() => pool.query(`set synchronous_commit = off; ${empty}`))
    const { store: inMemory } = MemoryStore.makeUnsafe({ client: "client" })
    const nothing = Effect.succeed({ client: "client", commit: Effect.void })
    const sides = { memory: side(inMemory, nothing), postgres: side(store, begin), clock }
    const world = new World()
    for (const [index, { verb, dice: numbers }] of sequence.entries()) {
      const dice = new Dice(numbers)
      const operation = verb === "advance" ? advance(world, dice) : generators[verb](world, dice)
      if (operation === null) continue
      const isLast = index === sequence.length - 1
      const isClose = isLast || index % closerEach === 0
      const depth = isClose ? "everything" : readsOnly.has(verb) ? "answers" : "states"
      const outcome = yield* play(world, sides, operation, depth)
      const kind = `${verb}: ${kindOf(outcome)}`
      seen.set(kind, (seen.get(kind) ?? 0) + 1)
    }
  })

  return {
    play: (sequence) => Effect.runPromise(playOne(sequence)),
    seen,
    close: async () => {
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await pool.end()
    },
  }
}

/** What kind of answer it is: enough to see that sequences reach something. */
const kindOf = (outcome: unknown): string => {
  const { answer, failure, defect } = outcome as Record<string, unknown>
  if (defect !== undefined) return `defect ${String(defect)}`
  if (failure !== undefined) return `failed ${tagOf(failure)}`
  return tagOf(answer)
}

const tagOf = (value: unknown): string => {
  if (typeof value === "string" || typeof value === "boolean" || value === null)
    return String(value)
  if (typeof value === "number") return value === 0 ? "0" : "some"
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `[${tagOf(value[0])}]`
  return typeof value === "object" && "_tag" in value ? String(value._tag) : "value"
}
