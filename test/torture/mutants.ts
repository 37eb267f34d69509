/**
 * Bugs to plant for level C: each is an edit of `src`, made in a copy. They are such as only a real
 * server, real processes or a real network can show.
 */
import type { Mutant } from "../simulation/mutants/index.ts"

/** A bug, and the scenario that should find it. */
export interface TortureMutant extends Mutant {
  readonly scenario: string
}

export const mutants: ReadonlyArray<TortureMutant> = [
  {
    name: "fence-without-lock",
    breaks: "the fence of a commit reads the token, but does not lock the row",
    scenario: "S5",
    edits: [
      {
        file: "postgres/commitStatement.ts",
        find: '    for no key update${shape.wait ? "" : " skip locked"}\n',
        replace: "",
      },
    ],
  },
  {
    name: "lapsed-lease-renewable",
    breaks: "a frozen worker takes up its lease where it left it",
    scenario: "S5",
    edits: [
      {
        file: "postgres/workers.ts",
        find: '        and w.lease_expires_at > ${clock("$1")}\n        and w.retired_at is null',
        replace: "        and w.retired_at is null",
      },
    ],
  },
  {
    name: "unknown-is-failure",
    breaks: "a commit whose outcome is unknown is not sent again",
    scenario: "S6",
    edits: [
      {
        file: "Journal.ts",
        find: 'while: (error: StoreError) => error._tag === "StoreUnavailable",',
        replace:
          'while: (error: StoreError) => error._tag === "StoreUnavailable" && error.outcome === "not-applied",',
      },
    ],
  },
  {
    name: "transaction-recorded-outside",
    breaks: "what a transactional step did is committed before its record is written",
    scenario: "S4",
    edits: [
      {
        file: "postgres/transactions.ts",
        find: '        yield* database.write("transact", "savepoint flowly_record", [])',
        replace:
          '        yield* database.write("transact", "commit", [])\n' +
          '        yield* Effect.sleep("30 millis")\n' +
          '        yield* database.write("transact", "begin", [])',
      },
    ],
  },
  {
    name: "sweep-of-the-living",
    breaks: "the sweep takes the runs of workers whose lease is about to end",
    scenario: "S4",
    edits: [
      {
        file: "postgres/sweep.ts",
        find: 'const hasLapsed = `w.lease_expires_at <= ${steady("$1")}',
        replace:
          "const hasLapsed = `w.lease_expires_at <= ${steady(\"$1\")} + interval '1100 milliseconds'",
      },
    ],
  },
  {
    name: "sweep-fails-runs",
    breaks: "a run whose worker is gone has failed",
    scenario: "S4",
    edits: [
      {
        file: "postgres/sweep.ts",
        find: "status = case when r.status = 'compensating' then r.status else 'pending' end,\n        crash_count = case when j.progressed",
        replace:
          "status = 'failed', completed_at = j.at,\n        crash_count = case when j.progressed",
      },
    ],
  },
  {
    name: "trust-without-end",
    breaks: "a worker trusts its lease for ever",
    scenario: "S7",
    edits: [
      {
        file: "worker/lease.ts",
        find: "trusted: () => monotonicMs() < trustedUntil,",
        replace: "trusted: () => registered,",
      },
    ],
  },
  {
    name: "place-not-given-back",
    breaks: "a transactional step whose session ends strands its run",
    scenario: "S6",
    edits: [
      {
        file: "postgres/transactions.ts",
        find: "Cause.map(asFailure(cause), (error)",
        replace: "Cause.map(cause, (error)",
      },
      {
        file: "engine/transactions.ts",
        find: "          place === null\n            ? Effect.fail({",
        replace:
          "          defect !== undefined ? Effect.die(defect) : place === null\n            ? Effect.fail({",
      },
    ],
  },
  {
    name: "no-reconcile",
    breaks: "a claim whose reply was lost stays with a worker that does not know of it",
    scenario: "S6",
    edits: [
      {
        file: "worker/lease.ts",
        find: "if (orphans.length > 0) {",
        replace: "if (orphans.length > 1e9) {",
      },
    ],
  },
  {
    name: "resent-unrecognised",
    breaks: "what stands of a write that was sent before is not recognised as its own",
    scenario: "S8",
    edits: [
      {
        file: "postgres/standing.ts",
        find: "  if (applied || (!found.held && releases(write)) || standsByRecords(write, found)) {",
        replace: "  if (applied) {",
      },
    ],
  },
  {
    name: "read-only-is-final",
    breaks: "a server that takes no writes for a moment has refused them for good",
    scenario: "S9",
    edits: [{ file: "postgres/sqlErrors.ts", find: '  state === "25006" ||\n', replace: "" }],
  },
  {
    name: "migrate-without-lock",
    breaks: "processes that migrate at once do not wait for each other",
    scenario: "S10",
    edits: [
      {
        file: "postgres/migrate.ts",
        find: "select pg_advisory_xact_lock($1::int4, $2::int4)",
        replace: "select $1::int4, $2::int4",
      },
    ],
  },
  {
    name: "migrate-by-halves",
    breaks: "each statement of a migration is committed by itself",
    scenario: "S10",
    edits: [
      {
        file: "postgres/migrate.ts",
        find: "      for (const statement of migration.statements(names)) yield* execute(statement)",
        replace:
          "      for (const statement of migration.statements(names)) {\n" +
          "        yield* execute(statement)\n" +
          '        yield* execute("commit")\n' +
          '        yield* execute("begin")\n' +
          "      }",
      },
    ],
  },
  {
    name: "head-of-all-queues",
    breaks:
      "a claim reads the head of the queue, whoever it is for, and looks then what is its own",
    scenario: "S13",
    edits: [
      {
        file: "postgres/claimRuns.ts",
        find: "        where ${ofWorkflow} and r.ready and r.crash_count < 2",
        replace: "        where r.ready and r.crash_count < 2",
      },
      {
        file: "postgres/claimRuns.ts",
        find: "    where r.worker_id is null\n      and (r.ready",
        replace:
          "    where r.worker_id is null and r.workflow = any ($3::text[])\n      and (r.ready",
      },
    ],
  },
  {
    name: "small-pool-accepted",
    breaks: "a worker starts with fewer connections than it needs",
    scenario: "S14",
    edits: [
      {
        file: "PostgresStore.ts",
        find: "Effect.andThen(verifyPool(maxConnectionsOf(sql), needs), verifySchema(database))",
        replace: "verifySchema(database)",
      },
    ],
  },
  {
    name: "transactions-take-all",
    breaks: "transactional steps may hold every connection, the heartbeat's included",
    scenario: "S14",
    edits: [
      {
        file: "postgres/transactions.ts",
        find: "max === undefined ? cautious : max - room.reserved()",
        replace: "max === undefined ? cautious : max",
      },
    ],
  },
  {
    name: "suspects-among-others",
    breaks: "runs that have crashed twice are claimed together with those that have not",
    scenario: "S16",
    edits: [
      {
        file: "postgres/claimRuns.ts",
        find: "        where ${ofWorkflow} and not r.ready and r.crash_count < 2",
        replace: "        where ${ofWorkflow} and not r.ready",
      },
    ],
  },
  {
    name: "poison-for-ever",
    breaks: "a run that takes its processes with it is tried again and again",
    scenario: "S16",
    edits: [
      {
        file: "postgres/sweep.ts",
        find: "crash_count = case when j.progressed then 0 else r.crash_count + 1 end",
        replace: "crash_count = case when j.progressed then 0 else 1 end",
      },
    ],
  },
  {
    name: "any-version",
    breaks: "a run is claimed by code of another version than its own",
    scenario: "S18",
    edits: [
      {
        file: "postgres/claimRuns.ts",
        find: "const ofWorkflow = `r.workflow = w.workflow and coalesce(r.version, '') = w.version`",
        replace: "const ofWorkflow = `r.workflow = w.workflow`",
      },
    ],
  },
  {
    name: "any-version-executed",
    breaks: "a run of a version that is not known is executed by another",
    scenario: "S18",
    edits: [
      {
        file: "postgres/claimRuns.ts",
        find: "const ofWorkflow = `r.workflow = w.workflow and coalesce(r.version, '') = w.version`",
        replace: "const ofWorkflow = `r.workflow = w.workflow`",
      },
      {
        file: "engine/registry.ts",
        find: "    get: (workflow) => known.get(workflowKey(workflow)),",
        replace:
          "    get: (workflow) =>\n" +
          "      known.get(workflowKey(workflow)) ??\n" +
          "      [...known.values()].find(({ name }) => name === workflow.name),",
      },
    ],
  },
  {
    name: "stop-gives-no-time",
    breaks: "a stop ends the steps that execute, however much time it was given",
    scenario: "S19",
    edits: [
      {
        file: "Worker.ts",
        find: "      runs.handBackAll()\n",
        replace: "      runs.forceHandBackAll()\n",
      },
    ],
  },
  {
    name: "stop-drops",
    breaks: "a stop leaves its runs to the lapse of the lease",
    scenario: "S19",
    edits: [
      {
        file: "Worker.ts",
        find: "      runs.forceHandBackAll()\n",
        replace: "      runs.dropAll()\n",
      },
      {
        file: "worker/lease.ts",
        find: "      if (held.length > 0) yield* store.releaseClaims(held)\n",
        replace: "",
      },
    ],
  },
  {
    name: "tick-twice",
    breaks: "neither the schedule's row nor the tick's keeps two tickers apart",
    scenario: "S11",
    edits: [
      {
        file: "postgres/schedules.ts",
        find: "      for no key update of s skip locked\n",
        replace: "",
      },
      {
        file: "postgres/schedules.ts",
        find: "      on conflict (schedule_key, tick) do nothing\n",
        replace:
          "      on conflict (schedule_key, tick) do update set fired_at = excluded.fired_at\n",
      },
    ],
  },
  {
    name: "tick-by-own-clock",
    breaks: "a process fires what is due by its own clock",
    scenario: "S11",
    edits: [
      {
        file: "worker/ticker.ts",
        find: "  const { now, nextTick: soonest, schedules } = yield* store.dueSchedules({ limit: 100 })",
        replace:
          "  const { nextTick: soonest, schedules } = yield* store.dueSchedules({ limit: 100 })\n" +
          "  const now = Date.now()",
      },
    ],
  },
]
