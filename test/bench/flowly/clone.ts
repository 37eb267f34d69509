/**
 * Many runs out of one, by SQL: tables of a size that no engine fills in a minute.
 *
 * The rows are copied as the engine wrote them, whatever their columns are; only the run's id is
 * new, and what `set` names.
 */
import type pg from "pg"

const schema = "durable_workflow"

/** The tables in which a run has rows. */
const tables = ["workflow_runs", "workflow_steps", "sleep_timers"] as const

/** SQL: the id of clone `n`: of one time, in order, like UUIDv7. */
const idOf = (n: string, series: number) =>
  `(lpad(to_hex(${1_700_000_000_000 + series * 20_000_000} + ${n}), 12, '0') || '70008000'
    || lpad(to_hex(${n}), 12, '0'))::uuid`

/** Clones a run `count` times. Clones of one database are told apart by their `series`. */
export const cloneRun = async (
  client: pg.Client,
  options: {
    readonly workflowRunId: string
    readonly count: number
    readonly series: number
    /** SQL of columns of the run's row that differ. */
    readonly set?: Readonly<Record<string, string>>
    readonly progress?: (done: number) => void
  },
): Promise<void> => {
  const { workflowRunId, count, series, set = {} } = options
  const statements: Array<string> = []
  for (const table of tables) {
    const { rows } = await client.query<{ readonly name: string }>(
      `select column_name as name from information_schema.columns
       where table_schema = $1 and table_name = $2 and is_generated = 'NEVER'
       order by ordinal_position`,
      [schema, table],
    )
    const values = rows.map(({ name }) => {
      if (name === "workflow_run_id") return idOf("g", series)
      return (table === "workflow_runs" ? set[name] : undefined) ?? `t.${name}`
    })
    const columns = rows.map(({ name }) => name).join(", ")
    statements.push(
      `insert into ${schema}.${table} (${columns}) select ${values.join(", ")}
       from generate_series($2::bigint, $3::bigint) g cross join ${schema}.${table} t
       where t.workflow_run_id = $1::uuid`,
    )
  }
  const batch = 100_000
  for (let from = 1; from <= count; from += batch) {
    const to = Math.min(count, from + batch - 1)
    for (const statement of statements) await client.query(statement, [workflowRunId, from, to])
    options.progress?.(to)
  }
}

/** Gives a run as many records, like its last one. Its steps are "step 1", "step 2" … */
export const lengthenHistory = async (
  client: pg.Client,
  workflowRunId: string,
  steps: number,
): Promise<void> => {
  const { rows } = await client.query<{ readonly name: string }>(
    `select column_name as name from information_schema.columns
     where table_schema = $1 and table_name = 'workflow_steps' and is_generated = 'NEVER'`,
    [schema],
  )
  const changed: Readonly<Record<string, string>> = {
    step_key: "'step ' || g",
    name: "'step ' || g",
    position: "g",
    issued_after: "g - 1",
    result: "to_jsonb(g)",
  }
  const values = rows.map(({ name }) => changed[name] ?? `t.${name}`)
  await client.query(
    `insert into ${schema}.workflow_steps (${rows.map(({ name }) => name).join(", ")})
     select ${values.join(", ")}
     from (
       select * from ${schema}.workflow_steps where workflow_run_id = $1::uuid
       order by position desc limit 1
     ) t cross join generate_series(t.position + 1, $2::int) g`,
    [workflowRunId, steps],
  )
}
