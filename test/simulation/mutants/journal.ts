/** Of the journal, and of what a commit does. */
import { type Mutant, mutant } from "./mutant.ts"

const onWhichClock = (...given: Parameters<typeof mutant>): Mutant => ({
  ...mutant(...given),
  tests: { project: "unit", files: ["test/testing/standingClock.test.ts"] },
})

export const journalMutants: ReadonlyArray<Mutant> = [
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
  mutant(
    "unknown-is-failure",
    "a commit whose outcome is unknown is not sent again",
    "Journal.ts",
    'while: (error: StoreError) => error._tag === "StoreUnavailable",',
    'while: (error: StoreError) => error._tag === "StoreUnavailable" && error.outcome === "not-applied",',
  ),
  {
    ...mutant(
      "newer-before-busy",
      "what was busy is sent behind what its run produced later",
      "Journal.ts",
      "[...item.fragments, ...newer.fragments]",
      "[...newer.fragments, ...item.fragments]",
    ),
    tests: { project: "unit", files: ["test/journal/answers.test.ts"] },
  },
  mutant(
    "two-updates-of-one-run",
    "one batch has two writes of a run",
    "Journal.ts",
    "batch.push(new Item(item.claim, item.fragments.splice(0, taken)))",
    "for (const one of item.fragments.splice(0, taken)) batch.push(new Item(item.claim, [one]))",
  ),
  mutant(
    "defect-not-forgiven",
    "a driver that dies once pauses whoever was in the batch",
    "Journal.ts",
    "const defectsForgiven = 2",
    "const defectsForgiven = 0",
  ),
  {
    ...mutant(
      "older-claim-writes",
      "what an older claim of a run still has to say goes out with the newer one's token",
      "Journal.ts",
      "} else if (newer.claim.token > item.claim.token) {\n        tellLost(item.fragments)",
      "} else if (newer.claim.token > item.claim.token) {\n        newer.fragments.unshift(...item.fragments)",
    ),
    tests: { project: "unit", files: ["test/journal/answers.test.ts"] },
  },
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
    "park-without-look",
    "a run parks though something has woken it meanwhile",
    "memory/commit.ts",
    "if (run.wakeCounter !== transition.wakeCounter)",
    "if (run.wakeCounter < transition.wakeCounter)",
  ),
  {
    ...mutant(
      "lost-untold",
      "a run whose claim was lost is not told of it",
      "Journal.ts",
      '        case "lost":\n          tellLost(item.fragments)\n',
      '        case "lost":\n',
    ),
    tests: {
      project: "unit",
      files: ["test/journal/answers.test.ts", "test/journal/journal.test.ts"],
    },
  },
  {
    ...mutant(
      "refused-drops-the-rest",
      "what a run wrote behind a busy row is dropped, once its batch was refused",
      "Journal.ts",
      "fragments: fragments.slice(i) }]",
      "fragments: fragments.slice(i + 1) }]",
    ),
    tests: { project: "unit", files: ["test/journal/answers.test.ts"] },
  },
  {
    ...mutant(
      "half-forgotten",
      "of a batch that was refused only one half is sent again",
      "Journal.ts",
      "          commit(items.slice(half), patience),",
      "          commit(items.slice(half + 1), patience),",
    ),
    tests: { project: "unit", files: ["test/journal/answers.test.ts"] },
  },
  {
    ...mutant(
      "earlier-note-of-a-batch",
      "of two records of a step in one batch the earlier counts",
      "Journal.ts",
      "new Map(rows.map((row) => [row.stepKey, row])).values()",
      "new Map(rows.toReversed().map((row) => [row.stepKey, row])).values()",
    ),
    tests: { project: "unit", files: ["test/journal/journal.test.ts"] },
  },
  {
    ...mutant(
      "earlier-attribute-of-a-batch",
      "of two values of an attribute in one batch the earlier counts",
      "Journal.ts",
      "Object.assign({}, ...given.map((one) => one.attributes))",
      "Object.assign({}, ...given.map((one) => one.attributes).toReversed())",
    ),
    tests: { project: "unit", files: ["test/journal/journal.test.ts"] },
  },
  {
    ...mutant(
      "end-of-sleep-unchecked",
      "a sleep is over when its worker says so",
      "memory/commit.ts",
      "if (endsByTimer(write) && run.timers.get(write.stepKey)!.wakeAt > now) return false",
      "",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "timer-moves",
      "a sleep that is reached again begins anew",
      "memory/commit.ts",
      "if (run.timers.has(timer.stepKey)) return",
      "",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "older-undo-note-wins",
      "a delayed copy of an older note of an undo undoes a newer one",
      "memory/commit.ts",
      'if (undo.status === "retrying" && standing !== null && undo.attempts <= standing.attempts) return',
      "",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "undone-changes",
      "what became of an undo is replaced by a later word",
      "memory/commit.ts",
      '  if (standing !== null && standing.status !== "retrying") return\n  if (undo',
      "  if (undo",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "park-past-deadline",
      "a run that parks forgets its deadline",
      "memory/commit.ts",
      "letGo(state, run, transition.status, withDeadline(run, wakeAt))",
      "letGo(state, run, transition.status, wakeAt)",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "defect-amid-refusal",
      "a driver that dies once while a refused batch is halved pauses whoever is in the half",
      "Journal.ts",
      "return isolate(items, refusal, patience)",
      "return isolate(items, refusal, 0)",
    ),
    tests: { project: "unit", files: ["test/journal/answers.test.ts"] },
  },
  {
    ...mutant(
      "overtakes-itself",
      "what a run produces goes out beside a commit of it that is under way",
      "Journal.ts",
      "        if (flying.has(item.claim.workflowRunId)) continue\n",
      "",
    ),
    tests: { project: "unit", files: ["test/journal/overlap.test.ts"] },
  },
  {
    ...mutant(
      "three-at-once",
      "there is a commit too many under way",
      "Journal.ts",
      "(flights < atOnce && queue.size >= worthACommit)",
      "(flights <= atOnce && queue.size >= worthACommit)",
    ),
    tests: { project: "unit", files: ["test/journal/overlap.test.ts"] },
  },
  onWhichClock(
    "busy-on-the-engines-clock",
    "what was busy waits for a test to move time",
    "Journal.ts",
    "yield* callPause(10)",
    'yield* Effect.sleep("10 millis")',
  ),
  onWhichClock(
    "again-on-the-engines-clock",
    "what was not answered waits for a test to move time",
    "engine/bounded.ts",
    "return onCallClock(Effect.retry(again, options))",
    "return Effect.retry(again, options)",
  ),
  onWhichClock(
    "calls-on-the-real-clock",
    "what a store in memory writes has the time of the machine, not of the engine",
    "engine/bounded.ts",
    "if (!isFirst) return Effect.provideService(call, Clock.Clock, callers)",
    "if (!isFirst) return call",
  ),
]
