/**
 * A body that is at work of its own, which no operation stands for: it is heard, and decides the same
 * on replay.
 */
import { setTimeout as delay } from "node:timers/promises"
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import * as MemoryStore from "../../src/MemoryStore.ts"
import * as Sleep from "../../src/Sleep.ts"
import * as Step from "../../src/Step.ts"
import { goOn, program, record, recordsOf } from "./replay.ts"
import { runEffect } from "./runEffect.ts"

describe("pure asynchronous work", () => {
  it("goes on beside a wait that is open for long, though the run has parked", async () => {
    const before = performance.now()
    const { end } = await record(
      program("loser", async ({ ctx }) => {
        const winner = await Promise.race([
          ctx.step("quick", () => "quick"),
          ctx.sleep("limit", "30 days").then(() => "late"),
        ])
        await delay(1500)
        return [winner, await ctx.step("behind", () => "behind")]
      }),
      { parkGraceMs: 5 },
    )
    expect([end.status, end.result]).toEqual(["completed", ["quick", "behind"]])
    expect(performance.now() - before).toBeLessThan(15_000)
  })

  it("may be the end of a body whose run has parked", async () => {
    const { end } = await record(
      program("ends late", async ({ ctx }) => {
        await Promise.race([delay(5), ctx.sleep("limit", "30 days")])
        await delay(500)
        return "end"
      }),
      { parkGraceMs: 5 },
    )
    expect([end.status, end.result]).toEqual(["completed", "end"])
  })

  it("of an Effect is heard too after its run has parked", async () => {
    const pure = Effect.promise(() => delay(300, "pure"))
    const { end } = await runEffect(
      Effect.gen(function* () {
        const winner = yield* Effect.race(pure, Effect.as(Sleep.make("limit", "30 days"), "late"))
        return [winner, yield* Step.make("behind", { run: Effect.succeed(1) })]
      }),
    )
    expect([end.status, end.result]).toEqual(["completed", ["pure", 1]])
  })

  it("that has won a race wins it again, though the loser was recorded meanwhile", async () => {
    const given = program("won behind work", async ({ ctx, note }) => {
      const winner = await Promise.race([
        ctx.step("a", () => "a").then((value) => delay(10, value)),
        ctx.step("b", () => delay(150, "b")),
      ])
      note("race", winner)
      await ctx.step(`behind ${winner}`, () => delay(300))
      return [winner, await ctx.step("end", () => delay(50, "end"))]
    })
    const first = await record(given)
    expect(first.end.result).toEqual(["a", "end"])
    const keys = (index: number) =>
      recordsOf(first.moments[index]?.handle ?? MemoryStore.makeUnsafe(), first.workflowRunId)
        .filter((one) => one.status === "completed")
        .map((one) => one.stepKey)
    const index = first.moments.findIndex((_, at) => keys(at).length === 3)
    expect(keys(index)).toEqual(["a", "b", "behind a"])
    const moment = first.moments[index]
    if (moment === undefined) throw new Error("there is no such moment")
    const end = await goOn(moment, first.workflowRunId, given.code)
    expect([end.status, end.result]).toEqual(["completed", ["a", "end"]])
    expect(moment.world.ran).toEqual(["end"])
  })

  it("that has won a race wins it again, though what it led to was not recorded", async () => {
    const given = program("won by work", async ({ ctx, note }) => {
      const winner = await Promise.race([ctx.step("a", () => delay(150, "a")), delay(20, "work")])
      note("race", winner)
      await ctx.step(`behind ${winner}`, () => delay(400))
      return winner
    })
    const first = await record(given)
    expect(first.end.result).toBe("work")
    const moment = first.moments.find(({ handle }) =>
      recordsOf(handle, first.workflowRunId).some((one) => one.stepKey === "a"),
    )
    if (moment === undefined) throw new Error("there is no such moment")
    const [a, begun, ...others] = recordsOf(moment.handle, first.workflowRunId)
    expect([a?.stepKey, begun?.stepKey, begun?.attempts, others]).toEqual([
      "a",
      "behind work",
      0,
      [],
    ])
    const end = await goOn(moment, first.workflowRunId, given.code)
    expect([end.status, end.result]).toEqual(["completed", "work"])
    expect(moment.world.ran).toEqual(["behind work"])
  })

  it("is not taken for changed code because the event loop was blocked", async () => {
    const blocked = () =>
      new Promise<void>((resolve) => {
        setImmediate(() => {
          const until = performance.now() + 300
          while (performance.now() < until);
          setImmediate(resolve)
        })
      })
    const given = program("blocked", async ({ ctx }) => {
      await ctx.step("a", () => 1)
      await blocked()
      await ctx.step("b", () => 2)
      return ctx.step("c", () => "end")
    })
    const first = await record(given)
    const moment = first.moments.find(
      ({ handle }) => recordsOf(handle, first.workflowRunId).length === 2,
    )
    if (moment === undefined) throw new Error("there is no such moment")
    const limits = { divergenceGraceMs: 100 }
    const end = await goOn(moment, first.workflowRunId, given.code, limits)
    expect([end.status, end.result]).toEqual(["completed", "end"])
  })
})
