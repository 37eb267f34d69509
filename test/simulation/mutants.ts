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
}

const mutant = (
  name: string,
  breaks: string,
  file: string,
  find: string,
  replace: string,
): Mutant => ({ name, breaks, edits: [{ file, find, replace }] })

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
  mutant(
    "trust-without-end",
    "a worker trusts its lease for ever",
    "worker/lease.ts",
    "trusted: () => monotonicMs() < trustedUntil,",
    "trusted: () => registered,",
  ),
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
  mutant(
    "counter-after-sources",
    "the wake counter is newer than the sources that it stands for",
    "engine/machine.ts",
    "execution.sourcesCounter = sources.wakeCounter",
    "execution.sourcesCounter = Math.max(sources.wakeCounter, execution.signals.wakeCounter)",
  ),
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
  mutant(
    "second-child",
    "a replay starts its children anew",
    "memory/inserts.ts",
    "  run.parent === null ? undefined : state.runs.get(state.children.get(parentKey(run.parent))",
    '  run.parent === null ? undefined : state.runs.get(((_: string) => "")(parentKey(run.parent))',
  ),
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
  mutant(
    "newer-before-busy",
    "what was busy is sent behind what its run produced later",
    "Journal.ts",
    "fragments: [...item.fragments, ...newer.fragments]",
    "fragments: [...newer.fragments, ...item.fragments]",
  ),
  mutant(
    "tries-forgotten",
    "a backoff that parks forgets how often the step was tried",
    "engine/tries.ts",
    "issued.attempts = notes.ended",
    "issued.attempts = 0",
  ),
]
