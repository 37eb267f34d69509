import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Engine, MemoryStore, Sleep, Step, Worker, Workflow } from "flowly/effect"

const Greet = Workflow.make("greet", {
  payload: { name: Schema.String },
  success: Schema.String,
})

const GreetLive = Greet.toLayer(
  Effect.fnUntraced(function* ({ name }) {
    const greeting = yield* Step.make("compose", {
      success: Schema.String,
      run: Effect.succeed(`hello ${name}`),
    })
    yield* Sleep.make("a moment", "5 millis")
    return greeting
  }),
)

const EngineLive = Engine.layer().pipe(Layer.provide(MemoryStore.layer))
const Live = Layer.mergeAll(GreetLive, Worker.layer()).pipe(Layer.provideMerge(EngineLive))

const result: string = await Effect.gen(function* () {
  const handle = yield* Workflow.trigger(Greet, { name: "world" })
  return yield* handle.result
}).pipe(Effect.provide(Live), Effect.runPromise)

if (result !== "hello world") throw new Error(`unexpected result: ${result}`)

// @ts-expect-error the payload is the workflow's
export const wrong = Workflow.trigger(Greet, { nome: "world" })
