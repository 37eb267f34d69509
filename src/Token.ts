/**
 * Tokens, for webhooks and for people: text that nobody can guess, handed to the outside, with which
 * exactly one wait of the run is resolved, from anywhere.
 *
 * A token is recorded like a step, and the same on every replay. It may be resolved before it is
 * waited for; the first to resolve it wins, and to resolve it again changes nothing. Whoever has the
 * token can resolve it: treat it as a password.
 *
 * **Example** (Asking a person)
 *
 * ```ts
 * const approval = yield* Token.make("approval")
 * yield* Step.make("ask", { run: mail.send(`https://example.com/approve?token=${approval}`) })
 * const answer = yield* Token.wait(approval, { schema: Decision, timeout: "3 days" })
 * // elsewhere, in the route of that URL:
 * yield* Token.resolve(token, { approved: true }, { schema: Decision })
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { Engine } from "./Engine.ts"
import type { Execution } from "./engine/Execution.ts"
import type { AttemptFailure } from "./engine/Operation.ts"
import { eventOfToken, newToken } from "./engine/tokens.ts"
import { type AnyCodec, anyValue, schemaValue } from "./engine/values.ts"
import { encodeError } from "./ErrorPayload.ts"
import { waitFor, type WaitOptions } from "./Event.ts"
import {
  InvalidInput,
  type PayloadTooLarge,
  type RunStateConflict,
  type SerializationError,
  type TokenNotFound,
} from "./FlowlyError.ts"
import { checkName } from "./Name.ts"
import * as RetryPolicy from "./RetryPolicy.ts"
import { perform, WorkflowRun } from "./WorkflowRun.ts"
import type { StoreError } from "./WorkflowStore.ts"

/**
 * A new token of this run: 76 characters that need no escaping in a URL.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (name: string): Effect.Effect<string, never, WorkflowRun> =>
  Effect.fromResult(checkName(name, "token name")).pipe(
    Effect.andThen(
      perform({
        kind: "token",
        name,
        retry: RetryPolicy.none,
        timeoutMs: null,
        undo: null,
        run: ({ workflowRunId }) =>
          Effect.mapError(
            Effect.suspend(() => anyValue.encode(newToken(workflowRunId), `token "${name}"`)),
            (error): AttemptFailure => ({ error: encodeError(error), retryable: false }),
          ),
      }),
    ),
    Effect.flatMap((result) => anyValue.decode(result ?? { codec: "json", json: '""' })),
    Effect.orDie,
  )

/**
 * Waits until the token is resolved; `None` when the time is up, and then it may be waited for
 * again. A token of another run, or one whose answer was given to an earlier wait, is a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const wait = <A = unknown>(
  token: string,
  options?: WaitOptions<A>,
): Effect.Effect<Option.Option<A>, never, WorkflowRun> =>
  Effect.flatMap(Effect.orDie(sourceOf(token)), (source) => waitFor(source, options))

/**
 * What a wait for the token waits for.
 *
 * @category guards
 * @since 0.1.0
 */
export const sourceOf = (
  token: string,
): Effect.Effect<
  { readonly name: string; readonly event: string; readonly what: string },
  InvalidInput,
  WorkflowRun
> =>
  Effect.flatMap(WorkflowRun, ({ execution }) => {
    const key = keyOf(execution, token)
    if (key === null) return refused("is not one that this run has made with `token`")
    const event = eventOfToken(key)
    if (wasAnswered(execution, event)) return refused(`"${key}": its answer was given already`)
    return Effect.succeed({ name: `${key}:answer`, event, what: `token "${key}"` })
  })

const refused = (reason: string) => Effect.fail(new InvalidInput({ field: "token", reason }))

/**
 * Only what the body has been given counts, never what the history holds beyond: so a replay decides
 * as the first execution did.
 */
const keyOf = (execution: Execution, token: string): string | null => {
  const json = JSON.stringify(token)
  for (const [key, { operation, phase }] of execution.issued) {
    if (operation.kind !== "token" || phase !== "delivered") continue
    if (execution.records.get(key)?.result?.json === json) return key
  }
  return null
}

const wasAnswered = (execution: Execution, event: string): boolean => {
  for (const [key, { operation, phase }] of execution.issued) {
    if (operation.kind !== "event" || operation.event !== event || phase !== "delivered") continue
    if (execution.records.get(key)?.result != null) return true
  }
  return false
}

/**
 * Resolves a token, from wherever an `Engine` is. `already-resolved`: somebody was faster, or this
 * is a repetition; the payload that counts is the first one.
 *
 * @category combinators
 * @since 0.1.0
 */
export const resolve = <A = unknown>(
  token: string,
  payload: A,
  options?: { readonly schema?: AnyCodec<A> | undefined },
): Effect.Effect<
  "resolved" | "already-resolved",
  TokenNotFound | RunStateConflict | SerializationError | PayloadTooLarge | StoreError,
  Engine
> =>
  Effect.gen(function* () {
    const engine = yield* Engine
    const codec = options?.schema === undefined ? anyValue : schemaValue(options.schema)
    return yield* engine.resolveToken(token, yield* codec.encode(payload, "payload of the token"))
  })
