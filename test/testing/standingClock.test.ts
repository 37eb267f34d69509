/** What goes wrong between engine and store is put right while the test's clock stands still. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { SqlClient } from "effect/sql"
import { Engine, Event, MemoryStore, Step, Workflow, WorkflowStore } from "flowly/effect"
import * as Testing from "flowly/testing"
import { CallClock } from "../../src/engine/bounded.ts"
import { type Fault, makeScripted, type Scripted, until, type Verb } from "../worker/scripted.ts"

const Approval = Workflow.make("approval")

const ApprovalLive = Approval.toLayer(() =>
  Effect.gen(function* () {
    yield* Step.make("ask", { run: Effect.void })
    yield* Event.wait("go")
    yield* Step.transaction("act", { run: Effect.void })
  }),
)

const startAt = new Date("2030-01-01T00:00:00Z")

const newScripted = () =>
  makeScripted(MemoryStore.makeUnsafe({ sql: {} as SqlClient.SqlClient }).store)

/** Answers, besides what the script says, `busy` to all rows of the first `busy` commits. */
const on = (scripted: Scripted, busy = 0) => {
  let left = busy
  const store: WorkflowStore.WorkflowStore["Service"] = {
    ...scripted.store,
    commit: (writes) => {
      if (left-- <= 0) return scripted.store.commit(writes)
      return Effect.succeed(
        writes.map(({ workflowRunId }) => ({ _tag: "busy" as const, workflowRunId })),
      )
    },
  }
  return ApprovalLive.pipe(
    Layer.provideMerge(
      Testing.layerStore(Layer.succeed(WorkflowStore.WorkflowStore, store), {
        patienceMs: 400,
        startAt,
      }),
    ),
    Layer.orDie,
  )
}

/** Starts a run, lets it park, wakes it, and waits for its end: no time passes. */
const toItsEnd = Effect.gen(function* () {
  const run = yield* Workflow.trigger(Approval, undefined)
  yield* Testing.settle
  yield* Event.send(run.workflowRunId, "go", null)
  yield* run.result
  const row = yield* Engine.Engine.use((engine) => engine.getRun(run.workflowRunId))
  assert.strictEqual(row?.completedAt, startAt.getTime())
})

describe("while the clock stands still", () => {
  for (const [verb, fault, first = 1] of [
    ["insertRuns", "fail"],
    ["insertRuns", "die"],
    ["commit", "fail"],
    ["commit", "fail-after"],
    ["commit", "die"],
    // behind two that the worker's start makes
    ["claimRuns", "fail", 3],
    ["loadHistory", "fail"],
    ["loadHistory", "die"],
    ["transact", "fail"],
  ] satisfies ReadonlyArray<readonly [Verb, Fault, number?]>) {
    it.effect(`a run comes to its end though ${verb} was answered with "${fault}"`, () => {
      const scripted = newScripted()
      scripted.script<Verb>(verb, (nth) => (nth >= first && nth < first + 2 ? fault : undefined))
      return toItsEnd.pipe(
        Effect.andThen(Effect.sync(() => assert.isAbove(scripted.calls(verb).length, first + 1))),
        Effect.provide(on(scripted)),
      )
    })
  }

  it.effect("what is written by a second sending has the engine's time", () => {
    const scripted = newScripted()
    scripted.script("commit", (nth) => (nth % 2 === 1 ? "fail" : undefined))
    return Effect.provide(toItsEnd, on(scripted))
  })

  it.effect("a run comes to its end though its row was busy", () =>
    Effect.provide(toItsEnd, on(newScripted(), 3)),
  )

  it.effect("many runs start though their insert failed", () => {
    const scripted = newScripted()
    scripted.script("insertRuns", (nth) => (nth === 1 ? "fail" : undefined))
    return Effect.gen(function* () {
      const [one] = yield* Workflow.triggerMany(Approval, [{ payload: undefined }])
      assert.isTrue(one !== undefined && Result.isSuccess(one))
    }).pipe(Effect.provide(on(scripted)))
  })

  it.effect("an engine closes though its store answers no more", () => {
    const scripted = newScripted()
    const real = Clock.Clock.defaultValue()
    const hurried = Object.create(real, {
      sleep: {
        value: (duration: Duration.Duration) =>
          real.sleep(Duration.millis(Duration.toMillis(duration) / 50)),
      },
    }) as Clock.Clock
    const closed = Workflow.trigger(Approval, undefined).pipe(
      Effect.andThen(until("a commit is under way", () => scripted.open("commit") > 0)),
      Effect.provide(on(scripted)),
      Effect.timeoutOption("5 seconds"),
      Effect.provideService(CallClock, hurried),
      Effect.provideService(Clock.Clock, real),
    )
    for (const verb of ["commit", "renewLease"] as const) scripted.script(verb, () => "hang")
    return Effect.map(closed, (inTime) => assert.isTrue(Option.isSome(inTime)))
  })
})
