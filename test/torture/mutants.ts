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
        find: 'while: (error) => error._tag === "StoreUnavailable",',
        replace:
          'while: (error) => error._tag === "StoreUnavailable" && error.outcome === "not-applied",',
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
    scenario: "S5",
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
        find: "          place === null\n            ? Effect.die(defect)",
        replace: "          defect !== undefined\n            ? Effect.die(defect)",
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
]
