/**
 * Bugs to plant in one of the two stores, for the differential test to find: most of them in what only
 * happens after a crash. Which sequence of seed 1 found each (`plant.ts`); "earlier" is before undos and
 * poison runs had themes of their own, which moves them to other numbers; the first six were measured while these came to be.
 *
 * | bug | sequence |
 * |---|---|
 * | refund-leaves-suspect, release-keeps-token | 2 |
 * | wakes-without-count | 4 |
 * | latest-cancel | 15 |
 * | retry-keeps-timers | 22 (none of 150 before deadlines of steps were thrown) |
 * | skip-forgets-tries | 68 (none of 150 before undos had a theme of their own) |
 * | progress-keeps-crashes | 96 |
 * | refund-of-all | 1 (earlier) |
 * | suspects-with-others | 57 (earlier) |
 * | sweep-at-once, sweep-keeps-token, poison-one-later, poison-wakes-nobody | 2 (earlier) |
 * | any-progress | 6 (earlier) |
 * | duplicate-of-nothing | 7 (earlier) |
 * | park-without-deadline | 13 (earlier) |
 * | renewed-at-its-end | 19 (earlier) |
 * | fork-takes-one-more | 20 (earlier) |
 * | poison-fails-its-steps | 22 (none of 150 before a failure was put in each run that is made poison) |
 * | paused-stays-due | 2 |
 *
 * What it found that nobody had planted: a paused run that was dead-lettered as poison, a request to pause
 * that outlived its run, a copy of a failure taken for a later one.
 */
import { type Bug, bug } from "../../support/planting.ts"

export const bugs: ReadonlyArray<Bug> = [
  bug(
    "sweep-at-once",
    "a run that crashes its worker is due again at once",
    "postgres/sweep.ts",
    "else j.at + interval '1 second' * pg_catalog.power(2, least(r.crash_count, 20))",
    "else j.at",
  ),
  bug(
    "sweep-keeps-token",
    "a swept run keeps the token of the claim that it was taken from",
    "postgres/sweep.ts",
    "        claim_token = r.claim_token + 1,\n",
    "",
  ),
  bug(
    "any-progress",
    "a crash counts for none where an earlier claim has written something",
    "postgres/sweep.ts",
    "\n            and (s.claim_token = l.claim_token or s.compensation_token = l.claim_token)",
    "",
  ),
  bug(
    "refund-of-all",
    "a worker that returns gives back the crashes of others, too",
    "postgres/sweep.ts",
    "r.crash_count - pg_catalog.cardinality(pg_catalog.array_positions(r.crashed_by, $1::uuid)))",
    "0)",
  ),
  bug(
    "poison-one-later",
    "a run is poison one crash too late",
    "postgres/sweep.ts",
    "where r.crash_count >= 1 and r.crash_count >= $2::int",
    "where r.crash_count >= 1 and r.crash_count > $2::int",
  ),
  bug(
    "poison-wakes-nobody",
    "the parent of a dead-lettered run is not woken",
    "postgres/sweep.ts",
    "where p.workflow_run_id = k.parent_run_id and p.completed_at is null",
    "where p.workflow_run_id = k.parent_run_id and p.completed_at is not null",
  ),
  bug(
    "poison-fails-its-steps",
    "a retried poison run removes the failures it had survived",
    "postgres/sweep.ts",
    "        failed_position = ${noPosition},\n",
    "",
  ),
  bug(
    "suspects-with-others",
    "suspects are claimed beside others, when they are due",
    "postgres/claimRuns.ts",
    "and not r.ready and r.crash_count < 2",
    "and not r.ready",
  ),
  bug(
    "park-without-deadline",
    "a parked run sleeps beyond its deadline",
    "postgres/commitTransitions.ts",
    "        case when not f.compensating then f.deadline_at end\n",
    "        null::timestamptz\n",
  ),
  bug(
    "fork-takes-one-more",
    "a fork remembers the step it starts from",
    "postgres/forkRuns.ts",
    "and s.position < p.before",
    "and s.position <= p.before",
  ),
  bug(
    "skip-forgets-tries",
    "a skipped undo forgets how often it was tried",
    "postgres/compensation.ts",
    "then coalesce(s.compensation_attempts, 0) else 0 end",
    "then 0 else 0 end",
  ),
  bug(
    "duplicate-of-nothing",
    "an id twice in one call is a duplicate, though nothing was stored",
    "postgres/events.ts",
    "      when t.completed_at is not null then 'terminal'\n",
    "      when t.completed_at is not null and x.nth = 1 then 'terminal'\n",
  ),
  bug(
    "renewed-at-its-end",
    "a lease is renewed at the instant at which it lapses",
    "memory/workers.ts",
    "if (worker.leaseExpiresAt <= now) return { renewed: false, claims }",
    "if (worker.leaseExpiresAt < now) return { renewed: false, claims }",
  ),
  bug(
    "progress-keeps-crashes",
    "a claim that made progress before its end leaves the crashes before it counted",
    "memory/workers.ts",
    "  if (run.progressed) {\n    resetCrashes(run)",
    "  if (run.progressed) {\n    void resetCrashes",
  ),
  bug(
    "refund-leaves-suspect",
    "a run that is a suspect no more is still kept apart",
    "memory/workers.ts",
    "    if (run.workerId === null) DueIndex.enter(state.due, run)\n",
    "",
  ),
  bug(
    "release-keeps-token",
    "a released claim keeps its token: a late write of it passes for applied",
    "memory/claims.ts",
    "    run.token++\n    release",
    "    release",
  ),
  bug(
    "retry-keeps-timers",
    "the next attempt begins with the timers of what it removed",
    "memory/lifecycle.ts",
    "      run.timers.delete(stepKey)\n",
    "",
  ),
  bug(
    "latest-cancel",
    "a second cancel replaces the first one's choice",
    "memory/requests.ts",
    "run.cancelRequest ??= Object",
    "run.cancelRequest = Object",
  ),
  bug(
    "wakes-without-count",
    "a wake from a transaction does not reach a holder",
    "postgres/wakes.ts",
    "return `wake_counter = ${r}.wake_counter + ${times},",
    "return `wake_counter = ${r}.wake_counter + 1 + 0 * ${times},",
  ),
  bug(
    "paused-stays-due",
    "a run that is asked to pause while it parks is parked instead",
    "postgres/commitTransitions.ts",
    "and h.kind in ('Park', 'HandBack', 'RetryRun') as pausing",
    "and h.kind in ('HandBack', 'RetryRun') as pausing",
  ),
]
