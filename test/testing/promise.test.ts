/**
 * `createTestEngine`: the tests that a promise user writes for workflows that take weeks.
 */
import { defineWorkflow, MemoryWorkflowStore } from "flowly"
import { createTestEngine, type TestEngineOptions } from "flowly/testing"
import { describe, expect, it } from "vitest"

const day = 24 * 3600 * 1000
/** It takes a few milliseconds; a loaded machine may take more. */
const budgetMs = 1000

const startAt = new Date("2030-01-01T00:00:00Z")

const make = (options: TestEngineOptions) => createTestEngine({ startAt, ...options })

/** Fails unless `use` was quick, by the real clock. The first call of a process pays for loading. */
const quickly = async <A>(use: () => Promise<A>): Promise<A> => {
  const before = performance.now()
  const result = await use()
  expect(performance.now() - before).toBeLessThan(budgetMs)
  return result
}

const trial = defineWorkflow("trial", async (ctx, input: { readonly email: string }) => {
  await ctx.step("welcome", () => `welcome ${input.email}`)
  await ctx.sleep("trial period", "30 days")
  return ctx.step("invoice", () => `invoice for ${input.email}`)
})

describe("a sleep of 30 days", () => {
  it("is over after 30 days of the test's clock, and not before", async () => {
    await using engine = make({ workflows: [trial] })
    const handle = await engine.trigger(trial, { input: { email: "ada@example.com" } })
    await engine.settle()
    await quickly(async () => {
      await engine.clock.advance("29 days")
      expect(await handle.status()).toMatchObject({ status: "sleeping" })
      await engine.clock.advance("1 day")
    })
    expect(await handle.status()).toMatchObject({
      status: "completed",
      result: "invoice for ada@example.com",
      completedAt: new Date("2030-01-31T00:00:00Z"),
    })
    expect(engine.clock.now()).toEqual(new Date("2030-01-31T00:00:00Z"))
  })

  it("is skipped by runToEnd, which gives the status with the result", async () => {
    await using engine = make({ workflows: [trial] })
    const handle = await engine.trigger(trial, { input: { email: "ada@example.com" } })
    const end = await quickly(() => engine.runToEnd(handle))
    expect(end).toMatchObject({ status: "completed", result: "invoice for ada@example.com" })
    expect(engine.clock.now().getTime() - startAt.getTime()).toBe(30 * day)
  })

  it("starts at the present, when nothing else is said", async () => {
    await using engine = createTestEngine({ workflows: [trial] })
    expect(Math.abs(engine.clock.now().getTime() - Date.now())).toBeLessThan(60_000)
  })
})

describe("retries with long backoffs", () => {
  const flaky = (succeedsAt: number, tries: Array<number>) =>
    defineWorkflow("flaky", (ctx) =>
      ctx.step("call", {
        run: ({ attempt }) => {
          tries.push(attempt)
          if (attempt < succeedsAt) throw new Error(`try ${attempt}`)
          return attempt
        },
        retry: { maxAttempts: 6, initialDelayMs: 3_600_000, maxDelayMs: 30 * day, factor: 3 },
      }),
    )

  it("cost no time, and each comes exactly when it is due", async () => {
    const tries: Array<number> = []
    const workflow = flaky(5, tries)
    await using engine = make({ workflows: [workflow] })
    const handle = await engine.trigger(workflow)
    expect(await quickly(() => engine.runToEnd(handle))).toMatchObject({ result: 5 })
    expect(tries).toEqual([1, 2, 3, 4, 5])
    // 1 + 3 + 9 + 27 hours
    expect(engine.clock.now()).toEqual(new Date(startAt.getTime() + 40 * 3_600_000))
  })

  it("all happen in one advance, as they would in time", async () => {
    const tries: Array<number> = []
    const workflow = flaky(99, tries)
    await using engine = make({ workflows: [workflow] })
    const handle = await engine.trigger(workflow)
    await quickly(() => engine.clock.advance("39 hours"))
    expect(tries).toEqual([1, 2, 3, 4])
    expect(await engine.history(handle)).toMatchObject([
      { key: "call", status: "retrying", attempts: 4, retryAt: new Date("2030-01-02T16:00:00Z") },
    ])
    await engine.clock.advance("1 hour")
    expect(tries).toEqual([1, 2, 3, 4, 5])
  })
})

describe("a whole program", () => {
  const log: Array<string> = []
  const ship = defineWorkflow("ship", async (ctx, input: { readonly fails: boolean }) => {
    await ctx.sleep("transport", { days: 3 })
    return ctx.step("deliver", () => {
      if (input.fails) throw new Error("nobody at home")
      return "delivered"
    })
  })
  const order = defineWorkflow("order", async (ctx, input: { readonly fails: boolean }) => {
    for (const part of ["reserve", "charge"]) {
      await ctx.step(part, {
        run: ({ attempt }) => {
          if (part === "charge" && attempt < 3) throw new Error("the bank is closed")
          log.push(part)
          return part
        },
        compensate: (result) => {
          log.push(`undo ${result}`)
        },
        retry: { maxAttempts: 3, initialDelayMs: day, maxDelayMs: 30 * day },
      })
    }
    await ctx.sleep("cooling off", "14 days")
    await ctx.emit("shipping", { part: "all" })
    return ctx.workflow(ship, input)
  })

  it("with retries, sleep and a child completes", async () => {
    log.length = 0
    await using engine = make({ workflows: [order, ship] })
    const handle = await engine.trigger(order, { input: { fails: false } })
    const end = await quickly(() => engine.runToEnd(handle))
    expect(end).toMatchObject({ status: "completed", result: "delivered" })
    expect(log).toEqual(["reserve", "charge"])
    expect(await engine.history(handle)).toMatchObject([
      { key: "reserve", kind: "step", attempts: 1, result: "reserve", compensation: null },
      { key: "charge", kind: "step", attempts: 3, completedAt: new Date("2030-01-04T00:00:00Z") },
      { key: "cooling off", kind: "sleep", completedAt: new Date("2030-01-18T00:00:00Z") },
      { key: "shipping", kind: "emit" },
      { key: "ship", kind: "child", completedAt: new Date("2030-01-21T00:00:00Z") },
    ])
    expect(await engine.getEvents(handle.workflowRunId)).toMatchObject([
      { event: "shipping", data: { part: "all" }, at: new Date("2030-01-18T00:00:00Z") },
    ])
  })

  it("is undone in reverse order when its child fails", async () => {
    log.length = 0
    await using engine = make({ workflows: [order, ship] })
    const handle = await engine.trigger(order, { input: { fails: true } })
    const end = await quickly(() => engine.runToEnd(handle))
    expect(end).toMatchObject({ status: "compensated", failedStep: "ship" })
    expect(log).toEqual(["reserve", "charge", "undo charge", "undo reserve"])
    const undone = (await engine.history(handle)).filter((one) => one.compensation !== null)
    expect(undone.map((one) => one.key)).toEqual(["reserve", "charge"])
  })
})

describe("undos with long backoffs", () => {
  it("cost no time, and each comes when it is due", async () => {
    const tries: Array<Date> = []
    const workflow = defineWorkflow("saga", async (ctx) => {
      await ctx.step("reserve", {
        run: () => 1,
        compensate: {
          run: () => {
            tries.push(engine.clock.now())
            if (tries.length < 3) throw new Error("not yet")
          },
          retry: { maxAttempts: 3, backoff: "fixed", initialDelayMs: day, maxDelayMs: day },
        },
      })
      throw new Error("no luck")
    })
    await using engine = make({ workflows: [workflow] })
    const handle = await engine.trigger(workflow)
    const end = await quickly(() => engine.runToEnd(handle))
    expect(end.status).toBe("compensated")
    expect(tries.map((at) => (at.getTime() - startAt.getTime()) / day)).toEqual([0, 1, 2])
  })
})

describe("schedules", () => {
  it("each tick on the way fires, at its instant", async () => {
    const ticks: Array<string> = []
    const report = defineWorkflow("report", (ctx) => {
      const at: string = engine.clock.now().toISOString()
      return ctx.step("write", () => {
        ticks.push(at)
      })
    })
    await using engine = make({ workflows: [report] })
    const { nextRun } = await engine.schedule(report, { cron: "0 9 * * 1" })
    expect(nextRun).toEqual(new Date("2030-01-07T09:00:00Z"))
    await quickly(() => engine.clock.advance("21 days"))
    expect(ticks).toEqual([
      "2030-01-07T09:00:00.000Z",
      "2030-01-14T09:00:00.000Z",
      "2030-01-21T09:00:00.000Z",
    ])
  })

  it("a run scheduled for later starts then", async () => {
    await using engine = make({ workflows: [trial] })
    const scheduledFor = new Date("2030-03-01T00:00:00Z")
    const handle = await engine.trigger(trial, { input: { email: "a" }, scheduledFor })
    expect(await engine.runToEnd(handle)).toMatchObject({
      startedAt: scheduledFor,
      completedAt: new Date("2030-03-31T00:00:00Z"),
    })
  })
})

describe("deadlines", () => {
  it("a run's deadline ends it at its instant", async () => {
    await using engine = make({ workflows: [trial] })
    const handle = await engine.trigger(trial, { input: { email: "a" }, timeoutMs: 7 * day })
    const end = await quickly(() => engine.runToEnd(handle))
    expect(end).toMatchObject({ status: "failed", completedAt: new Date("2030-01-08T00:00:00Z") })
    expect((end as { error: Error }).error).toMatchObject({ code: "RunTimedOut" })
  })

  it("a step that never ends times out by the test's clock", async () => {
    const workflow = defineWorkflow("hangs", (ctx) =>
      ctx.step("hang", { run: () => new Promise<void>(() => {}), timeoutMs: 3_600_000 }),
    )
    await using engine = make({ workflows: [workflow], patienceMs: 20 })
    const handle = await engine.trigger(workflow)
    const end = await engine.runToEnd(handle)
    expect(end).toMatchObject({ status: "failed", error: { code: "StepTimeout" } })
    expect(engine.clock.now().getTime() - startAt.getTime()).toBe(3_600_000)
  })

  it("a step at real work is waited for before time moves on", async () => {
    const workflow = defineWorkflow("works", (ctx) =>
      ctx.step("work", {
        run: () => new Promise<string>((resolve) => setTimeout(resolve, 40, "done")),
        timeoutMs: 1000,
      }),
    )
    await using engine = make({ workflows: [workflow], patienceMs: 5000 })
    const handle = await engine.trigger(workflow)
    await engine.clock.advance("30 days")
    expect(await handle.status()).toMatchObject({ status: "completed", result: "done" })
  })
})

describe("a run that time does not bring to its end", () => {
  it("says that its engine does not know a child's workflow", async () => {
    const unknown = defineWorkflow("unknown", () => undefined)
    const parent = defineWorkflow("parent", (ctx) => ctx.workflow(unknown))
    await using engine = make({ workflows: [parent] })
    const handle = await engine.trigger(parent)
    await expect(engine.runToEnd(handle)).rejects.toMatchObject({
      code: "RunStuck",
      message: expect.stringMatching(/nothing is due.*waits for child "unknown"/),
    })
  })

  it("says what it waits for, not what it has waited for", async () => {
    const workflow = defineWorkflow("waits", async (ctx) => {
      await ctx.sleep("nap", "1 day")
      await ctx.waitForEvent("go")
    })
    await using engine = make({ workflows: [workflow] })
    const handle = await engine.trigger(workflow)
    await expect(engine.runToEnd(handle)).rejects.toMatchObject({
      code: "RunStuck",
      details: { waitsFor: "is waiting: for an event that was not sent" },
    })
  })

  it("says why it is paused", async () => {
    let version = 1
    const changing = defineWorkflow("changing", async (ctx) => {
      await ctx.step(version === 1 ? "first" : "other", () => undefined)
      await ctx.sleep("between", "1 day")
    })
    await using engine = make({ workflows: [changing] })
    const handle = await engine.trigger(changing)
    await engine.settle()
    version = 2
    await expect(engine.runToEnd(handle)).rejects.toMatchObject({
      code: "RunStuck",
      message: expect.stringMatching(/is paused: .*first/),
    })
  })

  it("says which step executes and does not end", async () => {
    const workflow = defineWorkflow("hangs", (ctx) =>
      ctx.step("hang", () => new Promise<void>(() => {})),
    )
    await using engine = make({ workflows: [workflow], patienceMs: 20 })
    const handle = await engine.trigger(workflow)
    const before = performance.now()
    await expect(engine.runToEnd(handle, { realMs: 50 })).rejects.toThrow(/a step executes/)
    expect(performance.now() - before).toBeLessThan(4000)
  })

  it("is given up after the limits", async () => {
    const forever = defineWorkflow("forever", async (ctx) => {
      for (;;) await ctx.sleep("again", "1 hour")
    })
    await using engine = make({ workflows: [forever] })
    const handle = await engine.trigger(forever)
    const before = engine.clock.now().getTime()
    await expect(engine.runToEnd(handle, { maxWakes: 20 })).rejects.toThrow(/20 wakes/)
    expect(engine.clock.now().getTime() - before).toBe(20 * 3_600_000)
    await expect(engine.runToEnd(handle, { maxMs: 5 * 3_600_000 })).rejects.toThrow(
      /nothing is due within 18000000 ms \(maxMs\)\..*the end of "again#\d+" at 2030-/,
    )
  })

  it("that is not there is an error", async () => {
    await using engine = make({ workflows: [trial] })
    const handle = engine.handle(trial, "00000000-0000-7000-8000-000000000000")
    await expect(engine.runToEnd(handle)).rejects.toMatchObject({ code: "RunNotFound" })
  })
})

describe("two drives at once", () => {
  it("go one behind the other: the second begins where the first has ended", async () => {
    await using engine = make({ workflows: [trial] })
    const handle = await engine.trigger(trial, { input: { email: "a" } })
    const limits = { maxMs: 25 * day }
    const first = engine.clock.advance("10 days")
    expect((await engine.runToEnd(handle, limits)).status).toBe("completed")
    await first
    expect(engine.clock.now().getTime() - startAt.getTime()).toBe(30 * day)
    await Promise.all([engine.clock.advance("1 day"), engine.clock.advance("2 days")])
    expect(engine.clock.now().getTime() - startAt.getTime()).toBe(33 * day)
  })
})

describe("stopping", () => {
  it("a step that ignores its signal does not hold the engine", async () => {
    const workflow = defineWorkflow("hangs", (ctx) =>
      ctx.step("hang", () => new Promise<void>(() => {})),
    )
    const engine = make({ workflows: [workflow], patienceMs: 20 })
    const handle = await engine.trigger(workflow)
    await engine.settle()
    expect(await handle.status()).toMatchObject({ status: "running" })
    await engine.stop()
  })
})

describe("a store that is shared", () => {
  it("shows another engine the runs of the first", async () => {
    const store = new MemoryWorkflowStore()
    const input = { email: "ada@example.com" }
    await using first = make({ workflows: [trial], store })
    const { workflowRunId } = await first.trigger(trial, { input })
    await using second = make({ workflows: [trial], store })
    await second.settle()
    expect(await second.getStatus(workflowRunId)).toMatchObject({ workflow: "trial", input })
  })
})

describe("many runs", () => {
  it("are all seen: the first of hundreds that sleep ends at its time", async () => {
    const sleeper = defineWorkflow("sleeper", (ctx, days: number) => ctx.sleep("nap", { days }))
    await using engine = make({ workflows: [sleeper] })
    const first = await engine.trigger(sleeper, { input: 1 })
    await engine.settle()
    const others = Array.from({ length: 501 }, () => ({ input: 30 }))
    await engine.triggerMany(sleeper, others)
    await engine.runToEnd(first)
    expect(engine.clock.now()).toEqual(new Date(startAt.getTime() + day))
  })

  it("200 runs that sleep for a month each take well under a second", async () => {
    await using engine = make({ workflows: [trial] })
    const handles = await Promise.all(
      Array.from({ length: 200 }, (_, n) => engine.trigger(trial, { input: { email: `${n}` } })),
    )
    await engine.clock.advance("30 days")
    const ends = await Promise.all(handles.map((handle) => handle.result()))
    expect(ends).toEqual(handles.map((_, n) => `invoice for ${n}`))
  })
})
