/**
 * S10: many processes migrate a fresh schema at once, and one of them is killed in the middle of it,
 * most often the very one that holds the lock. Everything is applied once, and the others hear of
 * nothing. (An older schema to migrate from there will be with the second release.)
 */
import { type ChildProcess, fork } from "node:child_process"
import pg from "pg"
import type { Context, Scenario } from "../scenario.ts"

interface Migrator {
  readonly name: string
  readonly child: ChildProcess
  readonly migrate: (schema: string) => Promise<string | null | "killed">
}

export const migrationStorm: Scenario = {
  id: "S10",
  title: "Many processes migrate one schema at once, and one is killed",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const { sized, count, say, dice } = context
    const { rounds, processes } = sized({
      T0: { rounds: 1, processes: 6 },
      T1: { rounds: 10, processes: 20 },
      T2: { rounds: 50, processes: 20 },
    })
    const url = await context.database()
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    context.atEnd(() => client.end())
    const children = new Set<ChildProcess>()
    context.atEnd(async () => {
      for (const child of children) child.kill("SIGKILL")
    })
    let born = 0
    const bear = () => spawn(url, `migrator ${++born}`, children)
    const crew = await Promise.all(Array.from({ length: processes }, bear))
    const expected = await undisturbed(crew[0] as Migrator, client)
    for (let round = 1; round <= rounds; round++) {
      const schema = `storm_${round}`
      const killsHolder = round % 3 !== 0
      const ends = crew.map((one) => one.migrate(schema))
      const victim = killsHolder
        ? await holder(client, crew, ends)
        : await after(dice.whole(0, 60), dice.whole(0, processes - 1))
      if (victim !== null) {
        crew[victim]?.child.kill("SIGKILL")
        count("kills")
        if (killsHolder) count("kills of the one that migrates")
      }
      const outcomes = await Promise.all(ends)
      judge(context, schema, outcomes, victim)
      const got = await shapeOf(client, schema)
      if (got !== expected) {
        const message = `schema ${schema} is not the one that a single process makes`
        context.violate({ invariant: "S10", message, workflowRunId: null })
      }
      await client.query(`drop schema ${schema} cascade`)
      for (const [at, outcome] of outcomes.entries()) {
        if (outcome === "killed") crew[at] = await bear()
      }
      count("migration rounds")
      count("migrating processes", processes)
      say(`round ${round} of ${rounds}`)
    }
  },
}

const judge = (
  { violate }: Context,
  schema: string,
  outcomes: ReadonlyArray<string | null>,
  victim: number | null,
): void => {
  for (const [at, outcome] of outcomes.entries()) {
    if (outcome === null || (at === victim && outcome === "killed")) continue
    violate({ invariant: "S10", message: `migrating ${schema}: ${outcome}`, workflowRunId: null })
  }
}

const spawn = async (url: string, name: string, all: Set<ChildProcess>): Promise<Migrator> => {
  const child = fork(new URL("../migrator.ts", import.meta.url), [url, name], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  })
  all.add(child)
  await new Promise<void>((resolve, reject) => {
    child.once("message", () => resolve())
    child.once("exit", () => reject(new Error("a process that migrates did not start")))
  })
  const migrate = (schema: string) =>
    new Promise<string | null>((resolve) => {
      const onMessage = (message: { readonly error: string | null }) => end(message.error)
      const onExit = () => end("killed")
      const end = (outcome: string | null) => {
        child.off("message", onMessage)
        child.off("exit", onExit)
        if (outcome === "killed") all.delete(child)
        resolve(outcome)
      }
      child.on("message", onMessage)
      child.on("exit", onExit)
      child.send(schema)
    })
  return { name, child, migrate }
}

const after = (ms: number, victim: number) =>
  new Promise<number>((resolve) => setTimeout(() => resolve(victim), ms))

/** Who holds the advisory lock, as soon as somebody does; `null`: all was over sooner. */
const holder = async (
  client: pg.Client,
  crew: ReadonlyArray<Migrator>,
  ends: ReadonlyArray<Promise<unknown>>,
): Promise<number | null> => {
  const all = { over: false }
  void Promise.all(ends).finally(() => {
    all.over = true
  })
  while (!all.over) {
    const { rows } = await client.query<{ name: string }>(
      `select a.application_name as name from pg_locks l join pg_stat_activity a using (pid)
      where l.locktype = 'advisory' and l.granted and a.datname = current_database()`,
    )
    const at = crew.findIndex(({ name }) => name === rows[0]?.name)
    if (at >= 0) return at
  }
  return null
}

/** Tables, columns, indexes, constraints, and which migrations were applied, how often. */
const shapeOf = async (client: pg.Client, schema: string): Promise<string> => {
  const { rows } = await client.query<{ line: string }>(
    `select line from (
      select format('%s.%s %s %s', table_name, column_name, data_type, column_default) as line
      from information_schema.columns where table_schema = $1
      union all select indexdef from pg_indexes where schemaname = $1
      union all select conname || pg_get_constraintdef(oid) from pg_constraint
        where connamespace = $1::regnamespace
    ) lines order by 1`,
    [schema],
  )
  const applied = await client.query(`select id, name from ${schema}.flowly_migrations order by id`)
  return [...rows.map(({ line }) => line), JSON.stringify(applied.rows)]
    .join("\n")
    .replaceAll(schema, "schema")
}

const undisturbed = async (one: Migrator, client: pg.Client): Promise<string> => {
  const outcome = await one.migrate("alone")
  if (outcome !== null) throw new Error(`one process alone cannot migrate: ${outcome}`)
  return shapeOf(client, "alone")
}
