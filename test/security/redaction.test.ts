/** Redaction in the Effect API: typed failures, defects, values that a Schema refuses. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import { describe, expect, it } from "vitest"
import {
  Child,
  Engine,
  Event,
  MemoryStore,
  PayloadCodec,
  Redaction,
  Step,
  Worker,
  Workflow,
  WorkflowStore,
} from "../../src/effect.ts"
import { until } from "../promise/rig.ts"
import { canaries, leaksIn } from "./canaries.ts"

const secret = canaries.error

class Declined extends Schema.TaggedError<Declined>()("Declined", {
  card: Schema.String,
  limit: Schema.Number,
}) {}

const Pay = Workflow.make("pay", {
  payload: { how: Schema.String },
  success: Schema.String,
  error: Declined,
})

const Amount = Schema.String.check(
  Schema.makeFilter((text) => (text === "all" ? undefined : `"${text}" is no amount`)),
)

const caught: Array<unknown> = []

const Order = Workflow.make("order", { success: Schema.Void })

const order = Order.toLayer(() => Effect.orDie(Child.run(Broken, undefined)))

const Broken = Workflow.make("broken order", { success: Schema.Void })

const brokenOrder = Broken.toLayer(() => Effect.die(new Error("a charge broke")))

const live = Pay.toLayer(
  Effect.fnUntraced(function* ({ how }) {
    if (how === "event") {
      yield* Event.wait("amount", { schema: Amount })
      return "paid"
    }
    const failure = new Declined({ card: secret, limit: 7 })
    const step = Step.make("charge", {
      error: Declined,
      run: how === "typed" ? Effect.fail(failure) : Effect.die(new Error(`with ${secret}`)),
    })
    yield* step.pipe(Effect.tapCause((cause) => Effect.sync(() => caught.push(cause))))
    return "paid"
  }),
)

/** Everything that was logged. */
const logged: Array<unknown> = []

const memory = () => Layer.succeed(WorkflowStore.WorkflowStore, MemoryStore.makeUnsafe().store)

const runtime = (store: Layer.Layer<WorkflowStore.WorkflowStore, unknown> = memory()) => {
  const layers = Layer.mergeAll(
    live,
    order,
    brokenOrder,
    Worker.layer({ pollIntervalMs: 20, leaseMs: 60_000, useNotify: false }),
  ).pipe(
    Layer.provideMerge(Engine.layer({ redactErrors: (text) => text.replaceAll(secret, "[card]") })),
    Layer.provideMerge(store),
    Layer.provideMerge(Logger.layer([Logger.make(({ message }) => void logged.push(message))])),
  )
  return ManagedRuntime.make(layers)
}

const historyOf = Effect.fnUntraced(function* (workflowRunId: string) {
  const engine = yield* Engine.Engine
  return [yield* engine.getRun(workflowRunId), yield* engine.getSteps(workflowRunId)]
})

describe("in the Effect API, an error that is redacted", () => {
  it.each([
    ["typed", "Declined", { card: "[card]", limit: 7 }],
    ["defect", "RunFailed", { cause: { message: "with [card]" } }],
  ] as const)("is %s", async (how, tag, fields) => {
    const { runPromise, dispose } = runtime()
    caught.length = 0
    const run = await runPromise(Workflow.trigger(Pay, { how }))
    const end = await runPromise(Effect.flip(run.result))
    expect(end).toMatchObject({ _tag: tag, ...fields })
    expect(caught).toHaveLength(1)
    expect(leaksIn([caught, end, await runPromise(historyOf(run.workflowRunId))])).toEqual([])
    await dispose()
  })

  const paused = async (runPromise: ReturnType<typeof runtime>["runPromise"], id: string) => {
    const row = await until(async () => {
      const found = await runPromise(Engine.Engine.use((engine) => engine.getRun(id)))
      return found?.status === "paused" && found
    })
    expect(row.pauseReason?.message).toContain("[card]")
    expect(leaksIn(row)).toEqual([])
  }

  it("is what a Schema says of an event", async () => {
    const { runPromise, dispose } = runtime()
    const run = await runPromise(Workflow.trigger(Pay, { how: "event" }))
    await runPromise(Event.send(run.workflowRunId, "amount", secret))
    await paused(runPromise, run.workflowRunId)
    await dispose()
  })

  it("is that of a body that cannot be started", async () => {
    const { runPromise, dispose } = runtime()
    const broken = { name: "broken", version: null }
    const startBody = () => {
      throw new Error(`with ${secret}`)
    }
    const start = Effect.gen(function* () {
      const engine = yield* Engine.Engine
      yield* engine.register({ ...broken, startBody })
      const { workflowRunId } = yield* engine.start(broken, { codec: "json", json: "null" })
      yield* Effect.promise(() => paused(runPromise, workflowRunId))
    })
    await runPromise(Effect.scoped(start))
    await dispose()
  })

  it("is that of a store that dies over a history", async () => {
    const { store } = MemoryStore.makeUnsafe()
    const loadHistory = () => Effect.die(new Error(`with ${secret}`))
    const dying = Layer.succeed(WorkflowStore.WorkflowStore, { ...store, loadHistory })
    const { runPromise, dispose } = runtime(dying)
    const run = await runPromise(Workflow.trigger(Pay, { how: "event" }))
    await until(async () => {
      const row = await runPromise(Engine.Engine.use(({ getRun }) => getRun(run.workflowRunId)))
      return row?.status === "waiting"
    })
    await runPromise(Event.send(run.workflowRunId, "amount", "all"))
    await paused(runPromise, run.workflowRunId)
    await dispose()
  })

  it("is what a payload codec says of the error of a child", async () => {
    const decode = (bytes: Uint8Array) => {
      if (Buffer.from(bytes).includes("a charge broke")) throw new Error(`with ${secret}`)
      return bytes
    }
    const write = { name: "open", encode: (bytes: Uint8Array) => bytes, decode }
    const { runPromise, dispose } = runtime(PayloadCodec.withCodecs({ write })(memory()))
    const run = await runPromise(Workflow.trigger(Order, undefined))
    await paused(runPromise, run.workflowRunId)
    await dispose()
  })

  it("is that of a listener, when it is logged", async () => {
    const { runPromise, dispose } = runtime()
    const thrower = () => {
      throw new Error(`with ${secret}`)
    }
    await runPromise(
      Engine.Engine.use(({ onLifecycle }) => Effect.sync(() => onLifecycle(thrower))),
    )
    logged.length = 0
    const run = await runPromise(Workflow.trigger(Pay, { how: "typed" }))
    await runPromise(Effect.flip(run.result))
    await dispose()
    expect(JSON.stringify(logged)).toContain("with [card]")
    expect(leaksIn(logged)).toEqual([])
  })
})

describe("redactError", () => {
  const upper = (stored: Parameters<typeof Redaction.redactError>[1]) =>
    Redaction.redactError((text, field) => `${field}=${text}`.slice(0, 40), stored)

  it("tells each text where it stands, and leaves what code is matched by", () => {
    const plain = {
      name: "CardError",
      class: "CardError",
      tag: "Declined",
      message: "m",
      code: 7,
      stack: "s",
      props: { a: { b: ["x", 1, true, null] }, price_tag: "p" },
      fail: { _tag: "Declined", card: "c" },
      cause: { name: "Error", message: "inner" },
      errors: [{ name: "Thrown", message: "t", thrown: { codec: "json" as const, json: '"t"' } }],
    }
    expect(upper(plain)).toEqual({
      name: "CardError",
      class: "CardError",
      tag: "Declined",
      message: "message=m",
      code: "code=7",
      stack: "stack=s",
      props: { a: { b: ["a.b[0]=x", "a.b[1]=1", true, null] }, price_tag: "price_tag=p" },
      fail: { _tag: "Declined", card: "fail.card=c" },
      cause: { name: "Error", message: "message=inner" },
      errors: [
        { name: "Thrown", message: "thrown=t", thrown: { codec: "json", json: '"thrown=t"' } },
      ],
    })
  })

  it("keeps what is not changed, numbers as numbers", () => {
    const stored = { name: "E", message: "m", code: 7, props: { n: 1.5, __proto__: null } }
    expect(Redaction.redactError((text) => text, stored)).toEqual(stored)
  })

  it("bounds what it is answered, and lets no NUL through", () => {
    const { message } = Redaction.redactError(() => `\0${"x".repeat(100_000)}`, {
      name: "E",
      message: "m",
    })
    expect(message).toHaveLength(8192)
    expect(message[0]).toBe("\uFFFD")
  })
})
