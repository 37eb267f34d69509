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
  {
    ...mutant(
      "sweep-ends-undoing",
      "a run that is swept while it undoes begins anew",
      "postgres/sweep.ts",
      "status = case when r.status = 'compensating' then r.status else 'pending' end",
      "status = 'pending'",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "sweep-leaves-token",
      "a run that is swept keeps its token, in Postgres",
      "postgres/sweep.ts",
      "        claim_token = r.claim_token + 1,\n        status",
      "        status",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "wake-of-the-same-batch",
      "a run parks though its child settles in the same batch",
      "postgres/commitTransitions.ts",
      "h.wake_counter + coalesce(k.times, 0) <> h.wakes as woken",
      "h.wake_counter <> h.wakes as woken",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "final-row-changes",
      "a row that stands is replaced by a later one",
      "postgres/commitStatement.ts",
      "  where s.status = 'retrying'\n    and (excluded",
      "  where s.status <> 'nothing'\n    and (excluded",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "emitted-each-sending",
      "a commit that is sent again emits its events again, in Postgres",
      "postgres/commitStatement.ts",
      "join written r on r.workflow_run_id = h.run and r.step_key = x.key",
      "join held r on r.run = h.run",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "early-end-of-sleep",
      "a sleep is over when its worker says so, in Postgres",
      "postgres/commitStatement.ts",
      "where (x.wake_at is null or x.wake_at <= c.at)",
      "where (x.wake_at is null or x.wake_at <= c.at + interval '1 day')",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "timer-row-moves",
      "a sleep that is reached again begins anew, in Postgres",
      "postgres/commitStatement.ts",
      "on conflict (workflow_run_id, step_key) do nothing\n  returning workflow_run_id, step_key, wake_at",
      "on conflict (workflow_run_id, step_key) do update set wake_at = excluded.wake_at\n  returning workflow_run_id, step_key, wake_at",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "deadline-while-undoing",
      "the deadline of a run ends its undoing, in Postgres",
      "postgres/commitTransitions.ts",
      "case when not f.compensating then f.deadline_at end",
      "f.deadline_at",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "settles-beside-its-parent",
      "a child settles, and its parent, which is locked, is not woken",
      "postgres/commitStatement.ts",
      "or f.parent_run_id in (select p.workflow_run_id from parents p)",
      "or f.parent_run_id in (select f.parent_run_id from parents p) or true",
    ),
    tests: overlap,
  },
  {
    ...mutant(
      "retry-keeps-failures",
      "the next attempt remembers the failure of the last, in Postgres",
      "postgres/commitTransitions.ts",
      "and (s.status = 'retrying' or (s.status = 'failed' and s.position >= k.position))",
      "and (s.status = 'retrying' or (s.status = 'failed' and s.position > k.position))",
    ),
    tests: conformance,
  },
  {
    ...mutant(
      "cancel-leaves-asleep",
      "a run that sleeps hears of its cancel when it wakes",
      "postgres/requests.ts",
      "ready = v.answer = 'requested' and v.worker_id is null,",
      "ready = r.ready and v.worker_id is null,",
    ),
    tests: conformance,
  },
]
