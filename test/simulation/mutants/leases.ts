/** Of leases, claims and crashes. */
import { type Mutant, mutant } from "./mutant.ts"

export const leasesMutants: ReadonlyArray<Mutant> = [
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
    "clean-release-counts",
    "a worker that stops gracefully counts as a crash of its runs",
    "memory/lifecycle.ts",
    "run.crashCount = 0\n",
    "run.crashCount = isTerminal(run.status) ? 0 : run.crashCount + 1\n",
  ),
  mutant(
    "sweep-skips-undoing",
    "a run whose worker dies while it undoes is stranded",
    "memory/workers.ts",
    "for (const workflowRunId of worker.claims) lapsed.push(state.runs.get(workflowRunId)!)",
    "for (const id of worker.claims) if (!state.runs.get(id)!.compensating) lapsed.push(state.runs.get(id)!)",
  ),
  mutant(
    "sweep-on-events",
    "a worker's runs are swept soon after its lease ends, or never",
    "memory/workers.ts",
    "if (worker.leaseExpiresAt > now) continue",
    "if (worker.leaseExpiresAt > now || worker.leaseExpiresAt < now - 2000) continue",
  ),
  {
    ...mutant(
      "sweep-keeps-token",
      "a run that is swept keeps its token",
      "memory/workers.ts",
      "  run.token++\n  const backoffMs",
      "  const backoffMs",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "former-incarnation-executes",
      "runs that were claimed under a lapsed lease are executed under the next",
      "worker/slots.ts",
      "if (claiming.workerId === lease.workerId()) runs.execute(claimed)",
      "if (claiming.workerId !== null) runs.execute(claimed)",
    ),
    tests: { project: "unit", files: ["test/worker/lostReplies.test.ts"] },
  },
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
  {
    name: "interrupt-compensates",
    breaks: "a graceful stop aborts steps, and takes that for their failure",
    edits: [
      {
        file: "engine/machine.ts",
        find: "    this.#handBackRequested = true\n",
        replace:
          "    this.#handBackRequested = true\n" +
          '    for (const issued of this.open) issued.running?.abort(new Error("shutdown"))\n',
      },
    ],
  },
  {
    ...mutant(
      "trust-from-the-answer",
      "the trust of a worker is counted from when its heartbeat was answered, and without a margin",
      "worker/lease.ts",
      "        trustedUntil = started + leaseMs - marginMs\n        yield* reconcile",
      "        trustedUntil = monotonicMs() + leaseMs\n        yield* reconcile",
    ),
    tests: { project: "unit", files: ["test/worker/lease.test.ts"] },
  },
  {
    ...mutant(
      "trust-not-asked",
      "a try begins though the lease is not trusted any more",
      "engine/tries.ts",
      '  if (!env.leaseTrusted()) return execution.stop({ _tag: "lost" })\n',
      "",
    ),
    tests: {
      project: "unit",
      files: ["test/worker/lease.test.ts", "test/worker/heartbeats.test.ts"],
    },
  },
  {
    ...mutant(
      "undo-without-trust",
      "an undo begins though the lease is not trusted any more",
      "engine/undoing.ts",
      '  if (!env.leaseTrusted()) return execution.stop({ _tag: "lost" })\n',
      "",
    ),
    tests: { project: "unit", files: ["test/worker/runs.test.ts"] },
  },
  mutant(
    "reconcile-in-flight",
    "a claim whose answer is on its way is released",
    "worker/lease.ts",
    "if (oldest > since) orphans.push(claim)",
    "if (oldest > since - 1e9) orphans.push(claim)",
  ),
  {
    ...mutant(
      "claims-beyond-slots",
      "a worker claims as many runs as it could execute if it had none",
      "Worker.ts",
      "const limit = slots.free()",
      "const limit = options.maxConcurrent",
    ),
    tests: { project: "unit", files: ["test/worker/claiming.test.ts"] },
  },
  {
    ...mutant(
      "claims-while-stopping",
      "a worker that stops goes on claiming",
      "Worker.ts",
      "if (slots.free() <= 0 || stopping || ",
      "if (slots.free() <= 0 || ",
    ),
    tests: { project: "unit", files: ["test/worker/stopping.test.ts"] },
  },
  {
    ...mutant(
      "claims-once-more",
      "a worker that is told to stop while it asks for suspects claims once more",
      "Worker.ts",
      "const more = limit > 0 && !stopping ?",
      "const more = limit > 0 ?",
    ),
    tests: { project: "unit", files: ["test/worker/stopping.test.ts"] },
  },
  {
    ...mutant(
      "suspects-together",
      "a worker executes several runs at once that have crashed workers",
      "Worker.ts",
      "if (!runs.suspect() && (suspected",
      "if ((suspected",
    ),
    tests: { project: "unit", files: ["test/worker/claiming.test.ts"] },
  },
  {
    ...mutant(
      "older-claim-executes",
      "an older claim of a run goes on beside the newer one of the same worker",
      "worker/runs.ts",
      "if (older) drop(older)",
      "if (older === null) drop(older)",
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "woken-at-most-once",
      "a run that parked too soon is not woken where the driver dies over it",
      "worker/runs.ts",
      ".pipe(insistently, Effect.andThen(",
      ".pipe(Effect.ignore, Effect.andThen(",
    ),
    tests: { project: "unit", files: ["test/worker/runs.test.ts"] },
  },
  {
    ...mutant(
      "children-asked-at-most-once",
      "a run that ends waits for ever where the driver dies while its child is asked to cancel",
      "worker/runs.ts",
      ".pipe(insistently),",
      ".pipe(Effect.ignore),",
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "lost-not-heard",
      "a worker does not hear that a run is not its own any more",
      "worker/runs.ts",
      'else if (entry.handle.execution.mode !== "stopped") drop(entry)',
      'else if (entry.handle.execution.mode === "stopped") drop(entry)',
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "loss-of-the-older-claim",
      "what is heard of an older claim of a run ends the newer one",
      "worker/runs.ts",
      "if (entry === undefined || entry.claim.token !== claim.token || !entry.handle) continue",
      "if (entry === undefined || !entry.handle) continue",
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "any-token-accounts",
      "a claim that nobody has heard of is kept, where an older one of its run executes",
      "worker/runs.ts",
      "accountsFor: (claim) => entries.get(claim.workflowRunId)?.claim.token === claim.token,",
      "accountsFor: (claim) => entries.has(claim.workflowRunId),",
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "trust-timer-off",
      "nothing is dropped when the trust in a lease ends",
      "Worker.ts",
      "if (runs.size() > 0 && !lease.trusted()) runs.dropAll()",
      "if (runs.size() > 1e9 && !lease.trusted()) runs.dropAll()",
    ),
    tests: { project: "unit", files: ["test/worker/loops.test.ts"] },
  },
  {
    ...mutant(
      "claim-without-lease",
      "a lapsed worker claims",
      "memory/claims.ts",
      "if (!hasLiveLease(state, workerId, now)) return []",
      "",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "insert-without-lease",
      "a lapsed worker claims with an insert",
      "memory/inserts.ts",
      "claimFor !== null && hasLiveLease(state, claimFor, now)",
      "claimFor !== null && state.workers.has(claimFor)",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "insert-claims-again",
      "an insert that is sent again claims the run again",
      "memory/inserts.ts",
      "if (!known && mayClaim && row.dueAt! <= now) {",
      "if (mayClaim && row.workerId === null && row.dueAt !== null && row.dueAt <= now) {",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  mutant(
    "claim-keeps-token",
    "a claim has the token of the one before",
    "memory/lifecycle.ts",
    "  run.token++\n  run.progressed = false",
    "  run.token = Math.max(run.token, 1)\n  run.progressed = false",
  ),
  {
    ...mutant(
      "release-keeps-token",
      "a claim that is released by others keeps its token",
      "memory/claims.ts",
      "    run.token++\n    release",
      "    release",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  mutant(
    "sweep-early",
    "leases that are about to lapse are swept",
    "memory/workers.ts",
    "if (worker.leaseExpiresAt > now) continue",
    "if (worker.leaseExpiresAt > now + 1000) continue",
  ),
  {
    ...mutant(
      "poison-one-early",
      "the crash before the last one makes a run poison",
      "memory/workers.ts",
      "if (run.crashCount < options.maxCrashes || run.crashCount === 0) continue",
      "if (run.crashCount < options.maxCrashes - 1 || run.crashCount === 0) continue",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "crash-with-progress-counts",
      "a claim that recorded something counts as a crash",
      "memory/workers.ts",
      "  if (run.progressed) {\n    resetCrashes(run)",
      "  if (run.progressed && run.crashCount < 0) {\n    resetCrashes(run)",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "poison-one-later-here",
      "a worker bears one crash more than it was told to",
      "Worker.ts",
      "store.deadLetterPoison({ maxCrashes, limit: 100 })",
      "store.deadLetterPoison({ maxCrashes: maxCrashes + 1, limit: 100 })",
    ),
    tests: { project: "unit", files: ["test/worker/claiming.test.ts"] },
  },
  {
    ...mutant(
      "orphans-not-looked-for",
      "children whose parent ended in a process that died of it live on",
      "Worker.ts",
      "const orphaned = look ? yield* store.cancelOrphans({ limit: 200 }) : 0",
      "const orphaned = 0",
    ),
    tests: { project: "unit", files: ["test/worker/claiming.test.ts"] },
  },
]
