/** Of endings and undoing. */
import { type Mutant, mutant } from "./mutant.ts"

export const undoingMutants: ReadonlyArray<Mutant> = [
  mutant(
    "no-drain",
    "a failing run undoes its steps while others of them execute",
    "engine/endings.ts",
    'if (steps === "none") return then()',
    "if (steps.length > 0) return then()",
  ),
  mutant(
    "undo-in-order",
    "steps are undone in the order in which they completed",
    "engine/undoing.ts",
    ".toSorted((a, b) => (b.position ?? 0) - (a.position ?? 0))",
    ".toSorted((a, b) => (a.position ?? 0) - (b.position ?? 0))",
  ),
  {
    ...mutant(
      "no-return-ignored",
      "what completed before a point of no return is undone all the same",
      "engine/undoing.ts",
      "(record.position ?? 0) > noReturn)",
      "(record.position ?? 0) > Math.min(noReturn, 0))",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
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
  {
    ...mutant(
      "retry-once-more",
      "a run is tried once more than it may",
      "engine/endings.ts",
      "if (run.attempt < (run.maxAttempts ?? 1)) {",
      "if (run.attempt <= (run.maxAttempts ?? 0)) {",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "undo-before-the-journal",
      "a failing run does not wait for what it has handed to the journal",
      "engine/endings.ts",
      "if ((execution.executing > 0 && patience) || execution.inFlight > 0) return",
      "if (execution.executing > 0 && patience) return",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "orphans-all",
      "children that were to outlive their parent are cancelled with it",
      "engine/endings.ts",
      '!isTerminal(child.status) && child.onParentClose === "cancel"',
      "!isTerminal(child.status) && child.onParentClose !== null",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "failed-undo-forgotten",
      "a run whose undo gave up ends as if all had been undone",
      "engine/undoing.ts",
      'status: failed ? "failed" : "compensated",',
      'status: "compensated",',
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "failed-undo-stops",
      "an undo that gives up stops those behind it",
      "engine/undoing.ts",
      "undoNext(execution, open, failed || !ok)",
      "undoNext(execution, ok ? open : [], failed || !ok)",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "undo-once",
      "an undo is tried once",
      "engine/undoing.ts",
      "attempts >= undo.retry.maxAttempts",
      "attempts >= 1",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "undo-begins-again",
      "a run that is handed back in the backoff of an undo forgets how often that was tried",
      "engine/undoing.ts",
      "        if (execution.handBack()) waitThenTry(undoing, 0, error)\n        else tryOnce(undoing)",
      "        tryOnce(undoing)",
    ),
    tests: { project: "unit", files: ["test/worker/stopping.test.ts"] },
  },
  {
    ...mutant(
      "unknown-last",
      "what is unknown is undone last",
      "engine/undoing.ts",
      "  return [\n    ...unknown.toSorted((a, b) => b.issuedAfter - a.issuedAfter),",
      "  unknown.reverse()\n  return [",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "deadline-of-undoing",
      "the deadline of a run ends its undoing",
      "memory/lifecycle.ts",
      "if (run.compensating || run.deadlineAt === null) return dueAt",
      "if (run.deadlineAt === null) return dueAt",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
]
