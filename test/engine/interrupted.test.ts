/**
 * What a branch had asked for goes on no further when the body has interrupted it.
 */
import { setTimeout as delay } from "node:timers/promises"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { describe, expect, it, vi } from "vitest"
import * as Event from "../../src/Event.ts"
import type * as MemoryStore from "../../src/MemoryStore.ts"
import * as Sleep from "../../src/Sleep.ts"
import * as Step from "../../src/Step.ts"
import { atFastClock } from "./replay.ts"
import { runEffect, slowly, statusesOf } from "./runEffect.ts"

/** Soon after the run has started. */
const sendsNews = (handle: MemoryStore.Handle, workflowRunId: string): void => {
  const payload = { codec: "json" as const, json: `"hello"` }
  setTimeout(() => {
    atFastClock(handle.store.sendEvents([{ workflowRunId, name: "news", payload, id: null }]))
  }, 60)
}

describe("a branch that was interrupted", () => {
  it("does not try its step again", async () => {
    let tries = 0
    const { end } = await runEffect(
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(
          Step.make("hopeless", {
            run: Effect.sync(() => {
              tries++
              throw new Error("no")
            }),
            retry: { maxAttempts: 100, initialDelayMs: 400, backoff: "fixed" },
          }),
        )
        yield* Sleep.make("nap", "100 millis")
        yield* Fiber.interrupt(fiber)
        const before = tries
        yield* Step.make("wait", { run: Effect.promise(() => delay(100)) })
        return [before, tries]
      }),
    )
    const [before, now] = end.result as [number, number]
    expect(end.status).toBe("completed")
    expect(now).toBe(before)
  })

  it("does not try a step again of which a try was under way", async () => {
    let tries = 0
    const body = Effect.promise(async () => {
      tries++
      await delay(100)
      throw new Error("no")
    })
    const { end, handle, workflowRunId } = await runEffect(
      Effect.gen(function* () {
        const retry = { maxAttempts: 100, initialDelayMs: 10, backoff: "fixed" } as const
        const step = Step.make("deaf", { run: Effect.uninterruptible(body), retry })
        const fiber = yield* Effect.forkChild(step)
        yield* Sleep.make("nap", "40 millis")
        yield* Fiber.interrupt(fiber)
        yield* Step.make("wait", { run: Effect.promise(() => delay(400)) })
        return tries
      }),
    )
    expect([end.status, end.result]).toEqual(["completed", 1])
    expect(statusesOf(handle, workflowRunId)).toContain("deaf failed")
  })

  it.each([
    ["its deadline was fixed", Step.make("late", { deadline: "1 hour", run: Effect.void })],
    [
      "it was written down that pure work had led to it",
      Effect.andThen(
        Effect.promise(() => delay(5)),
        Step.make("late", { run: Effect.void }),
      ),
    ],
  ])("does not begin a step while %s", async (_, branch) => {
    let sent = false
    const { end, handle, workflowRunId } = await runEffect(
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(branch)
        yield* Effect.promise(() => vi.waitFor(() => expect(sent).toBe(true), { interval: 5 }))
        yield* Fiber.interrupt(fiber)
        yield* Step.make("wait", { run: Effect.promise(() => delay(300)) })
      }),
      slowly(({ records }) => {
        const isNote = records.some((one) => one.stepKey === "late" && !one.position)
        sent ||= isNote
        return isNote
      }, 150),
    )
    expect(end.status).toBe("completed")
    expect(statusesOf(handle, workflowRunId)).toEqual(["wait completed", "late retrying"])
  })

  it("takes no event while its time limit was fixed", async () => {
    const { end } = await runEffect(
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Event.wait<string>("news", { timeout: "1 hour" }))
        yield* Effect.promise(() => delay(30))
        yield* Fiber.interrupt(fiber)
        return Option.getOrNull(yield* Event.wait<string>("news", { timeout: "10 seconds" }))
      }),
      slowly(({ timers }) => timers.length > 0, 150),
      sendsNews,
    )
    expect([end.status, end.result]).toEqual(["completed", "hello"])
  })

  it("takes no event", async () => {
    const { end } = await runEffect(
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(Event.wait<string>("news"))
        yield* Sleep.make("nap", "100 millis")
        yield* Fiber.interrupt(fiber)
        yield* Sleep.make("another nap", "2 seconds")
        return Option.getOrNull(yield* Event.wait<string>("news", { timeout: "10 seconds" }))
      }),
      (store) => store,
      sendsNews,
    )
    expect([end.status, end.result]).toEqual(["completed", "hello"])
  })
})
