/** Schedules through the promise API, on the real clock, with rules that have seconds. */
import { expect, it } from "vitest"
import { type DurableEngine, defineWorkflow } from "../../src/index.ts"
import { type Backend, refusal, sleep, until, useRig } from "./rig.ts"

const everySecond = "* * * * * *"

export const cronSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  /** Removes the schedule also when the test fails: the store outlives it. */
  const withSchedule = async (
    engine: DurableEngine,
    key: string,
    use: () => Promise<void>,
  ): Promise<void> => {
    try {
      await use()
    } finally {
      await engine.unschedule(key)
    }
  }

  it("schedule answers the next tick, in the zone that was asked for", async () => {
    const workflow = defineWorkflow(rig.name("weekly"), () => undefined)
    const engine = rig.engine([workflow])
    const cron = "0 9 * * 1"
    for (const timeZone of [undefined, "Europe/Berlin", "America/New_York"]) {
      const schedule = await engine.schedule(workflow, { cron, timeZone })
      expect(schedule.key).toBe(workflow.name)
      const local = new Intl.DateTimeFormat("en-GB", {
        timeZone: timeZone ?? "UTC",
        weekday: "long",
        hour: "2-digit",
        minute: "2-digit",
      }).format(schedule.nextRun)
      expect(local).toMatch(/^Monday.*09:00$/)
      expect(schedule.nextRun.getTime()).toBeGreaterThan(Date.now())
      expect(schedule.nextRun.getTime()).toBeLessThan(Date.now() + 8 * 86_400_000)
    }
    expect(await engine.unschedule(workflow.name)).toBe(true)
    expect(await engine.unschedule(workflow.name)).toBe(false)
  })

  it("each tick starts one run with four engines, until the schedule is taken away", async () => {
    const runs = new Map<string, string>()
    const workflow = defineWorkflow(rig.name("ticks"), async (ctx, input: string) => {
      await ctx.step("note", () => void runs.set(ctx.workflowRunId, input))
    })
    const engines = await Promise.all([1, 2, 3, 4].map(() => rig.started([workflow])))
    const [engine] = engines as [DurableEngine]
    await withSchedule(engine, "each second", async () => {
      await engine.schedule(workflow, { cron: everySecond, input: "tick", key: "each second" })
      await until(() => runs.size >= 3)
    })
    const seconds = new Set<number>()
    for (const [id, input] of runs) {
      expect(input).toBe("tick")
      const status = await engine.getStatus(id)
      seconds.add(Math.floor((status?.createdAt.getTime() ?? 0) / 1000))
    }
    // two ticks may be late into one second only when the machine stalls: the runs are far fewer
    // than the twelve that four engines without agreement would have started
    expect(seconds.size).toBeGreaterThanOrEqual(runs.size - 1)
    await sleep(50)
    const after = runs.size
    await sleep(1100)
    expect(runs.size).toBeLessThanOrEqual(after + 1)
    expect(runs.size).toBeLessThanOrEqual(seconds.size + 2)
  })

  it("schedule replaces the one with its key", async () => {
    const heard: Array<string> = []
    const workflow = defineWorkflow(rig.name("replaced"), async (ctx, input: string) => {
      await ctx.step("note", () => void heard.push(input))
    })
    const engine = await rig.started([workflow])
    await withSchedule(engine, workflow.name, async () => {
      await engine.schedule(workflow, { cron: "@yearly", input: "old" })
      const first = await engine.schedule(workflow, { cron: everySecond, input: "old" })
      const second = await engine.schedule(workflow, { cron: everySecond, input: "new" })
      expect(second.key).toBe(first.key)
      await until(() => heard.length > 0)
    })
    expect(new Set(heard)).toEqual(new Set(["new"]))
  })

  it("schedules with other keys are others", async () => {
    const heard = new Set<string>()
    const workflow = defineWorkflow(rig.name("keys"), async (ctx, input: string) => {
      await ctx.step("note", () => void heard.add(input))
    })
    const engine = await rig.started([workflow])
    await withSchedule(engine, "key a", () =>
      withSchedule(engine, "key b", async () => {
        await engine.schedule(workflow, { cron: everySecond, input: "a", key: "key a" })
        await engine.schedule(workflow, { cron: everySecond, input: "b", key: "key b" })
        await until(() => heard.size === 2)
      }),
    )
  })

  it("knows the names of common rules, and says what to write instead of an impossible one", async () => {
    const workflow = defineWorkflow(rig.name("names"), () => undefined)
    const engine = rig.engine([workflow])
    await withSchedule(engine, workflow.name, async () => {
      for (const cron of ["@hourly", "@daily", "@weekly", "@monthly", "@yearly"]) {
        const { nextRun } = await engine.schedule(workflow, { cron })
        expect(nextRun.getTime() % 3_600_000).toBe(0)
      }
    })
    expect((await refusal(engine.schedule(workflow, { cron: "0 0 30 2 *" }))).message).toContain(
      "never happens",
    )
  })
}
