/** Children: results, failures, loops, parallel ones, depth. */
import { describe, expect, it } from "vitest"
import { defineWorkflow, FlowlyError } from "../../src/index.ts"
import { type Backend, makeGate, refusal, until, untilStatus, useRig } from "./rig.ts"

const endings: ReadonlyArray<readonly [name: string, end: () => number]> = [
  ["success", () => 1],
  [
    "failure",
    () => {
      throw new Error("boom")
    },
  ],
]

export const childrenSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  it("give the parent their result, once, in loops and at once", async () => {
    const gate = makeGate()
    const started: Array<number> = []
    const square = defineWorkflow(rig.name("square"), async (ctx, input: number) => {
      await ctx.step("note", () => void started.push(input))
      return { square: input * input }
    })
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      const results: Array<number> = []
      for (const n of [1, 2]) results.push((await ctx.workflow(square, n)).square)
      const more = await Promise.all([3, 4].map((n) => ctx.workflow(square, n)))
      await ctx.step("gate", gate.step)
      const named = await ctx.workflow(square, 5, { name: "five" })
      return [...results, ...more.map((one) => one.square), named.square]
    })
    const { handle } = await rig.replay(parent, gate, {}, [square])
    expect(await handle.result()).toEqual([1, 4, 9, 16, 25])
    expect(started.toSorted()).toEqual([1, 2, 3, 4, 5])
  })

  it("that fail reject with ChildFailed, the child's error as its cause", async () => {
    const child = defineWorkflow(rig.name("failing child"), async () => {
      throw Object.assign(new TypeError("no luck"), { code: "E_LUCK" })
    })
    const seen: Array<unknown> = []
    const parent = defineWorkflow(rig.name("catching parent"), async (ctx) => {
      try {
        await ctx.workflow(child)
      } catch (error) {
        seen.push(error)
        const { code, details, cause } = error as FlowlyError
        return [code, details["status"], (cause as { code: string }).code]
      }
      return ["no error"]
    })
    const engine = await rig.started([child, parent])
    const handle = await engine.trigger(parent)
    expect(await handle.result()).toEqual(["ChildFailed", "failed", "E_LUCK"])
    expect(seen[0]).toBeInstanceOf(FlowlyError)
    expect((seen[0] as Error).message).toContain("no luck")
  })

  it("fail their parent when it does not catch, and the cause leads to the child's error", async () => {
    const child = defineWorkflow(rig.name("child"), () => {
      throw new RangeError("deep down")
    })
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      await ctx.workflow(child)
    })
    const engine = await rig.started([child, parent])
    const error = await refusal((await engine.trigger(parent)).result())
    expect(error.cause).toMatchObject({
      code: "ChildFailed",
      cause: { name: "RangeError", message: "deep down" },
    })
  })

  it("nest with one slot: a waiting parent holds none", async () => {
    const grandchild = defineWorkflow(rig.name("grandchild"), async (ctx, n: number) =>
      ctx.step("add", () => n + 1),
    )
    const child = defineWorkflow(rig.name("child"), async (ctx, n: number) =>
      ctx.workflow(grandchild, n + 1),
    )
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => ctx.workflow(child, 1))
    const engine = await rig.started([parent, child, grandchild], { worker: { maxConcurrent: 1 } })
    expect(await (await engine.trigger(parent)).result()).toBe(3)
  })

  it("are waited for without a slot, and not by polling", async () => {
    const release = Promise.withResolvers<void>()
    const child = defineWorkflow(rig.name("slow child"), async (ctx) => {
      await ctx.step("wait", () => release.promise)
      return "done"
    })
    const parent = defineWorkflow(rig.name("patient"), async (ctx) => ctx.workflow(child))
    const engine = await rig.started([parent, child])
    const handle = await engine.trigger(parent)
    const status = await untilStatus(engine, handle.workflowRunId, "waiting")
    expect(status.currentStep).toBe(child.name)
    await until(
      async () => (await engine.healthCheck()).worker?.running === 1,
      "only the child runs",
    )
    release.resolve()
    expect(await handle.result()).toBe("done")
  })

  it("run on another engine that alone knows them", async () => {
    const child = defineWorkflow(rig.name("elsewhere"), async (ctx) => ctx.step("one", () => 1))
    const parent = defineWorkflow(rig.name("here"), async (ctx) => ctx.workflow(child))
    const here = await rig.started([parent])
    const there = await rig.started([child])
    const handle = await here.trigger(parent)
    expect(await handle.result()).toBe(1)
    await there.stop()
  })

  it("that somebody cancels reject with ChildFailed, which says so", async () => {
    const child = defineWorkflow(rig.name("child"), async (ctx) => {
      await ctx.waitForEvent("go")
    })
    const id = Promise.withResolvers<string>()
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      const started = await ctx.startChild(child)
      id.resolve(started.workflowRunId)
      try {
        await started.result()
      } catch (error) {
        const { code, details } = error as FlowlyError
        return [code, details["status"]]
      }
      return ["no error"]
    })
    const engine = await rig.started([child, parent])
    const handle = await engine.trigger(parent)
    await engine.cancel(await id.promise)
    expect(await handle.result()).toEqual(["ChildFailed", "cancelled"])
  })

  it("that are still under way are cancelled when their parent fails", async () => {
    const aborts = Promise.withResolvers<void>()
    const started = Promise.withResolvers<void>()
    const child = defineWorkflow(rig.name("endless"), async (ctx) => {
      await ctx.step("endless", ({ signal }) => {
        started.resolve()
        return new Promise<void>((resolve) => {
          signal.addEventListener("abort", () => {
            aborts.resolve()
            resolve()
          })
        })
      })
    })
    const parent = defineWorkflow(rig.name("fails"), async (ctx) => {
      await Promise.all([
        ctx.workflow(child),
        ctx.step("fails", async () => {
          await started.promise
          throw new Error("no")
        }),
      ])
    })
    const engine = await rig.started([parent, child])
    const handle = await engine.trigger(parent)
    expect(await refusal(handle.result())).toMatchObject({ cause: { message: "no" } })
    await aborts.promise
  })

  describe("with options that mean nothing", () => {
    it("are refused by name", async () => {
      const child = defineWorkflow(rig.name("child"), () => 1)
      const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
        const said: Array<string> = []
        for (const options of [
          { timeoutMs: -1 },
          { timeoutMs: NaN },
          { maxAttempts: 0 },
          { maxAttempts: 1e12 },
          { name: "" },
        ]) {
          await ctx
            .workflow(child, undefined, options)
            .catch((error: FlowlyError) => said.push(error.code))
        }
        await ctx.workflow(undefined as never).catch((error: FlowlyError) => said.push(error.code))
        return said
      })
      const engine = await rig.started([parent, child])
      expect(await (await engine.trigger(parent)).result()).toEqual(Array(6).fill("InvalidInput"))
    })
  })

  it("are called by child, too; what cannot be done with them is told", async () => {
    const child = defineWorkflow(rig.name("child"), (_, n: number) => n + 1)
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      const refused = await ctx
        .child(child, 1, { onParentClose: "keep" as never })
        .catch((error: FlowlyError) => error.code)
      return [await ctx.child(child, 1), refused]
    })
    const engine = await rig.started([child, parent])
    expect(await (await engine.trigger(parent)).result()).toEqual([2, "InvalidInput"])
  })

  it("are started at once, and awaited later, with their id at hand", async () => {
    const gate = makeGate()
    const worked: Array<number> = []
    const child = defineWorkflow(rig.name("child"), (ctx, n: number) =>
      ctx.step("work", () => {
        worked.push(n)
        return n * 2
      }),
    )
    const ids: Array<string> = []
    const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
      const handles = [await ctx.startChild(child, 1), await ctx.startChild(child, 2)]
      ids.push(...handles.map((one) => one.workflowRunId))
      await ctx.step("gate", gate.step)
      return Promise.all(handles.map((one) => one.result()))
    })
    const { handle, engine } = await rig.replay(parent, gate, {}, [child])
    expect(await handle.result()).toEqual([2, 4])
    expect(ids.slice(0, 2)).toEqual(ids.slice(2))
    expect(worked.toSorted()).toEqual([1, 2])
    expect(await engine.getStatus(ids[0] ?? "")).toMatchObject({ status: "completed", result: 2 })
  })

  describe("that are open when their parent ends", () => {
    const family = (onParentClose: "cancel" | "abandon" | undefined, end: () => number) => {
      const child = defineWorkflow(rig.name("child"), async (ctx) => {
        await ctx.waitForEvent("go")
        return "done"
      })
      const ids: Array<string> = []
      const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
        const started = await ctx.startChild(child, undefined, { onParentClose })
        if (ids.length === 0) ids.push(started.workflowRunId)
        return end()
      })
      return { child, parent, ids }
    }

    it.each(endings)("are cancelled, after its %s", async (_, end) => {
      const { child, parent, ids } = family(undefined, end)
      const engine = await rig.started([child, parent])
      await (await engine.trigger(parent)).result().catch(() => undefined)
      await untilStatus(engine, ids[0] ?? "", "cancelled")
    })

    it.each(endings)("live on when they were abandoned, after its %s", async (_, end) => {
      const { child, parent, ids } = family("abandon", end)
      const engine = await rig.started([child, parent])
      await (await engine.trigger(parent)).result().catch(() => undefined)
      await engine.sendEvent(ids[0] ?? "", "go", null)
      expect(await engine.handle(child, ids[0] ?? "").result()).toBe("done")
    })
  })

  describe("ctx.map", () => {
    it("works on so many items at once, and keeps their order", async () => {
      let open = 0
      let most = 0
      const workflow = defineWorkflow(rig.name("map"), (ctx) =>
        ctx.map(
          [4, 3, 2, 1, 0],
          (n, index) =>
            ctx.step(`item ${index}`, async () => {
              most = Math.max(most, ++open)
              await new Promise((resolve) => setTimeout(resolve, n * 5))
              open--
              return n * 10
            }),
          { concurrency: 2 },
        ),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual([40, 30, 20, 10, 0])
      expect(most).toBe(2)
    })

    it("begins no further item after the first error", async () => {
      const begun: Array<number> = []
      const workflow = defineWorkflow(rig.name("map"), async (ctx) => {
        const item = (n: number) =>
          ctx.step(`item ${n}`, async () => {
            begun.push(n)
            if (n === 1) throw new Error("one")
            await new Promise((resolve) => setTimeout(resolve, 20))
          })
        const failed = await ctx
          .map([1, 2, 3, 4], item, { concurrency: 2 })
          .catch((error: Error) => error.message)
        // the second item ends meanwhile, and would make room for a third
        await ctx.sleep("while", 300)
        return failed
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("one")
      expect(begun).toEqual([1, 2])
    })

    it("needs a concurrency of at least one", async () => {
      const workflow = defineWorkflow(rig.name("map"), (ctx) =>
        ctx.map([1], () => 1, { concurrency: 0 }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error.cause).toMatchObject({ code: "InvalidInput" })
    })
  })
}
