/**
 * What runs wait for, in words: for the error of a run that does not go on.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { showWorkflow } from "../engine/registry.ts"
import type { Engine } from "../Engine.ts"
import { summarize } from "../ErrorPayload.ts"
import { isTerminal } from "../Run.ts"
import type { RunHistory, RunRow, StoreError, WorkflowStore } from "../WorkflowStore.ts"

/**
 * Time alone does not bring the run to its end.
 *
 * @category errors
 * @since 0.1.0
 */
export class RunStuck extends Schema.TaggedError<RunStuck>("flowly/RunStuck")("RunStuck", {
  workflowRunId: Schema.String,
  workflow: Schema.String,
  reason: Schema.String,
  /** What the run is at, or waits for. */
  waitsFor: Schema.String,
}) {
  readonly retryable = false
  override get message() {
    return (
      `run ${this.workflowRunId} of "${this.workflow}" has not settled: ${this.reason}. ` +
      `It ${this.waitsFor}`
    )
  }
}

/**
 * All runs that no worker holds and that have not settled.
 */
export const unclaimedRuns = Effect.fnUntraced(function* (
  store: WorkflowStore["Service"],
): Effect.fn.Return<ReadonlyArray<RunRow>, StoreError> {
  const found: Array<RunRow> = []
  const limit = 500
  let before: string | null = null
  for (;;) {
    const page: ReadonlyArray<RunRow> = yield* store.listRuns({
      statuses: ["pending", "sleeping", "waiting", "compensating"],
      workflow: null,
      parentRunId: null,
      before,
      limit,
    })
    for (const row of page) if (row.workerId === null) found.push(row)
    if (page.length < limit) return found
    before = page.at(-1)?.workflowRunId ?? null
  }
})

/**
 * The end of a sentence that begins with "It".
 */
export const whatItWaitsFor = Effect.fnUntraced(function* (
  engine: Engine["Service"],
  row: RunRow,
): Effect.fn.Return<string, StoreError> {
  if (row.status === "paused") {
    const reason = row.pauseReason === null ? "no reason was recorded" : summarize(row.pauseReason)
    return `is paused: ${reason}`
  }
  const workflow = { name: row.workflow, version: row.version }
  if (engine.workflows.get(workflow) === undefined) {
    const known = engine.workflows.all().map(showWorkflow).join(", ")
    return (
      `is ${row.status}, and this engine does not know its workflow ${showWorkflow(workflow)}: ` +
      `it knows ${known || "none"}`
    )
  }
  const [history] = yield* engine.store.loadHistory([row.workflowRunId])
  const open = history === undefined ? [] : openOperations(history)
  const due = row.workerId === null && row.dueAt !== null ? `, due ${instant(row.dueAt)}` : ""
  if (row.workerId !== null) return `executes${open.length > 0 ? `; open: ${open.join(", ")}` : ""}`
  if (open.length > 0) return `is ${row.status}${due}: it waits for ${open.join(", ")}`
  if (row.status === "waiting") return `is waiting${due}: for an event that was not sent`
  return `is ${row.status}${due}`
})

const openOperations = ({ records, timers, children }: RunHistory): ReadonlyArray<string> => {
  const done = new Set<string>()
  for (const one of records) if (one.status !== "retrying") done.add(one.stepKey)
  return [
    ...records
      .filter((one) => one.status === "retrying")
      .map((one) => `try ${one.attempts + 1} of step "${one.stepKey}" at ${instant(one.retryAt)}`),
    ...timers
      .filter((one) => !done.has(one.stepKey))
      .map((one) => `the end of "${one.stepKey}" at ${instant(one.wakeAt)}`),
    ...children
      .filter((one) => !done.has(one.stepKey) && !isTerminal(one.status))
      .map((one) => `child "${one.stepKey}" (run ${one.workflowRunId}, ${one.status})`),
  ]
}

const instant = (millis: number | null): string =>
  millis === null ? "an unknown time" : new Date(millis).toISOString()
