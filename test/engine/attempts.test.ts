/**
 * Attempts of a whole run: which failure is removed, what is carried over, what starts anew.
 */
import { setTimeout as delay } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import {
  atFastClock,
  type Body,
  goOn,
  type Program,
  program,
  record,
  recordsOf,
  watched,
} from "./replay.ts"

const fail = (message: string) => () => Promise.reject(new Error(message))

/** Runs a body with three attempts; answers what ran, in all, and how it ended. */
const attempts = async (body: Body, options: Parameters<typeof program>[2] = {}) => {
  const first = await record(program("attempts", body, { maxAttempts: 3, ...options }))
  const last = first.moments.at(-1)
  return {
    ...first,
    ran: first.world.ran.join(" "),
    records: last === undefined ? [] : recordsOf(last.handle, first.workflowRunId),
    runs: last?.handle.inspect().runs ?? [],
  }
}

describe("the failure that an attempt removes", () => {
  it("is the one that the body threw, though others came later", async () => {
    const { end, ran } = await attempts(async ({ ctx, world }) => {
      try {
        return await ctx.step("shaky", () => world.fails("shaky", 1))
      } catch (error) {
        await ctx.step("log it", fail("no log")).catch(() => undefined)
        throw error
      }
    })
    expect([end.status, end.row.attempt]).toEqual(["completed", 2])
    expect(ran).toBe("shaky log it shaky")
  })

  it("is found in the chain of causes", async () => {
    const { end, ran } = await attempts(async ({ ctx, world }) => {
      try {
        return await ctx.step("shaky", () => world.fails("shaky", 1))
      } catch (error) {
        await ctx.step("log it", fail("no log")).catch(() => undefined)
        const middle = new Error("middle", { cause: error })
        throw Object.assign(new Error("outer"), { cause: middle })
      }
    })
    expect([end.status, end.row.attempt]).toEqual(["completed", 2])
    expect(ran).toBe("shaky log it shaky")
  })

  it("is the earliest of those in an AggregateError", async () => {
    const { end, ran } = await attempts(async ({ ctx, world }) => {
      const ends = await Promise.allSettled([
        ctx.step("x", () => delay(1).then(() => world.fails("x", 1))),
        ctx.step("y", () => delay(10).then(() => world.fails("y", 1))),
      ])
      await ctx.step("log it", fail("no log")).catch(() => undefined)
      const errors = ends.flatMap((one) => (one.status === "rejected" ? [one.reason] : []))
      if (errors.length > 0) throw new AggregateError(errors)
    })
    expect([end.status, end.row.attempt]).toEqual(["completed", 2])
    expect(ran).toBe("x y log it x y log it")
  })

  it("is a child's or a timed-out step's as well", async () => {
    const { end, ran } = await attempts(async ({ ctx, world }) => {
      try {
        return await ctx.step("slow once", {
          timeoutMs: 100,
          run: () => delay(world.count("slow") === 1 ? 200 : 0),
        })
      } catch (error) {
        await ctx.step("log it", fail("no log")).catch(() => undefined)
        throw error
      }
    })
    expect([end.status, end.row.attempt]).toEqual(["completed", 2])
    expect(ran).toBe("slow once log it slow once")
  })

  it("is the last that the body saw, if it threw something of its own", async () => {
    const { end, ran } = await attempts(async ({ ctx, world }) => {
      await ctx.step("first", () => world.fails("first", 1)).catch(() => undefined)
      const second = await ctx.step("second", () => world.fails("second", 1)).catch(() => "failed")
      if (second === "failed") throw new Error("of its own")
      return "ok"
    })
    expect([end.status, end.row.attempt, end.result]).toEqual(["completed", 2, "ok"])
    expect(ran).toBe("first second second")
  })
})

describe("what an attempt keeps", () => {
  it("does not turn back the body's time, however late it is asked for", async () => {
    const { end } = await attempts(async ({ ctx, world }) => {
      const late = () => ctx.step("late", () => delay(10))
      if (ctx.attempt === 1) {
        await Promise.all([late(), ctx.step("shaky", () => world.fails("shaky", 1))])
      }
      await ctx.sleep("pause", 500)
      const before = ctx.now().getTime()
      await late()
      return ctx.now().getTime() >= before
    })
    expect([end.status, end.row.attempt, end.result]).toEqual(["completed", 2, true])
  })

  it("completed steps do not run again, before and after the failure", async () => {
    const { end, ran, records } = await attempts(async ({ ctx, world }) => {
      const a = await ctx.step("a", () => "A")
      const [, after] = await Promise.all([
        ctx.step("shaky", () => world.fails("shaky", 2)),
        ctx.step("after", () => delay(10, "after")),
      ])
      return [a, after, await ctx.step("end", () => "end")]
    })
    expect([end.status, end.row.attempt]).toEqual(["completed", 3])
    expect(end.result).toEqual(["A", "after", "end"])
    expect(ran).toBe("a shaky after shaky shaky end")
    expect(records.filter((one) => one.carried).map((one) => one.stepKey)).toEqual(["after"])
  })

  it("what was completed after the failure decides no race that was decided before it", async () => {
    const { end, world } = await attempts(async ({ ctx, world: services, note }) => {
      const late = ctx.step("late", () => delay(10, "late"))
      const winner = await Promise.race([ctx.step("early", () => "early"), late])
      note("winner", winner)
      await ctx.step(`behind ${winner}`, () => 1)
      try {
        await ctx.step("shaky", () => services.fails("shaky", 1))
      } catch (error) {
        await late
        throw error
      }
      return winner
    })
    expect([end.status, end.result, end.row.attempt]).toEqual(["completed", "early", 2])
    const winners = world.executions.map((one) => one.notes.get("winner"))
    expect(new Set(winners)).toEqual(new Set(["early"]))
  })

  it("what was completed need not be asked for again", async () => {
    const { end, ran } = await attempts(async ({ ctx, world }) => {
      try {
        await ctx.step("shaky", () => world.fails("shaky", 1))
      } catch (error) {
        await ctx.step("cleanup", () => "clean")
        throw error
      }
      return ctx.step("end", () => "end")
    })
    expect([end.status, end.result]).toEqual(["completed", "end"])
    expect(ran).toBe("shaky cleanup shaky end")
  })

  it("a failed child starts anew, a completed one does not", async () => {
    const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)
    const { end, runs } = await attempts(
      async ({ ctx }) => [await ctx.workflow(called("good")), await ctx.workflow(called("bad"))],
      {
        children: [
          (world) => watched("good", world, () => "good"),
          (world) =>
            watched("bad", world, () => {
              world.fails("bad", 1)
              return "better"
            }),
        ],
      },
    )
    expect([end.status, end.result]).toEqual(["completed", ["good", "better"]])
    const children = runs.flatMap(({ workflow, parent }) =>
      parent === null ? [] : [`${workflow} ${parent.attempt}`],
    )
    expect(children.toSorted()).toEqual(["bad 1", "bad 2", "good 1"])
  })
})

describe("an explicit retry of a failed run", () => {
  it("goes on from the failure, and runs nothing again that was completed", async () => {
    const body: Body = async ({ ctx, world }) => {
      const a = await ctx.step("a", () => "A")
      const b = await ctx.step("b", () => {
        world.fails("b", 1)
        return "B"
      })
      return [a, b]
    }
    const given: Program = program("explicit", body)
    const first = await record(given)
    expect(first.end.status).toBe("failed")
    const moment = first.moments.at(-1)
    if (moment === undefined) throw new Error("nothing was recorded")
    expect(atFastClock(moment.handle.store.retryRun(first.workflowRunId))).toBe("retried")
    const end = await goOn(moment, first.workflowRunId, given.code)
    expect([end.status, end.result, end.row.attempt]).toEqual(["completed", ["A", "B"], 2])
    expect(moment.world.ran).toEqual(["b"])
  })
})
