/** Steps: what they are told, how they are tried, and what they leave. */
import { describe, expect, it } from "vitest"
import { defineWorkflow, type FlowlyError, type StepInfo } from "../../src/index.ts"
import { aborted, type Backend, makeGate, refusal, useRig } from "./rig.ts"

export const stepsSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  describe("steps", () => {
    it("take a function in place of options", async () => {
      const workflow = defineWorkflow(rig.name("short"), (ctx) => ctx.step("one", () => 41 + 1))
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe(42)
    })

    it("may answer what can be awaited and is no promise, as query builders do", async () => {
      const query = (rows: () => unknown) => ({
        // oxlint-disable-next-line unicorn/no-thenable -- query builders are thenables by design, and what a step makes of one is tested
        then: (resolve: (value: unknown) => void, reject: (error: unknown) => void) => {
          try {
            resolve(rows())
          } catch (error) {
            reject(error)
          }
        },
      })
      const workflow = defineWorkflow(rig.name("query"), async (ctx) => {
        const broken = (message: string) =>
          query(() => {
            throw new TypeError(message)
          }) as unknown as Promise<unknown>
        const rows = await ctx.step(
          "rows",
          () => query(() => [1, 2]) as unknown as Promise<unknown>,
        )
        const error = await ctx
          .step("fails", () => broken("no table"))
          .catch((e: Error) => e.message)
        return [rows, error]
      })
      const engine = await rig.started([workflow])
      const result = await (await engine.trigger(workflow)).result()
      expect(result).toEqual([[1, 2], "no table"])
    })

    it("are told their run, their try, and a key that all tries share", async () => {
      const told: Array<StepInfo> = []
      const workflow = defineWorkflow(rig.name("told"), async (ctx) => {
        await ctx.step("flaky", {
          run: (info) => {
            told.push(info)
            if (info.attempt < 3) throw new Error("again")
          },
          retry: { maxAttempts: 3, backoff: "fixed", initialDelayMs: 1 },
        })
        await ctx.step("other", (info) => void told.push(info))
        await ctx.step("other", (info) => void told.push(info))
        return [ctx.workflowRunId, ctx.attempt] as const
      })
      const engine = await rig.started([workflow])
      const handle = await engine.trigger(workflow)
      expect(await handle.result()).toEqual([handle.workflowRunId, 1])
      expect(told.map((info) => info.attempt)).toEqual([1, 2, 3, 1, 1])
      expect(new Set(told.map((info) => info.workflowRunId))).toEqual(
        new Set([handle.workflowRunId]),
      )
      expect(new Set(told.slice(0, 3).map((info) => info.idempotencyKey)).size).toBe(1)
      expect(new Set(told.map((info) => info.idempotencyKey)).size, "steps share none").toBe(3)
      expect(told.every((info) => info.signal instanceof AbortSignal)).toBe(true)
    })

    it("are tried once unless they say more", async () => {
      let tries = 0
      const workflow = defineWorkflow(rig.name("once"), (ctx) =>
        ctx.step("fails", () => {
          tries++
          throw new Error("no")
        }),
      )
      const engine = await rig.started([workflow])
      const error = await refusal((await engine.trigger(workflow)).result())
      expect(error).toMatchObject({ code: "RunFailed", cause: { message: "no" } })
      expect(tries).toBe(1)
    })

    it("wait a second before the second try by default, and longer before the third", async () => {
      const times: Array<number> = []
      const workflow = defineWorkflow(rig.name("default delay"), (ctx) =>
        ctx.step("fails twice", {
          run: () => {
            times.push(performance.now())
            if (times.length < 3) throw new Error("no")
            return "done"
          },
          // the factor makes the second delay park the run, with the count of tries stored
          retry: { maxAttempts: 3, factor: 1.1 },
        }),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe("done")
      const [first = 0, second = 0, third = 0] = times
      expect(second - first).toBeGreaterThanOrEqual(990)
      expect(third - second).toBeGreaterThanOrEqual(1090)
    })

    it("are not tried again when retryIf refuses the error, or throws", async () => {
      const tries = { refused: 0, trap: 0 }
      const workflow = defineWorkflow(rig.name("retryIf"), async (ctx) => {
        const fail = (name: keyof typeof tries, retryIf: (error: unknown) => boolean) =>
          ctx
            .step(name, {
              run: () => {
                tries[name]++
                throw new Error(name)
              },
              retry: { maxAttempts: 5, initialDelayMs: 1, retryIf },
            })
            .catch((error: Error) => error.message)
        return [
          await fail("refused", (error) => (error as Error).message !== "refused"),
          await fail("trap", () => {
            throw new Error("retryIf itself")
          }),
        ]
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual(["refused", "trap"])
      expect(tries).toEqual({ refused: 1, trap: 1 })
    })

    it("have their signal aborted, and fail by name, when a try takes too long", async () => {
      const reasons: Array<unknown> = []
      const workflow = defineWorkflow(rig.name("timeout"), async (ctx) => {
        const caught = await ctx
          .step("slow", {
            run: async ({ signal }) => {
              signal.addEventListener("abort", () => reasons.push(signal.reason))
              await aborted(signal)
            },
            timeoutMs: 20,
            retry: { maxAttempts: 2, initialDelayMs: 1 },
          })
          .catch((error: unknown) => error as FlowlyError)
        return caught === undefined ? null : [caught.code, caught.message]
      })
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toEqual([
        "StepTimeout",
        'step "slow" did not end within 20 ms',
      ])
      expect(reasons).toHaveLength(2)
      expect(reasons[0]).toMatchObject({ _tag: "StepTimeout" })
    })

    it("do not run again after they are recorded, and give the same value", async () => {
      const gate = makeGate()
      let runs = 0
      const workflow = defineWorkflow(rig.name("once recorded"), async (ctx) => {
        const value = await ctx.step("random", () => {
          runs++
          return Math.random()
        })
        await ctx.step("gate", gate.step)
        return value
      })
      const { handle } = await rig.replay(workflow, gate, {})
      const result = await handle.result()
      expect(result).toBeTypeOf("number")
      expect(runs).toBe(1)
    })

    it("may have the same name again, also in loops and at once", async () => {
      const gate = makeGate()
      const ran: Array<string> = []
      const workflow = defineWorkflow(rig.name("loops"), async (ctx) => {
        const seen: Array<number> = []
        for (let i = 0; i < 3; i++) {
          seen.push(
            await ctx.step("same", () => {
              ran.push(`loop ${i}`)
              return i
            }),
          )
        }
        const all = await Promise.all(
          [3, 4, 5].map((i) =>
            ctx.step("same", () => {
              ran.push(`all ${i}`)
              return i
            }),
          ),
        )
        await ctx.step("gate", gate.step)
        return [...seen, ...all]
      })
      const { handle } = await rig.replay(workflow, gate, {})
      expect(await handle.result()).toEqual([0, 1, 2, 3, 4, 5])
      expect(ran.toSorted()).toEqual(["all 3", "all 4", "all 5", "loop 0", "loop 1", "loop 2"])
    })

    it("that failed and were caught fail the same way on replay, without running", async () => {
      const gate = makeGate()
      let runs = 0
      const workflow = defineWorkflow(rig.name("caught"), async (ctx) => {
        let said = "nothing"
        try {
          await ctx.step("fails", () => {
            runs++
            throw Object.assign(new TypeError("no"), { code: "E_NO" })
          })
        } catch (error) {
          const { name, message, code } = error as Error & { code: string }
          said = [name, message, code].join()
          await ctx.step("fallback", () => undefined)
        }
        await ctx.step("gate", gate.step)
        return said
      })
      const { handle } = await rig.replay(workflow, gate, {})
      expect(await handle.result()).toBe("TypeError,no,E_NO")
      expect(runs).toBe(1)
    })

    it("refuse settings that mean nothing, and say which", async () => {
      const workflow = defineWorkflow(rig.name("bad settings"), async (ctx) => {
        const run = () => 1
        const said: Array<string> = []
        const attempts: Array<() => Promise<unknown>> = [
          () => ctx.step("", run),
          () => ctx.step("x".repeat(256), run),
          () => ctx.step("a", { run, retry: { maxAttempts: 0 } }),
          () => ctx.step("b", { run, retry: { maxAttempts: 1.5 } }),
          () => ctx.step("c", { run, retry: { maxAttempts: Infinity } }),
          () => ctx.step("d", { run, retry: { initialDelayMs: -1 } }),
          () => ctx.step("e", { run, retry: { maxDelayMs: NaN } }),
          () => ctx.step("f", { run, timeoutMs: 0 }),
          () => ctx.step("g", { run, timeoutMs: Infinity }),
          () => ctx.step("h", { run: "no function" as never }),
          () => ctx.step("i", { run, retry: { backoff: "quadratic" as never } }),
          () => ctx.step("j", { run, compensate: true as never }),
          () => ctx.step("k", undefined as never),
          () => ctx.step("l", { run, schema: {} as never }),
          () => ctx.step(7 as never, run),
          () => ctx.emit(""),
          () => ctx.sleep("", 1),
        ]
        for (const attempt of attempts) {
          await attempt().then(
            () => said.push("accepted"),
            (error: { code: string; message: string }) =>
              said.push(`${error.code}: ${error.message.split(":")[0]}`),
          )
        }
        return said
      })
      const engine = await rig.started([workflow])
      const said = await (await engine.trigger(workflow)).result()
      expect(said).toEqual([
        "InvalidInput: step name",
        "InvalidInput: step name",
        'InvalidInput: retry.maxAttempts of step "a"',
        'InvalidInput: retry.maxAttempts of step "b"',
        'InvalidInput: retry.maxAttempts of step "c"',
        'InvalidInput: retry.initialDelayMs of step "d"',
        'InvalidInput: retry.maxDelayMs of step "e"',
        'InvalidInput: timeoutMs of step "f"',
        'InvalidInput: timeoutMs of step "g"',
        'InvalidInput: run of step "h"',
        'InvalidInput: retry.backoff of step "i"',
        'InvalidInput: compensate of step "j"',
        'InvalidInput: run of step "k"',
        'InvalidInput: schema of step "l"',
        "InvalidInput: step name",
        "InvalidInput: event name",
        "InvalidInput: sleep name",
      ])
    })
  })
}
