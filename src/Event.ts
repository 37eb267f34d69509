/**
 * Events: what a workflow tells whoever listens to the engine (`emit`), and what others tell a run
 * (`wait`).
 *
 * An emitted event is remembered like a step: replay does not emit it again. An event that is sent
 * early is kept until the run waits for it; events of a name are taken in the order of sending.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { checkName } from "./Engine.ts"
import { type AnyCodec, anyValue, schemaValue } from "./engine/values.ts"
import { pauseUnreadable, perform, type WorkflowRun } from "./WorkflowRun.ts"

/**
 * Tells listeners of the engine something. Data that cannot be stored is a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const emit = (name: string, data?: unknown): Effect.Effect<void, never, WorkflowRun> =>
  Effect.fromResult(checkName(name, "event name")).pipe(
    Effect.andThen(anyValue.encode(data, `data of event "${name}"`)),
    Effect.flatMap((payload) => perform({ kind: "emit", name, payload })),
    Effect.orDie,
    Effect.asVoid,
  )

/**
 * Waits for an event of this name; `None` when the time is up.
 *
 * @category constructors
 * @since 0.1.0
 */
export const wait = <A = unknown>(
  name: string,
  options?: {
    readonly schema?: AnyCodec<A> | undefined
    readonly timeout?: Duration.Input | undefined
  },
): Effect.Effect<Option.Option<A>, never, WorkflowRun> =>
  Effect.gen(function* () {
    yield* Effect.orDie(Effect.fromResult(checkName(name, "event name")))
    const result = yield* Effect.orDie(
      perform({
        kind: "event",
        name,
        event: name,
        timeoutMs: options?.timeout === undefined ? null : Duration.toMillis(options.timeout),
      }),
    )
    if (result === null) return Option.none()
    const codec = options?.schema === undefined ? anyValue : schemaValue(options.schema)
    const value = yield* Effect.catch(codec.decode(result), (reason) =>
      pauseUnreadable(`event "${name}"`, reason),
    )
    return Option.some(value as A)
  })
