/** What only Postgres can show. */
import { type Mutant, mutant } from "./mutant.ts"

const overlap = {
  project: "integration",
  files: ["test/store/postgres-overlap.pg.test.ts"],
} as const

const conformance = {
  project: "integration",
  files: ["test/store/postgres-conformance.pg.test.ts"],
} as const

export const postgresMutants: ReadonlyArray<Mutant> = [
  {
    ...mutant(
      "fence-without-lock",
      "the fence looks at the token, and locks nothing",
      "postgres/commitStatement.ts",
      'for no key update${shape.wait ? "" : " skip locked"}',
      '${shape.wait ? "" : ""}',
    ),
    tests: overlap,
  },
  {
    ...mutant(
      "fence-for-key-share",
      "the fence's lock does not exclude another claim's write",
      "postgres/commitStatement.ts",
      'for no key update${shape.wait ? "" : " skip locked"}',
      'for key share${shape.wait ? "" : " skip locked"}',
    ),
    tests: overlap,
  },
  {
    ...mutant(
      "claim-without-look",
      "a claim believes what it read before it had the lock",
      "postgres/claimRuns.ts",
      '    where r.worker_id is null\n      and (r.ready or r.due_at <= ${steady("$1")})\n    order by c.priority',
      "    where true\n    order by c.priority",
    ),
    tests: overlap,
  },
  {
    ...mutant(
      "history-in-the-claim",
      "history is read by the statement that claims: what was committed beside it is missing",
      "postgres/claimRuns.ts",
      "(l.started_at is not null or l.wake_counter > 0) as has_history",
      "(exists (select 1 from ${n.steps} h where h.workflow_run_id = r.workflow_run_id)) as has_history",
    ),
    tests: overlap,
  },
  {
    ...mutant(
      "tick-without-unique-row",
      "a tick that fired before its schedule was made anew fires again",
      "postgres/schedules.ts",
      "on conflict (schedule_key, tick) do nothing\n      returning schedule_key",
      "on conflict (schedule_key, tick) do update set fired_at = excluded.fired_at\n      returning schedule_key",
    ),
    tests: conformance,
  },
]
