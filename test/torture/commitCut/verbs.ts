/**
 * S8 at the store: each verb that writes, with its connection cut around each unit that it sends. What
 * whoever sent it does then must bring it to its end: the answer is one that was to be had, and every
 * row is as it would be had nothing been cut.
 */
import { isDeepStrictEqual } from "node:util"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import pg from "pg"
import { EngineClock } from "../../../src/EngineClock.ts"
import * as PostgresStore from "../../../src/PostgresStore.ts"
import { WorkflowStore } from "../../../src/WorkflowStore.ts"
import { Fixture, id, start, workerId } from "../../store/conformanceFixture.ts"
import type { Dice } from "../../support/dice.ts"
import { type Cut, cutKinds, startWireProxy, type Unit } from "../wireProxy.ts"
import { type Case, cases, readers, type Round } from "./cases.ts"

export interface VerbsReport {
  rounds: number
  cuts: number
  readonly cutsPerVerb: Record<string, number>
}

interface Place {
  readonly s: Fixture
  readonly fresh: () => Fixture["store"]
  readonly rows: () => Promise<Rows>
  readonly empty: () => Promise<void>
}

type Rows = Readonly<Record<string, ReadonlyArray<Record<string, unknown>>>>

const schema = "cut"

/** Plays `perVerb` rounds of each verb, and throws at the first that does not converge. */
export const cutVerbs = async (options: {
  readonly url: string
  readonly dice: Dice
  readonly perVerb: number
  readonly only?: string | undefined
  readonly log: (line: string) => void
}): Promise<VerbsReport> => {
  const { url, dice, perVerb, log } = options
  const report: VerbsReport = { rounds: 0, cuts: 0, cutsPerVerb: {} }
  const proxy = await startWireProxy(url)
  const scope = Scope.makeUnsafe()
  const direct = new pg.Client({ connectionString: url })
  direct.on("error", () => undefined)
  await direct.connect()
  try {
    const place = await open(direct, proxy.url, scope)
    assertComplete(place.s.store)
    for (const [verb, variants] of Object.entries(cases)) {
      if (options.only !== undefined && options.only !== verb) continue
      const own = dice.fork()
      let cuts = 0
      for (let n = 0; n < perVerb || n < variants.length; n++) {
        const one = variants[n % variants.length] as Case
        cuts += await playOne({ place, proxy, one, verb, dice: own, kind: cutKinds[n % 3] as Cut })
        report.rounds++
      }
      report.cuts += cuts
      report.cutsPerVerb[verb] = cuts
      log(`${verb}: ${cuts} cuts`)
    }
    return report
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void)).catch(() => undefined)
    await direct.end()
    await proxy.close()
  }
}

/** A verb that is new to the contract has a case here, or is said to leave nothing. */
const assertComplete = (store: Fixture["store"]): void => {
  const known = new Set<string>([...Object.keys(cases), ...readers])
  const missing = Object.keys(store).filter((verb) => !known.has(verb))
  if (missing.length > 0) throw new Error(`S8 has no case for: ${missing.join(", ")}`)
}

const open = async (direct: pg.Client, url: string, scope: Scope.Closeable): Promise<Place> => {
  const clock = Layer.succeed(EngineClock, { now: Effect.succeed(start) })
  const storeOn = (name: string) =>
    Effect.runPromise(
      Effect.map(
        Layer.buildWithScope(
          Layer.provide(PostgresStore.layerUrl({ url, schema: name, maxConnections: 5 }), clock),
          scope,
        ),
        (context) => context.mapUnsafe.get(WorkflowStore.key) as Fixture["store"],
      ),
    )
  const store = await storeOn(schema)
  await Effect.runPromise(store.migrate)
  await direct.query("create table public.effects (n int)")
  const tables = (
    await direct.query<{ name: string }>(
      `select quote_ident(table_schema) || '.' || quote_ident(table_name) as name
      from information_schema.tables
      where table_schema in ($1, 'public') and table_name <> 'flowly_migrations' order by 1`,
      [schema],
    )
  ).rows.map(({ name }) => name)

  let fresh: Fixture["store"] | undefined
  return {
    s: new Fixture(store),
    fresh: () => (fresh ??= unmade(storeOn)),
    rows: async () => {
      const all: Record<string, ReadonlyArray<Record<string, unknown>>> = {}
      for (const table of tables) {
        const { rows } = await direct.query<{ row: Record<string, unknown> }>(
          `select to_jsonb(t) as row from ${table} t order by to_jsonb(t)::text`,
        )
        all[table] = rows.map(({ row }) => row)
      }
      const { rows } = await direct.query(
        `select table_name from information_schema.tables where table_schema = $1 order by 1`,
        [unmadeSchema],
      )
      all["a fresh schema"] = rows
      return all
    },
    empty: async () => {
      for (const table of tables) await direct.query(`delete from ${table}`)
      await direct.query(`drop schema if exists ${unmadeSchema} cascade`)
    },
  }
}

const unmadeSchema = "cut_unmade"

/** A store whose schema is not there; only its `migrate` is asked for. */
const unmade = (storeOn: (name: string) => Promise<Fixture["store"]>): Fixture["store"] => {
  const made = storeOn(unmadeSchema)
  const migrate = Effect.flatMap(
    Effect.promise(() => made),
    (store) => store.migrate,
  )
  return { migrate } as Fixture["store"]
}

const roundOf = ({ s, fresh }: Place): Round => ({
  s,
  n: 1,
  worker: workerId(1),
  workflow: "w",
  key: "k",
  claim: { workflowRunId: id(1), token: 1 },
  fresh,
})

/** Without what two sendings may rightly leave different: the log has a line for each. */
const comparable = (rows: Rows, { twice = [] }: Case): unknown =>
  Object.fromEntries(
    Object.entries(rows).map(([table, all]) => {
      const stripped = all.map((row) => {
        const { xid: _1, event_id: _2, wake_id: _3, ...rest } = row
        if (twice.includes("wakeCounter")) delete rest["wake_counter"]
        if (twice.includes("token")) delete rest["claim_token"]
        return rest
      })
      const isLogged = (row: Record<string, unknown>) => row["direction"] === "control"
      const once = stripped.filter(
        (row, at) =>
          !(twice.includes("controls") && isLogged(row)) ||
          stripped.findIndex((other) => isDeepStrictEqual(other, row)) === at,
      )
      return [table, once]
    }),
  )

const runQuietly = <A>(effect: Effect.Effect<A, any>): Promise<A> =>
  Effect.runPromise(effect as Effect.Effect<A>)

/** As whoever asks the store does: what is unavailable is asked again. */
const untilAnswered = (act: Effect.Effect<unknown, any>): Effect.Effect<unknown> =>
  act.pipe(
    Effect.catchTag("StoreRejected" as never, () => Effect.succeed("StoreRejected")),
    Effect.tapError(() => Effect.sleep(3)),
    Effect.retry({ while: (error: any) => error?._tag === "StoreUnavailable", times: 50 }),
    Effect.orDie,
  ) as Effect.Effect<unknown>

interface Baseline {
  readonly answer: unknown
  readonly rows: unknown
  readonly units: number
}

const baselines = new WeakMap<Case, Baseline>()

/** Without a cut: its answer, its rows, and how many units it takes. */
const baselineOf = async (
  place: Place,
  proxy: Awaited<ReturnType<typeof startWireProxy>>,
  one: Case,
): Promise<Baseline> => {
  const known = baselines.get(one)
  if (known !== undefined) return known
  const round = roundOf(place)
  await place.empty()
  await runQuietly(one.before(round))
  let units = 0
  const stop = proxy.watch(() => units++)
  const answer = await runQuietly(one.send(round))
  stop()
  const baseline = { answer, rows: comparable(await place.rows(), one), units }
  baselines.set(one, baseline)
  return baseline
}

const playOne = async (given: {
  readonly place: Place
  readonly proxy: Awaited<ReturnType<typeof startWireProxy>>
  readonly one: Case
  readonly verb: string
  readonly dice: Dice
  readonly kind: Cut
}): Promise<number> => {
  const { place, proxy, one, verb, dice, kind } = given
  const baseline = await baselineOf(place, proxy, one)
  const what = `${verb}, ${one.name}`
  if (baseline.units === 0) throw new Error(`S8: ${what} sends nothing`)
  const round = roundOf(place)
  await place.empty()
  await runQuietly(one.before(round))
  // each unit is hit, the committing one most often
  const chosen = dice.chance(0.5) ? null : dice.whole(1, baseline.units)
  let seen = 0
  const matches = (unit: Unit) => (chosen === null ? unit.commits : ++seen === chosen)
  const order = proxy.cut(kind, matches, { lateMs: dice.whole(1, 30) })
  const first = await runQuietly(Effect.exit(one.send(round)))
  order.withdraw()
  if (!order.isTaken()) return 0
  const where = `${what}, cut ${kind} unit ${chosen ?? "that commits"}`
  const isHere = Exit.isSuccess(first)
  if (!isHere && dice.chance(0.3)) await new Promise((r) => setTimeout(r, dice.whole(1, 40)))
  if (!isHere && Exit.findErrorOption(first)._tag === "None") {
    throw new Error(`S8: ${where}: it died: ${Cause.pretty(first.cause)}`)
  }
  const answer = isHere
    ? first.value
    : await runQuietly(untilAnswered((one.converge ?? one.send)(round)))
  await order.done
  // what was carried out late may have hit what converged: ask once more, as a level-triggered loop
  const rows = comparable(await place.rows(), one)
  const possible = [baseline.answer, ...(one.again ?? [])]
  if (!possible.some((expected) => isDeepStrictEqual(answer, expected))) {
    throw new Error(`S8: ${where}: answered ${JSON.stringify(answer)}`)
  }
  if (!isDeepStrictEqual(rows, baseline.rows)) {
    throw new Error(`S8: ${where}: the rows differ:\n${differences(baseline.rows, rows)}`)
  }
  return 1
}

const differences = (expected: unknown, got: unknown): string => {
  const lines: Array<string> = []
  for (const [table, rows] of Object.entries(expected as Rows)) {
    const now = (got as Rows)[table]
    if (isDeepStrictEqual(rows, now)) continue
    lines.push(
      `${table}: expected ${JSON.stringify(rows)}`,
      `${table}: got      ${JSON.stringify(now)}`,
    )
  }
  return lines.join("\n")
}
