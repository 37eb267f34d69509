/** Errors come back as what they were, where their class is registered: now, and on replay. */
import { types } from "node:util"
import { describe, expect, it } from "vitest"
import {
  defineWorkflow,
  type ErrorClass,
  type FlowlyError,
  NonRetryableError,
} from "../../src/index.ts"
import { type Backend, makeGate, refusal, thrown, until, useRig } from "./rig.ts"

let constructed = 0

/** As most are written: no name, parameters of its own. */
class PaymentDeclined extends Error {
  readonly code: string
  readonly amount: number
  constructor(payment: { readonly amount: number }, options?: ErrorOptions) {
    constructed++
    super(`${payment.amount} was declined`, options)
    this.code = "card_declined"
    this.amount = payment.amount
  }
  get isLarge() {
    return this.amount > 100
  }
}

/** One that sets its name, and one that extends it. */
class OutOfStock extends Error {
  override readonly name: string = "OutOfStock"
}
class SoldForEver extends OutOfStock {}

/** One whose instances are more than their properties. */
class Limited extends Error {
  readonly #limit: number
  constructor(limit: number) {
    super(`over ${limit}`)
    this.#limit = limit
  }
  get limit() {
    return this.#limit
  }
  static fromStored(stored: Error) {
    return new Limited(Number(stored.message.slice(5)))
  }
}

const errors: ReadonlyArray<ErrorClass> = [PaymentDeclined, OutOfStock, Limited]

/** What is to be seen of an error. */
const view = (error: unknown) => {
  const one = error as PaymentDeclined
  return {
    classes: errors.filter((each) => error instanceof (each as never)).map(({ name }) => name),
    native: types.isNativeError(error),
    text: String(error),
    keys: Object.keys(one).toSorted(),
    code: one.code,
    amount: one.amount,
    isLarge: one.isLarge,
    cause: one.cause instanceof OutOfStock,
    stack: typeof one.stack,
  }
}

export const errorsSuite = (backend: Backend): void => {
  const rig = useRig(backend)

  const declined = () => new PaymentDeclined({ amount: 250 }, { cause: new OutOfStock("no more") })

  describe("errors of registered classes", () => {
    it("are instances in a catch, the first time and on replay, by no constructor", async () => {
      const gate = makeGate()
      const seen: Array<unknown> = []
      const before = constructed
      const workflow = defineWorkflow(rig.name("declines"), async (ctx) => {
        const error = await ctx.step("pay", () => Promise.reject(declined())).catch((e) => e)
        seen.push(view(error))
        await ctx.step("gate", gate.step)
        throw error
      })
      const first = await rig.started([workflow], { errors, worker: { shutdownTimeoutMs: 20 } })
      const { workflowRunId } = await first.trigger(workflow)
      await gate.reached
      await first.stop()
      const second = await rig.started([workflow], { errors })
      const failed = await refusal(second.handle(workflow, workflowRunId).result())
      const expected = {
        classes: ["PaymentDeclined"],
        native: true,
        text: "Error: 250 was declined",
        keys: ["amount", "code"],
        code: "card_declined",
        amount: 250,
        isLarge: true,
        cause: true,
        stack: "string",
      }
      expect(seen).toEqual([expected, expected])
      expect(view(failed.cause)).toEqual(expected)
      const status = await second.getStatus(workflowRunId)
      expect(view((status as { error?: unknown }).error)).toEqual(expected)
      expect(constructed).toBe(before + 1)
      // one that was not told of the class has a plain error, with all that is its own
      const stranger = rig.engine([workflow])
      const plain = await refusal(stranger.handle(workflow, workflowRunId).result())
      expect(view(plain.cause)).toEqual({
        ...expected,
        classes: [],
        isLarge: undefined,
        cause: false,
      })
    })

    it("cross a child, as its cause; and Promise.any, among its errors", async () => {
      const child = defineWorkflow(rig.name("child"), async (ctx) => {
        await ctx.step("pay", () => Promise.reject(declined()))
      })
      const seen: Array<unknown> = []
      const parent = defineWorkflow(rig.name("parent"), async (ctx) => {
        const failed: FlowlyError = await ctx.workflow(child).then(
          () => undefined as never,
          (e) => e,
        )
        seen.push(failed.code, failed.cause instanceof PaymentDeclined)
        await Promise.any(
          ["a", "b"].map((name) => ctx.step(name, () => Promise.reject(new OutOfStock(name)))),
        )
      })
      const engine = await rig.started([parent, child], { errors })
      const handle = await engine.trigger(parent)
      const { cause } = await refusal(handle.result())
      expect(seen).toEqual(["ChildFailed", true])
      expect((cause as AggregateError).errors.map((one) => one instanceof OutOfStock)).toEqual([
        true,
        true,
      ])
    })

    it("are instances wherever they are read", async () => {
      const workflow = defineWorkflow(rig.name("read"), async (ctx) => {
        await ctx.step("undone", {
          run: () => "done",
          compensate: { run: () => Promise.reject(declined()), retry: {} },
        })
        await ctx.step("pay", () => Promise.reject(declined()))
      })
      const letter = defineWorkflow(rig.name("letter"), () => Promise.reject(declined()))
      const engine = await rig.started([workflow, letter], { errors })
      const hooked: Array<unknown> = []
      engine.hook("step:failed", ({ error }) => hooked.push(error))
      engine.hook("workflow:failed", ({ error }) => hooked.push(error))
      const { workflowRunId, result } = await engine.trigger(workflow)
      await refusal(result())
      await refusal((await engine.trigger(letter, { maxAttempts: 1 })).result())
      await until(() => hooked.length === 3, "three hooks")
      const [, pay] = await engine.getSteps(workflowRunId)
      const status = (await engine.getStatus(workflowRunId)) as any
      const [dead] = await engine.getDeadLetterRuns({ workflow: letter.name })
      const explained = (await engine.explain(workflowRunId)) as any
      const [listed] = (await engine.listRuns({ workflow: workflow.name })).runs
      const seen = {
        step: pay?.error,
        undo: (await engine.getSteps(workflowRunId))[0]?.compensation?.error,
        run: (await engine.getRun(workflowRunId))?.error,
        listed: listed?.error,
        status: status.error,
        undoInStatus: status.compensations[0].error,
        explained: explained.error,
        dead: (dead as { error?: unknown } | undefined)?.error,
        ...Object.fromEntries(hooked.map((error, i) => [`hook ${i}`, error])),
      }
      const classes = Object.entries(seen).map(([where, error]) => [where, view(error).classes[0]])
      expect(classes).toEqual(Object.keys(seen).map((where) => [where, "PaymentDeclined"]))
    })

    it("match by the name that they set, also in a class that extends theirs", async () => {
      const workflow = defineWorkflow(rig.name("sold"), (ctx) =>
        ctx
          .step("sell", () => Promise.reject(new SoldForEver("gone")))
          .catch((e) => view(e).classes),
      )
      const engine = await rig.started([workflow], { errors })
      expect(await (await engine.trigger(workflow)).result()).toEqual(["OutOfStock"])
    })

    it("are made by fromStored, where the class has it", async () => {
      const workflow = defineWorkflow(rig.name("limited"), (ctx) =>
        ctx.step("push", () => Promise.reject(new Limited(7))).catch((e: Limited) => e.limit),
      )
      const engine = await rig.started([workflow], { errors })
      expect(await (await engine.trigger(workflow)).result()).toBe(7)
    })

    it("are instances without it where fromStored breaks, or makes something else", async () => {
      class Breaks extends Error {
        static fromStored(): never {
          throw new Error("no")
        }
      }
      class Other extends Error {
        static fromStored() {
          return new Error("not mine")
        }
      }
      const workflow = defineWorkflow(rig.name("breaks"), async (ctx) => {
        const one = await ctx.step("a", () => Promise.reject(new Breaks("a"))).catch((e) => e)
        const two = await ctx.step("b", () => Promise.reject(new Other("b"))).catch((e) => e)
        return [one instanceof Breaks, one.message, two instanceof Other, two.message]
      })
      const engine = await rig.started([workflow], { errors: [Breaks, Other] })
      expect(await (await engine.trigger(workflow)).result()).toEqual([true, "a", true, "b"])
    })

    it("flowly's own need not be registered", async () => {
      const workflow = defineWorkflow(rig.name("own"), (ctx) =>
        ctx
          .step("a", () => Promise.reject(new NonRetryableError("no")))
          .catch((e) => e instanceof NonRetryableError),
      )
      const engine = await rig.started([workflow])
      expect(await (await engine.trigger(workflow)).result()).toBe(true)
    })

    it("no data names a class outside the list, or touches a prototype", async () => {
      const workflow = defineWorkflow(rig.name("evil"), async (ctx) => {
        const names = ["__proto__", "constructor", "Object", "toString", "Function"]
        const seen: Array<unknown> = []
        for (const name of names) {
          const evil = Object.assign(
            new Error("evil"),
            JSON.parse('{"__proto__": {"polluted": 1}}'),
          )
          Object.defineProperty(evil, "name", { value: name })
          Object.defineProperty(evil, "polluted", { value: { a: 1 }, enumerable: true })
          Object.defineProperty(evil, "__proto__", { value: { polluted: 1 }, enumerable: true })
          const error = await ctx.step("x", () => Promise.reject(evil)).catch((e) => e)
          seen.push(Object.getPrototypeOf(error) === Error.prototype && error.name === name)
          seen.push(({} as { polluted?: unknown }).polluted === undefined)
          seen.push(!Object.hasOwn(error, "__proto__"))
        }
        return seen
      })
      const engine = await rig.started([workflow], { errors })
      const seen = await (await engine.trigger(workflow)).result()
      expect(seen).toEqual(Array.from({ length: 15 }, () => true))
    })

    it("that cannot be registered are refused by the constructor, with the place", () => {
      class Again extends Error {
        static {
          Object.defineProperty(this, "name", { value: "OutOfStock" })
        }
      }
      class Nothing extends Error {
        static fromStored = 5
      }
      const wrong: ReadonlyArray<readonly [unknown, string]> = [
        ["PaymentDeclined", "errors"],
        [[PaymentDeclined, "OutOfStock"], "errors[1]"],
        [[Map], "errors[0]"],
        [[OutOfStock, Again], "errors[1]"],
        [[Nothing], "errors[0]"],
        [[() => undefined], "errors[0]"],
      ]
      for (const [given, field] of wrong) {
        expect(thrown(() => rig.engine([], { errors: given as never }))).toMatchObject({
          code: "InvalidInput",
          details: { field },
        })
      }
    })
  })
}
