/**
 * Bugs to plant: each is an edit of one file of `src`, made in a copy. The suite is as good as what
 * it finds of these.
 */

/** One bug. Each text must stand in its file exactly once. */
export interface Mutant {
  readonly name: string
  /** What it breaks, in a sentence. */
  readonly breaks: string
  readonly edits: ReadonlyArray<{
    readonly file: string
    readonly find: string
    readonly replace: string
  }>
  /**
   * Tests that must fail: instead of seeds where only Postgres can show it ("integration"), else where
   * no seed has.
   */
  readonly tests?: {
    readonly project: "unit" | "integration"
    readonly files: ReadonlyArray<string>
  }
}

const mutant = (
  name: string,
  breaks: string,
  file: string,
  find: string,
  replace: string,
): Mutant => ({ name, breaks, edits: [{ file, find, replace }] })

const overlap = {
  project: "integration",
  files: ["test/store/postgres-overlap.pg.test.ts"],
} as const

const conformance = {
  project: "integration",
  files: ["test/store/postgres-conformance.pg.test.ts"],
} as const

export const mutants: ReadonlyArray<Mutant> = [
  mutant(
    "reconcile-off",
    "a claim whose reply was lost stays with a worker that does not know of it",
    "worker/lease.ts",
    "if (orphans.length > 0) {",
    "if (orphans.length > 1e9) {",
  ),
  mutant(
    "lapsed-lease-renewable",
    "a frozen worker takes up its lease where it left it",
    "memory/workers.ts",
    "if (worker.leaseExpiresAt <= now) return { renewed: false, claims }",
    "",
  ),
  {
    ...mutant(
      "trust-without-end",
      "a worker trusts its lease for ever",
      "worker/lease.ts",
      "trusted: () => monotonicMs() < trustedUntil,",
      "trusted: () => registered,",
    ),
    tests: { project: "unit", files: ["test/worker/lease.test.ts"] },
  },
  mutant(
    "order-by-commit",
    "what one batch committed is replayed in the order of keys, not of numbers",
    "engine/machine.ts",
    "queue.sort((a, b) => a.position - b.position)",
    "queue.sort((a, b) => (a.at ?? 0) - (b.at ?? 0) || (a.key < b.key ? 1 : -1))",
  ),
  {
    name: "raw-error",
    breaks: "a body sees the error as it was thrown, and on replay as it was stored",
    edits: [
      {
        file: "ErrorPayload.ts",
        find: "    return store(error, { stackLeft: maxStack, errorsLeft: maxErrors, open: new Set() })",
        replace:
          "    const stored = store(error, { stackLeft: maxStack, errorsLeft: maxErrors, open: new Set() })\n" +
          "    raws.set(stored, error)\n    return stored",
      },
      {
        file: "ErrorPayload.ts",
        find: "export const encodeError =",
        replace: "const raws = new WeakMap<object, unknown>()\n\nexport const encodeError =",
      },
      {
        file: "ErrorPayload.ts",
        find: "  if (stored.thrown !== undefined) return restoreThrown(stored.thrown, revive)",
        replace:
          "  if (raws.has(stored)) return raws.get(stored)\n" +
          "  if (stored.thrown !== undefined) return restoreThrown(stored.thrown, revive)",
      },
    ],
  },
  mutant(
    "no-drain",
    "a failing run undoes its steps while others of them execute",
    "engine/endings.ts",
    'if (steps === "none") return then()',
    "if (steps.length > 0) return then()",
  ),
  mutant(
    "busy-is-lost",
    "a row that was locked for a moment costs the run its claim",
    "Journal.ts",
    "        default:\n          return false",
    "        default:\n          tellLost(item.fragments)\n          return true",
  ),
  mutant(
    "no-bisecting",
    "one value that the store refuses fails everything in its batch",
    "Journal.ts",
    "if (items.length > 1) {",
    "if (items.length > 1 && error instanceof StoreRejected) {\n" +
      "        return Effect.as(Effect.forEach(items, (item) => refuse(item, error)), [])\n" +
      "      }\n      if (items.length > 1) {",
  ),
  {
    name: "timer-when-parking",
    breaks: "a short sleep is not fixed when it is reached, but when it is over",
    edits: [
      {
        file: "engine/steps.ts",
        find: "  // journaled when first reached, for short sleeps too: else each crash would restart it",
        replace:
          '  if ("delayMs" in operation.until && operation.until.delayMs <= 1000) {\n' +
          "    const { delayMs } = operation.until\n" +
          "    execution.env.fork(Effect.andThen(Effect.sleep(delayMs), Effect.sync(() => execution.write({\n" +
          "      timers: [{ stepKey: issued.key, delayMs: 0 }],\n" +
          "      onCommitted: (answer) => waitUntil(execution, issued, answer.now),\n" +
          "    }))))\n    return\n  }",
      },
      {
        file: "engine/steps.ts",
        find: 'import { isTerminal } from "../Run.ts"',
        replace: 'import { isTerminal } from "../Run.ts"\nimport * as Effect from "effect/Effect"',
      },
    ],
  },
  {
    name: "interrupt-compensates",
    breaks: "a graceful stop aborts steps, and takes that for their failure",
    edits: [
      {
        file: "engine/machine.ts",
        find: "      handBackRequested = true\n",
        replace:
          "      handBackRequested = true\n" +
          '      for (const issued of open) issued.running?.abort(new Error("shutdown"))\n',
      },
    ],
  },
  {
    ...mutant(
      "counter-after-sources",
      "the wake counter is newer than the sources that it stands for",
      "engine/machine.ts",
      "execution.sourcesCounter = sources.wakeCounter",
      "execution.sourcesCounter = Math.max(sources.wakeCounter, execution.signals.wakeCounter)",
    ),
    tests: { project: "unit", files: ["test/engine/lost.test.ts", "test/worker/runs.test.ts"] },
  },
  mutant(
    "unknown-is-failure",
    "a commit whose outcome is unknown is not sent again",
    "Journal.ts",
    'while: (error) => error._tag === "StoreUnavailable",',
    'while: (error) => error._tag === "StoreUnavailable" && error.outcome === "not-applied",',
  ),
  mutant(
    "clean-release-counts",
    "a worker that stops gracefully counts as a crash of its runs",
    "memory/lifecycle.ts",
    "run.crashCount = 0\n",
    "run.crashCount = isTerminal(run.status) ? 0 : run.crashCount + 1\n",
  ),
  {
    name: "no-fence",
    breaks: "a commit is taken from whoever sends it, whatever its token",
    edits: [
      {
        file: "memory/commit.ts",
        find: "if (run === undefined || run.token !== write.token || write.token === 0) {",
        replace: "if (run === undefined || write.token === 0) {",
      },
      {
        file: "memory/commit.ts",
        find: "if (!isHeld(run, write.token)) {",
        replace: "if (!isHeld(run, run.token)) {",
      },
    ],
  },
  mutant(
    "no-wake-of-parent",
    "a child that ends does not wake its parent",
    "memory/lifecycle.ts",
    "if (parent !== undefined) wake(state, parent, now)",
    "",
  ),
  mutant(
    "park-without-look",
    "a run parks though something has woken it meanwhile",
    "memory/commit.ts",
    "if (run.wakeCounter !== transition.wakeCounter)",
    "if (run.wakeCounter < transition.wakeCounter)",
  ),
  mutant(
    "emit-each-sending",
    "a commit that is sent again emits its events again",
    "memory/commit.ts",
    "if (fresh.has(stepKey)) emit(",
    "if (fresh.size >= 0) emit(",
  ),
  mutant(
    "final-records-change",
    "a record that stands is replaced by a later one",
    "memory/commit.ts",
    'if (standing !== undefined && standing.status !== "retrying") return false',
    "",
  ),
  mutant(
    "sweep-skips-undoing",
    "a run whose worker dies while it undoes is stranded",
    "memory/workers.ts",
    "for (const workflowRunId of worker.claims) lapsed.push(state.runs.get(workflowRunId)!)",
    "for (const id of worker.claims) if (!state.runs.get(id)!.compensating) lapsed.push(state.runs.get(id)!)",
  ),
  {
    ...mutant(
      "second-child",
      "a replay starts its children anew",
      "memory/inserts.ts",
      "  run.parent === null ? undefined : state.runs.get(state.children.get(parentKey(run.parent))",
      '  run.parent === null ? undefined : state.runs.get(((_: string) => "")(parentKey(run.parent))',
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  mutant(
    "key-ignored",
    "an idempotency key does not find its run",
    "memory/inserts.ts",
    "  run.idempotencyKey === null\n    ? undefined",
    "  run.idempotencyKey !== null\n    ? undefined",
  ),
  mutant(
    "undo-in-order",
    "steps are undone in the order in which they completed",
    "engine/undoing.ts",
    ".toSorted((a, b) => (b.position ?? 0) - (a.position ?? 0))",
    ".toSorted((a, b) => (a.position ?? 0) - (b.position ?? 0))",
  ),
  mutant(
    "clock-of-the-wall",
    "the body's clock is that of its worker",
    "engine/bodyValues.ts",
    "now: () => execution.nowForBody,",
    "now: () => Date.now(),",
  ),
  {
    ...mutant(
      "newer-before-busy",
      "what was busy is sent behind what its run produced later",
      "Journal.ts",
      "fragments: [...item.fragments, ...newer.fragments]",
      "fragments: [...newer.fragments, ...item.fragments]",
    ),
    tests: { project: "unit", files: ["test/journal/answers.test.ts"] },
  },
  mutant(
    "tries-forgotten",
    "a backoff that parks forgets how often the step was tried",
    "engine/tries.ts",
    "issued.attempts = notes.ended",
    "issued.attempts = 0",
  ),
  // --- of time limits, notes and tries -----------------------------------------
  mutant(
    "older-note-wins",
    "a delayed copy of an older note of a step undoes a newer one",
    "memory/commit.ts",
    "attempts === standing.attempts ? revision > standing.revision : attempts > standing.attempts",
    "attempts + revision + standing.revision >= 0",
  ),
  mutant(
    "heartbeat-forgotten",
    "what a try told of its progress is forgotten when its run moves",
    "engine/notes.ts",
    "heartbeat: earlier?.heartbeat ?? null,",
    "heartbeat: null,",
  ),
  {
    name: "deadline-begins-anew",
    breaks: "each worker gives a step its whole deadline again",
    edits: [
      {
        file: "engine/tries.ts",
        find: "notes.deadlineAt = timer?.wakeAt ?? answer.now + toFix",
        replace: "notes.deadlineAt = timer === undefined ? answer.now : answer.now + toFix",
      },
      {
        file: "engine/tries.ts",
        find: 'if (typeof operation.deadlineMs === "number" && fixed !== undefined) notes.deadlineAt = fixed',
        replace: "if (fixed === null) return",
      },
    ],
  },
  mutant(
    "retry-without-end",
    "the last try of a step is not the last",
    "engine/tries.ts",
    "const isLast = issued.attempts >= operation.retry.maxAttempts",
    "const isLast = issued.attempts > operation.retry.maxAttempts",
  ),
  // --- of undoing ----------------------------------------------------------------
  mutant(
    "no-return-ignored",
    "what completed before a point of no return is undone all the same",
    "engine/undoing.ts",
    "(record.position ?? 0) > noReturn)",
    "(record.position ?? 0) > Math.min(noReturn, 0))",
  ),
  mutant(
    "unknown-not-undone",
    "a step that was given up is not undone, though it asked for that",
    "engine/tries.ts",
    'step.execution.record(step.issued, { _tag: "Failure", error }, { unknown })',
    'step.execution.record(step.issued, { _tag: "Failure", error }, { unknown: unknown && false })',
  ),
  mutant(
    "undone-again",
    "a run that undoes, and moves, begins from the last step again",
    "engine/undoing.ts",
    '({ compensation }) => compensation === null || compensation.status === "retrying",',
    '({ compensation }) => compensation === null || compensation.status !== "skipped",',
  ),
  mutant(
    "undo-tries-forgotten",
    "an undo that parks forgets how often it was tried",
    "engine/undoing.ts",
    "const { attempts, retryAt } = record.compensation ?? { attempts: 0, retryAt: null }",
    "const { attempts, retryAt } = { attempts: 0, retryAt: record.compensation?.retryAt ?? null }",
  ),
  // --- of transactions -------------------------------------------------------------
  mutant(
    "transaction-again",
    "a transaction whose commit was not answered is done again, unseen",
    "engine/transactions.ts",
    "return lookUp(place)",
    "drop()\n              return again",
  ),
  mutant(
    "transaction-out-of-turn",
    "what a transaction recorded is delivered before what has a lower number",
    "engine/machine.ts",
    "return lowest !== undefined && lowest < position",
    "return lowest !== undefined && lowest < position - 1e9",
  ),
  // --- of replay ---------------------------------------------------------------------
  mutant(
    "leftover-without-issued",
    "a record that the body asked for, and did not wait for, is divergence at its end",
    "engine/machine.ts",
    "      const issued = issuedByKey.get(record.key)\n" +
      "      if (issued === undefined) {\n" +
      '        if (record.kind === "patch") continue',
    "      const issued = issuedByKey.get(record.key)\n" +
      "      if (issued === undefined || record.position > 0) {\n" +
      '        if (record.kind === "patch") continue',
  ),
  mutant(
    "positions-begin-anew",
    "a replay gives numbers that were given before",
    "engine/machine.ts",
    "nextPosition = Math.max(nextPosition, (record.position ?? 0) + 1)",
    "nextPosition = Math.max(nextPosition, 1)",
  ),
  mutant(
    "event-taken-twice",
    "an event whose taking is on its way to the store is taken again",
    "engine/machine.ts",
    "sources.events.filter((event) => !execution.takenEvents.has(event.eventId))",
    "sources.events.filter((event) => event.eventId !== null)",
  ),
  mutant(
    "sources-not-read-again",
    "what wakes a run that executes is not looked at",
    "engine/machine.ts",
    "if (signals.wakeCounter !== execution.sourcesCounter) env.refreshSources()",
    "",
  ),
  mutant(
    "older-sources-win",
    "a reading of the sources that comes late undoes a newer one",
    "engine/machine.ts",
    'if (execution.mode === "stopped" || sources.wakeCounter < execution.sourcesCounter) return',
    'if (execution.mode === "stopped") return',
  ),
  mutant(
    "older-signals-win",
    "an answer that comes late takes back what a newer one told",
    "engine/machine.ts",
    "if (signals.wakeCounter < execution.signals.wakeCounter) return",
    "",
  ),
  mutant(
    "failed-child-kept",
    "a run that is tried again hears of the child of its last attempt",
    "engine/steps.ts",
    "if (known !== undefined && !failedEarlier) {",
    "if (known !== undefined) {",
  ),
  mutant(
    "failure-kept",
    "the next attempt of a run remembers the failure of the last",
    "memory/lifecycle.ts",
    'if (record.status === "retrying" || (record.status === "failed" && isAfter)) {',
    'if (record.status === "retrying") {',
  ),
  // --- of the journal ------------------------------------------------------------------
  mutant(
    "two-updates-of-one-run",
    "one batch has two writes of a run",
    "Journal.ts",
    "batch.push({ claim: item.claim, fragments: item.fragments.splice(0, taken) })",
    "for (const one of item.fragments.splice(0, taken)) batch.push({ claim: item.claim, fragments: [one] })",
  ),
  mutant(
    "defect-not-forgiven",
    "a driver that dies once pauses whoever was in the batch",
    "Journal.ts",
    "const defectsForgiven = 2",
    "const defectsForgiven = 0",
  ),
  mutant(
    "older-claim-writes",
    "what an older claim of a run still has to say goes out with the newer one's token",
    "Journal.ts",
    "} else if (newer.claim.token > item.claim.token) {\n        tellLost(item.fragments)",
    "} else if (newer.claim.token > item.claim.token) {\n        newer.fragments.unshift(...item.fragments)",
  ),
  // --- of leases and claims ----------------------------------------------------------
  mutant(
    "sweep-on-events",
    "a worker's runs are swept soon after its lease ends, or never",
    "memory/workers.ts",
    "if (worker.leaseExpiresAt > now) continue",
    "if (worker.leaseExpiresAt > now || worker.leaseExpiresAt < now - 2000) continue",
  ),
  mutant(
    "sweep-keeps-token",
    "a run that is swept keeps its token",
    "memory/workers.ts",
    "  run.token++\n  const backoffMs",
    "  const backoffMs",
  ),
  mutant(
    "former-incarnation-executes",
    "runs that were claimed under a lapsed lease are executed under the next",
    "worker/slots.ts",
    "if (claiming.workerId === lease.workerId()) runs.execute(claimed)",
    "if (claiming.workerId !== null) runs.execute(claimed)",
  ),
  mutant(
    "poison-at-once",
    "one crash makes a run poison",
    "memory/workers.ts",
    "if (run.crashCount < options.maxCrashes || run.crashCount === 0) continue",
    "if (run.crashCount < 1) continue",
  ),
  mutant(
    "crashes-kept",
    "a run that parked well is still blamed for crashes before",
    "memory/commit.ts",
    "): void => {\n  resetCrashes(run)\n  run.waits",
    "): void => {\n  run.waits",
  ),
  mutant(
    "no-refund",
    "a worker that was only frozen leaves its runs under suspicion",
    "worker/lease.ts",
    'yield* bounded("refundCrashes")(store.refundCrashes(former))',
    "",
  ),
  mutant(
    "stop-drops",
    "a graceful stop drops its runs, and leaves them to the sweep",
    "Worker.ts",
    "      runs.handBackAll()\n",
    "      runs.dropAll()\n",
  ),
  // --- of requests --------------------------------------------------------------------
  mutant(
    "event-sent-twice",
    "an event that is sent again under its id is another event",
    "memory/requests.ts",
    'if (wasSent(run, event.id)) return "duplicate"',
    "",
  ),
  mutant(
    "cancel-waits",
    "a run that waits hears of its cancel only when something else wakes it",
    "memory/requests.ts",
    "  wake(state, run, now)\n  // Also from a backoff",
    '  if (run.workerId === null && run.status !== "paused") return "requested"\n  // Also from a backoff',
  ),
  mutant(
    "begins-early",
    "a run that is scheduled for later begins at once",
    "memory/inserts.ts",
    "row.dueAt = Math.max(run.scheduledFor ?? now, now)",
    "row.dueAt = now",
  ),
  mutant(
    "answers-out-of-order",
    "the answers of a start of many are not aligned with its items",
    "engine/startMany.ts",
    "const answer = answers[i] as (typeof answers)[number]",
    "const answer = answers[answers.length - 1 - i] as (typeof answers)[number]",
  ),
  mutant(
    "fork-forgets",
    "a fork does again what its origin had done last before the point",
    "memory/control.ts",
    "if (position === null || position >= before) continue",
    "if (position === null || position >= before - 1) continue",
  ),
  mutant(
    "fork-undone",
    "a fork takes what its origin has undone for undone",
    "memory/control.ts",
    "record: Object.freeze({ ...entry.record, compensation: null }),",
    "record: Object.freeze({ ...entry.record }),",
  ),
  mutant(
    "waits-for-hints",
    "who waits for an outcome looks once, and then trusts hints",
    "engine/outcomes.ts",
    "for (const waiter of waiters) waiter.nextLook = now + pauseAfter(now - waiter.since)",
    "for (const waiter of waiters) waiter.nextLook = now + 1e9 + pauseAfter(now - waiter.since)",
  ),
  mutant(
    "outcome-of-another",
    "who waits hears an outcome before the run has ended",
    "engine/outcomes.ts",
    "} else if (isTerminal(row.status)) {\n          reply(id, Effect.succeed(outcomeOf(row, row.status)))",
    "} else if (isTerminal(row.status) || row.compensating) {\n" +
      "          reply(id, Effect.succeed(outcomeOf(row, row.status as TerminalStatus)))",
  ),
  // --- of schedules ------------------------------------------------------------------
  {
    name: "tick-without-row",
    breaks: "a tick that two workers fire starts two runs",
    edits: [
      {
        file: "memory/schedules.ts",
        find: "if (!schedule?.enabled || schedule.nextTick !== options.expectedNextTick) return false",
        replace: "if (!schedule?.enabled) return false",
      },
      {
        file: "memory/schedules.ts",
        find: "const isFirst = !state.ticks.has(fired)",
        replace: "const isFirst = !state.ticks.has(`${fired}${options.run.workflowRunId}`)",
      },
    ],
  },
  mutant(
    "tick-early",
    "a tick fires before its time",
    "memory/schedules.ts",
    "enabled.filter((row) => row.nextTick <= now)",
    "enabled.filter((row) => row.nextTick <= now + 5000)",
  ),
  mutant(
    "tick-passed-over",
    "the tick that has fired is followed by the next but one",
    "worker/ticker.ts",
    "const nextTick = Cron.next(rule.success, new Date(Math.max(now, tick))).getTime()",
    "const nextTick = Cron.next(rule.success, new Date(Math.max(now, tick) + 60_000)).getTime()",
  ),
  // --- what only Postgres can show -----------------------------------------------------
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
