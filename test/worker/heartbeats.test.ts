/**
 * What a step told of its progress, where an older heartbeat is still on its way to the store: no end
 * of a try and no stop of the worker loses the newest one.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type { RegisteredWorkflow } from "../../src/Engine.ts"
import type { StepAttempt } from "../../src/engine/Operation.ts"
import { encodeError } from "../../src/ErrorPayload.ts"
import { make as makePolicy } from "../../src/RetryPolicy.ts"
import { json } from "../store/conformanceFixture.ts"
import { makeRig, pass, type Rig } from "./rig.ts"
import { it, until } from "./scripted.ts"

const shutdownTimeoutMs = 20_000
const backoffMs = 900

/** A step that tells 1, 2 and 3 in its first try, then fails if asked to; a later try is silent. */
const telling = (ends: "fails" | "goes on") => {
  const begun: Array<StepAttempt> = []
  const workflow: RegisteredWorkflow = {
    name: "w",
    version: null,
    startBody: (execution) => {
      execution.issue(
        {
          kind: "step",
          name: "step",
          retry: makePolicy({ maxAttempts: 9, backoff: "fixed", initialDelayMs: backoffMs }),
          timeoutMs: null,
          undo: null,
          run: (attempt) =>
            Effect.suspend(() => {
              begun.push(attempt)
              if (begun.length > 1) return Effect.interruptible(Effect.never)
              for (const page of [1, 2, 3]) attempt.heartbeat(json(page))
              if (ends === "goes on") return Effect.interruptible(Effect.never)
              return Effect.fail({ error: encodeError(new Error("no luck")), retryable: true })
            }),
        },
        () => undefined,
      )
      return () => undefined
    },
  }
  return { begun, workflow }
}

/** A worker whose first heartbeat is held on its way to the store, until the latch is open. */
const held = Effect.fnUntraced(function* (ends: "fails" | "goes on") {
  const { begun, workflow } = telling(ends)
  const rig = yield* makeRig(workflow)
  const latch = yield* Latch.make()
  rig.script("commit", () => ({ before: latch }))
  const [id = ""] = yield* rig.insert(1)
  const { close } = yield* rig.startWorker({ shutdownTimeoutMs })
  yield* until("a heartbeat is on its way", () => rig.open("commit") === 1)
  return { begun, rig, latch, id, close }
})

const noteOf = (rig: Rig, id: string) =>
  Effect.map(rig.memory.store.loadHistory([id]), ([history]) => history?.records[0])

describe("the newest heartbeat", () => {
  it.effect("is handed over with a run whose step does not end in time", () =>
    Effect.gen(function* () {
      const { rig, latch, id, close } = yield* held("goes on")
      const closed = yield* Effect.forkChild(close)
      yield* pass(shutdownTimeoutMs + 1000, 1000)
      yield* latch.open
      yield* pass(1000)
      yield* Fiber.join(closed)
      assert.deepInclude(yield* noteOf(rig, id), { heartbeat: json(3), attempts: 0, retryAt: null })
      assert.strictEqual(rig.row(id).status, "pending")
    }),
  )

  it.effect(
    "is handed over with a run whose step waits for its next try, which keeps its time",
    () =>
      Effect.gen(function* () {
        const { begun, rig, latch, id, close } = yield* held("fails")
        const closed = yield* Effect.forkChild(close)
        yield* latch.open
        yield* pass(100)
        yield* Fiber.join(closed)
        const note = yield* noteOf(rig, id)
        assert.deepInclude(note, { heartbeat: json(3), attempts: 1 })
        assert.strictEqual(rig.row(id).status, "pending")
        yield* rig.startWorker()
        yield* pass(backoffMs - 200)
        assert.strictEqual(begun.length, 1)
        yield* pass(1000)
        assert.strictEqual(begun.length, 2)
        assert.deepInclude(begun[1], { attempt: 2, lastHeartbeat: json(3) })
      }),
  )

  it.effect("is stored while the next try runs, though that one tells nothing", () =>
    Effect.gen(function* () {
      const { begun, rig, latch, id } = yield* held("fails")
      yield* latch.open
      yield* pass(backoffMs + 100)
      assert.strictEqual(begun.length, 2)
      assert.deepInclude(yield* noteOf(rig, id), { heartbeat: json(3), attempts: 1 })
    }),
  )

  it.effect("is not what a try tells that was given up", () =>
    Effect.gen(function* () {
      const { begun, rig, latch, id } = yield* held("fails")
      begun[0]!.heartbeat(json("late"))
      yield* latch.open
      yield* pass(backoffMs + 100)
      begun[0]!.heartbeat(json("too late"))
      yield* pass(100)
      assert.deepInclude(yield* noteOf(rig, id), { heartbeat: json(3), attempts: 1 })
      assert.deepInclude(begun[1], { attempt: 2, lastHeartbeat: json(3) })
    }),
  )
})
