/** Of steps: tries, limits, sleeps, transactions. */
import { type Mutant, mutant } from "./mutant.ts"

export const stepsMutants: ReadonlyArray<Mutant> = [
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
  mutant(
    "tries-forgotten",
    "a backoff that parks forgets how often the step was tried",
    "engine/tries.ts",
    "issued.attempts = notes.ended",
    "issued.attempts = 0",
  ),
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
    "this.heartbeat = earlier?.heartbeat ?? null",
    "this.heartbeat = null",
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
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  mutant(
    "retry-without-end",
    "the last try of a step is not the last",
    "engine/tries.ts",
    "const isLast = issued.attempts >= operation.retry.maxAttempts",
    "const isLast = issued.attempts > operation.retry.maxAttempts",
  ),
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
  {
    ...mutant(
      "linear-from-zero",
      "the first delay of a linear backoff is none",
      "RetryPolicy.ts",
      "? policy.initialDelayMs * attempt",
      "? policy.initialDelayMs * (attempt - 1)",
    ),
    tests: { project: "unit", files: ["test/RetryPolicy.test.ts"] },
  },
  {
    ...mutant(
      "exponential-one-late",
      "an exponential backoff begins with its second delay",
      "RetryPolicy.ts",
      "Math.pow(policy.factor, attempt - 1)",
      "Math.pow(policy.factor, attempt)",
    ),
    tests: { project: "unit", files: ["test/RetryPolicy.test.ts"] },
  },
  {
    ...mutant(
      "again-while-leaving",
      "a run that is to be handed back begins another try",
      "engine/steps.ts",
      'if (execution.mode === "forward" && !execution.handBack()) issued.again()',
      'if (execution.mode === "forward") issued.again()',
    ),
    tests: { project: "unit", files: ["test/worker/stopping.test.ts"] },
  },
  {
    ...mutant(
      "tries-not-left",
      "a run that is handed back in a short backoff forgets how often the step was tried",
      "engine/notes.ts",
      "const isTold = !notes.unsent && notes.told === notes.ended",
      "const isTold = !notes.unsent",
    ),
    tests: { project: "unit", files: ["test/worker/stopping.test.ts"] },
  },
  {
    ...mutant(
      "retries-while-ending",
      "a run that ends tries a step again",
      "engine/tries.ts",
      'if (!retryable || isLast || execution.mode !== "forward" || issued.abandoned) return null',
      "if (!retryable || isLast || issued.abandoned) return null",
    ),
    tests: { project: "unit", files: ["test/engine/execution.test.ts"] },
  },
  {
    ...mutant(
      "retry-of-the-abandoned",
      "a step whose fiber was interrupted is tried again",
      "engine/tries.ts",
      'if (!retryable || isLast || execution.mode !== "forward" || issued.abandoned) return null',
      'if (!retryable || isLast || execution.mode !== "forward") return null',
    ),
    tests: { project: "unit", files: ["test/engine/interrupted.test.ts"] },
  },
  {
    ...mutant(
      "mark-forgotten",
      "a try that may have to be undone, though nothing is known of it, leaves no mark",
      "engine/tries.ts",
      "const toMark = undoesUnknown(operation) && !notes.marked",
      "const toMark = undoesUnknown(operation) && notes.marked",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "abort-is-known",
      "of a step that failed when it was told to stop, the outcome is taken for known",
      "engine/tries.ts",
      'if (aborted || end._tag === "TimedOut" || end._tag === "Interrupted") notes.unknown = true',
      'if (end._tag === "TimedOut" || end._tag === "Interrupted") notes.unknown = true',
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "lookup-finds-nothing",
      "a transaction whose outcome cannot be asked for is done again",
      "engine/transactions.ts",
      "Effect.suspend(() => (env.leaseTrusted() ? lookUp(reserved) : lost)),",
      "Effect.suspend(() => (env.leaseTrusted() ? again : lost)),",
    ),
    tests: { project: "unit", files: ["test/engine/transactions.test.ts"] },
  },
  {
    ...mutant(
      "place-not-given-back",
      "a transaction that failed keeps its place in the order",
      "engine/transactions.ts",
      '            drop()\n            if ("_tag" in error) {',
      '            if ("_tag" in error) {',
    ),
    tests: { project: "unit", files: ["test/engine/transactions.test.ts"] },
  },
  {
    ...mutant(
      "driver-defect-fails-a-transaction",
      "a driver that dies before a transaction's commit costs the step a try",
      "engine/transactions.ts",
      'fault: "unavailable",',
      "fault: null,",
    ),
    tests: { project: "unit", files: ["test/engine/transactions.test.ts"] },
  },
  {
    ...mutant(
      "lookup-that-dies-is-an-outcome",
      "a driver that dies while a commit is asked for makes a failed try of it, though it stands",
      "engine/transactions.ts",
      "        Effect.catchDefect(Effect.fail),\n",
      "",
    ),
    tests: { project: "unit", files: ["test/engine/transactions.test.ts"] },
  },
  {
    ...mutant(
      "backoff-without-end",
      "a backoff grows beyond its longest delay",
      "RetryPolicy.ts",
      "const capped = Math.min(raw, policy.maxDelayMs)",
      "const capped = raw",
    ),
    tests: { project: "unit", files: ["test/RetryPolicy.test.ts"] },
  },
  {
    ...mutant(
      "heartbeat-of-the-given-up",
      "a try that was given up goes on telling of its progress",
      "engine/tries.ts",
      "    if (!this.over) beat(this.#step, details)",
      "    beat(this.#step, details)",
    ),
    tests: { project: "unit", files: ["test/worker/heartbeats.test.ts"] },
  },
]
