/**
 * What a run may hold: open operations, and characters of history.
 */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { RegisteredWorkflow } from "../../src/Engine.ts"
import { none } from "../../src/RetryPolicy.ts"
import { isTerminal } from "../../src/Run.ts"
import { json, record, registration, workerId, write } from "../store/conformanceFixture.ts"
import { makeRig, type Rig } from "./rig.ts"
import { it, until } from "./scripted.ts"

describe("what a run may hold", () => {
  /** Issues steps, so many at once, one after the other; each gives 40 characters. */
  const steps = (rounds: number, atOnce: number): RegisteredWorkflow => ({
    name: "w",
    version: null,
    startBody: (execution, onEnd) => {
      const run = () => Effect.succeed(json("x".repeat(38)))
      const round = (left: number): void => {
        if (left === 0) return onEnd({ _tag: "Success", result: json("done") })
        let open = atOnce
        for (let i = 0; i < atOnce; i++) {
          const name = `${left}.${i}`
          execution.issue(
            { kind: "step", name, retry: none, timeoutMs: null, undo: null, run },
            () => {
              if (--open === 0) round(left - 1)
            },
          )
        }
      }
      round(rounds)
      return () => undefined
    },
  })

  const ended = Effect.fnUntraced(function* (
    workflow: RegisteredWorkflow,
    limits: { maxFanOut?: number; maxHistoryBytes?: number },
    before: (rig: Rig, run: string) => Effect.Effect<unknown, unknown> = () => Effect.void,
  ) {
    const rig = yield* makeRig(workflow)
    const [run = ""] = yield* rig.insert(1)
    yield* before(rig, run)
    yield* rig.startWorker({ limits })
    yield* until("it has ended", () => isTerminal(rig.row(run).status))
    const { status, error } = rig.row(run)
    return `${status} ${error?.tag ?? ""}`.trim()
  })

  it.effect("are so many open operations, and no more", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* ended(steps(2, 3), { maxFanOut: 3 }), "completed")
      assert.strictEqual(yield* ended(steps(2, 4), { maxFanOut: 3 }), "failed HistoryTooLong")
    }),
  )

  it.effect("are so many characters, those of earlier claims among them", () =>
    Effect.gen(function* () {
      const limits = { maxHistoryBytes: 100 }
      assert.strictEqual(yield* ended(steps(3, 1), limits), "completed")
      assert.strictEqual(yield* ended(steps(4, 1), limits), "failed HistoryTooLong")
      const recorded = (rig: Rig, workflowRunId: string) =>
        Effect.gen(function* () {
          const { store } = rig.memory
          const workflows = [{ name: "w", version: null }]
          yield* store.registerWorker(registration(101))
          const options = { workerId: workerId(101), workflows, limit: 1, suspects: false }
          const [claim] = yield* store.claimRuns(options)
          const result = json("x".repeat(200))
          const records = [record("2.0", 1, { result })]
          const transition = { _tag: "HandBack" } as const
          yield* store.commit([write({ ...claim!, workflowRunId }, { records, transition })])
        })
      assert.strictEqual(yield* ended(steps(2, 1), limits, recorded), "failed HistoryTooLong")
    }),
  )

  it.effect("are not the characters of a result that the database refuses", () =>
    Effect.gen(function* () {
      const refuses = (rig: Rig) =>
        Effect.sync(() =>
          rig.script("commit", (_, [sent]) =>
            sent?.records.some((one) => one.stepKey === "2.0" && one.result !== null)
              ? "reject"
              : undefined,
          ),
        )
      assert.strictEqual(yield* ended(steps(2, 1), { maxHistoryBytes: 30 }, refuses), "completed")
    }),
  )

  it.effect("are not the characters of transactions that were begun again", () =>
    Effect.gen(function* () {
      const workflow: RegisteredWorkflow = {
        name: "w",
        version: null,
        startBody: (execution, onEnd) => {
          const step = { kind: "step", retry: none, timeoutMs: null, undo: null } as const
          const run = () =>
            Effect.sync(() => {
              for (let i = 0; i < 3; i++) {
                execution.reserve(issued!, json("x".repeat(60))).dropped()
              }
              return json(null)
            })
          const issued = execution.issue({ ...step, name: "a", run }, () => {
            const after = { ...step, name: "b", run: () => Effect.succeed(json(null)) }
            execution.issue(after, () => onEnd({ _tag: "Success", result: json("done") }))
          })
          return () => undefined
        },
      }
      assert.strictEqual(yield* ended(workflow, { maxHistoryBytes: 100 }), "completed")
    }),
  )
})
