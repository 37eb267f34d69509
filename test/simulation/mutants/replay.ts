/** Of replay: order, sources, attempts. */
import { type Mutant, mutant } from "./mutant.ts"

export const replayMutants: ReadonlyArray<Mutant> = [
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
  {
    ...mutant(
      "counter-after-sources",
      "the wake counter is newer than the sources that it stands for",
      "engine/parking.ts",
      "m.sourcesCounter = sources.wakeCounter",
      "m.sourcesCounter = Math.max(sources.wakeCounter, m.signals.wakeCounter)",
    ),
    tests: { project: "unit", files: ["test/engine/lost.test.ts", "test/worker/signals.test.ts"] },
  },
  mutant(
    "clock-of-the-wall",
    "the body's clock is that of its worker",
    "engine/bodyValues.ts",
    "now: () => execution.nowForBody,",
    "now: () => Date.now(),",
  ),
  mutant(
    "leftover-without-issued",
    "a record that the body asked for, and did not wait for, is divergence at its end",
    "engine/replaying.ts",
    "    const issued = m.issued.get(record.key)\n" +
      "    if (issued === undefined) {\n" +
      '      if (record.kind === "patch") continue',
    "    const issued = m.issued.get(record.key)\n" +
      "    if (issued === undefined || record.position > 0) {\n" +
      '      if (record.kind === "patch") continue',
  ),
  mutant(
    "positions-begin-anew",
    "a replay gives numbers that were given before",
    "engine/machine.ts",
    "this.#nextPosition = Math.max(this.#nextPosition, (record.position ?? 0) + 1)",
    "this.#nextPosition = Math.max(this.#nextPosition, 1)",
  ),
  mutant(
    "event-taken-twice",
    "an event whose taking is on its way to the store is taken again",
    "engine/parking.ts",
    "sources.events.filter((event) => !m.takenEvents.has(event.eventId))",
    "sources.events.filter((event) => event.eventId !== null)",
  ),
  mutant(
    "sources-not-read-again",
    "what wakes a run that executes is not looked at",
    "engine/machine.ts",
    "if (signals.wakeCounter !== this.sourcesCounter) this.env.refreshSources()",
    "",
  ),
  {
    ...mutant(
      "older-sources-win",
      "a reading of the sources that comes late undoes a newer one",
      "engine/machine.ts",
      'if (this.mode === "stopped" || sources.wakeCounter < this.sourcesCounter) return',
      'if (this.mode === "stopped") return',
    ),
    tests: { project: "unit", files: ["test/engine/hearing.test.ts"] },
  },
  {
    ...mutant(
      "older-signals-win",
      "an answer that comes late takes back what a newer one told",
      "engine/machine.ts",
      "if (signals.wakeCounter < this.signals.wakeCounter) return",
      "",
    ),
    tests: { project: "unit", files: ["test/engine/hearing.test.ts"] },
  },
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
  mutant(
    "no-wake-of-parent",
    "a child that ends does not wake its parent",
    "memory/lifecycle.ts",
    "if (parent !== undefined) wake(state, parent, now)",
    "",
  ),
  {
    name: "second-child",
    breaks: "a replay starts its children anew, and the store lets it",
    edits: [
      {
        file: "engine/steps.ts",
        find: "  const known = execution.children.get(key)\n  const failedEarlier",
        replace:
          "  const known = execution.children.get(`${key} of another run`)\n  const failedEarlier",
      },
      {
        file: "memory/inserts.ts",
        find: "  run.parent === null ? undefined : state.runs.get(state.children.get(parentKey(run.parent))",
        replace:
          '  run.parent === null ? undefined : state.runs.get(((_: string) => "")(parentKey(run.parent))',
      },
    ],
  },
  {
    ...mutant(
      "second-child-guard",
      "the store lets a step start a second child (no engine that looks first asks for that)",
      "memory/inserts.ts",
      "  run.parent === null ? undefined : state.runs.get(state.children.get(parentKey(run.parent))",
      '  run.parent === null ? undefined : state.runs.get(((_: string) => "")(parentKey(run.parent))',
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "cancel-not-heard",
      "a run that executes does not hear of its cancel",
      "engine/machine.ts",
      "if (signals.cancelRequest !== null) return this.parts.cancelled(this)",
      "",
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "deadline-not-heard",
      "a run that executes does not hear that its time is up",
      "engine/machine.ts",
      "if (signals.deadlinePassed) return this.parts.timedOut(this)",
      "",
    ),
    tests: { project: "unit", files: ["test/worker/signals.test.ts"] },
  },
  {
    ...mutant(
      "cancel-of-undoing",
      "a cancel ends the undoing",
      "engine/machine.ts",
      '    this.signals = signals\n    if (this.mode === "forward") {',
      '    this.signals = signals\n    if (this.mode !== "ending") {',
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  mutant(
    "parks-amid-work",
    "a run parks while a step of it executes",
    "engine/parking.ts",
    "m.executing > 0 || m.inFlight > 0 ||",
    "m.inFlight > 0 ||",
  ),
  mutant(
    "parks-before-the-answer",
    "a run parks while a commit of it is under way",
    "engine/parking.ts",
    "m.executing > 0 || m.inFlight > 0 ||",
    "m.executing > 0 ||",
  ),
  mutant(
    "parks-too-long",
    "a run parks until the last of its waits is over",
    "engine/parking.ts",
    "earliest = earliest === null ? issued.wakeAt : Math.min(earliest, issued.wakeAt)",
    "earliest = earliest === null ? issued.wakeAt : Math.max(earliest, issued.wakeAt)",
  ),
  {
    ...mutant(
      "carried-too-early",
      "what an earlier attempt completed is given before what came first",
      "engine/replaying.ts",
      "    if (record.position > before) return false\n",
      "",
    ),
    tests: { project: "unit", files: ["test/engine/attempts.test.ts"] },
  },
  {
    ...mutant(
      "child-of-the-attempt-before",
      "a reading from before this attempt brings back the child of the last",
      "engine/parking.ts",
      "if (known === undefined || known.parentAttempt <= child.parentAttempt) {",
      "if (known === undefined || child.parentAttempt > 0) {",
    ),
    tests: { project: "unit", files: ["test/engine/hearing.test.ts"] },
  },
  {
    ...mutant(
      "dice-of-the-attempt",
      "the dice of a body fall differently in each attempt",
      "engine/bodyValues.ts",
      "Random.withSeed(Random.Random, seed)",
      "Random.withSeed(Random.Random, seed + execution.run.attempt)",
    ),
    tests: { project: "unit", files: ["test/engine/prefixes.test.ts"] },
  },
  {
    ...mutant(
      "newest-event-first",
      "of several events of a name the newest is taken first",
      "engine/steps.ts",
      "execution.events.findIndex((event)",
      "execution.events.findLastIndex((event)",
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "latest-failure-goes",
      "the latest of the failures that a run ended with is tried again, the earliest stays",
      "engine/endings.ts",
      "earliest === null ? position : Math.min(earliest, position)",
      "earliest === null ? position : Math.max(earliest, position)",
    ),
    tests: { project: "unit", files: ["test/engine/attempts.test.ts"] },
  },
  {
    ...mutant(
      "cancelled-child-completed",
      "a child that was cancelled is taken for one that has nothing to say",
      "engine/steps.ts",
      '  if (child.status === "completed") {\n    return execution.record',
      '  if (child.status === "completed" || child.status === "cancelled") {\n    return execution.record',
    ),
    tests: { project: "unit", files: ["test/promise/memory.test.ts"] },
  },
  {
    ...mutant(
      "carried-not-marked",
      "the next attempt replays strictly what stands behind the failure",
      "memory/lifecycle.ts",
      "    } else if (isAfter && !record.carried) {",
      "    } else if (isAfter && record.carried) {",
    ),
    tests: { project: "unit", files: ["test/store/memory.test.ts"] },
  },
  {
    ...mutant(
      "branch-not-let-go",
      "an operation of a fiber that was interrupted goes on",
      "WorkflowRun.ts",
      "if (issued !== null) execution.abandon(issued)",
      "if (issued === null) return",
    ),
    tests: { project: "unit", files: ["test/engine/interrupted.test.ts"] },
  },
  {
    ...mutant(
      "body-suspends-for-ever",
      "what a body asks for when it is over is waited for",
      "WorkflowRun.ts",
      'if (execution.mode !== "stopped" && execution.mode !== "ending") return ask',
      'if (execution.mode !== "stopped" || execution.bodyEnd === null) return ask',
    ),
    tests: { project: "unit", files: ["test/engine/pureWork.test.ts"] },
  },
]
