/**
 * Waiting for events and tokens in the promise API.
 *
 * The answer is a value to branch on. Its `payload` stands apart from `timedOut`, so that a payload
 * of any shape, `undefined` included, is never taken for a timeout; and without a `timeout` there is
 * no timeout in its type.
 */
import * as Effect from "effect/Effect"
import { type DurationInput, toMillis } from "../DurationInput.ts"
import type { EventOperation } from "../engine/Operation.ts"
import { checkEventName } from "../Name.ts"
import { sourceOf } from "../Token.ts"
import type { Encoded } from "../Payload.ts"
import { pauseUnreadable, type WorkflowRun } from "../WorkflowRun.ts"
import { orThrow } from "./FlowlyError.ts"
import { checkKnown, type Names, optionOf } from "./knownOptions.ts"
import { checkSchema, type StandardSchema } from "./standardSchema.ts"

/**
 * How to wait.
 */
export interface WaitOptions<T> {
  /** From when the wait is first reached, by the database's clock. Default: for ever. */
  readonly timeout?: DurationInput | undefined
  /** Checks the payload. One that it refuses pauses the run; nothing is lost. */
  readonly schema?: StandardSchema<T> | undefined
}

/**
 * An event came.
 */
export interface EventReceived<T> {
  readonly timedOut: false
  readonly payload: T
}

/**
 * None came in time.
 */
export interface EventTimedOut {
  readonly timedOut: true
  readonly payload?: undefined
}

/**
 * Waits for something that is named by a string.
 */
export interface WaitFor {
  <T = unknown>(
    what: string,
    options?: WaitOptions<T> & { readonly timeout?: undefined },
  ): Promise<EventReceived<T>>
  <T = unknown>(what: string, options: WaitOptions<T>): Promise<EventReceived<T> | EventTimedOut>
}

type Source = { readonly name: string; readonly event: string; readonly what: string }

type Ask = (operation: EventOperation) => Effect.Effect<Encoded | null, unknown, WorkflowRun>

type Stored = (
  result: Encoded,
  schema: StandardSchema<any> | undefined,
) => Effect.Effect<unknown, string>

const waitNames: Names<WaitOptions<any>> = { timeout: true, schema: true }

const waitFor = (
  { name, event, what }: Source,
  options: WaitOptions<unknown> | undefined,
  ask: Ask,
  stored: Stored,
): Effect.Effect<any, unknown, WorkflowRun> => {
  checkKnown(options, waitNames, optionOf(`the wait for ${what}`))
  const { timeout, schema } = options ?? {}
  if (schema !== undefined) checkSchema(schema, `schema of ${what}`)
  const timeoutMs =
    timeout === undefined ? null : orThrow(toMillis(timeout, `timeout of the wait for ${what}`))
  return Effect.flatMap(ask({ kind: "event", name, event, timeoutMs }), (result) => {
    if (result === null) return Effect.succeed({ timedOut: true })
    return stored(result, schema).pipe(
      Effect.catch((reason) => pauseUnreadable(`payload of ${what}`, reason)),
      Effect.map((payload) => ({ timedOut: false, payload })),
    )
  })
}

/**
 * An effect that waits for an event.
 */
export const waitForEvent = (
  name: string,
  options: WaitOptions<unknown> | undefined,
  ask: Ask,
  stored: Stored,
): Effect.Effect<any, unknown, WorkflowRun> => {
  orThrow(checkEventName(name))
  return waitFor({ name, event: name, what: `event "${name}"` }, options, ask, stored)
}

/**
 * An effect that waits until a token is resolved.
 */
export const waitForToken = (
  token: string,
  options: WaitOptions<unknown> | undefined,
  ask: Ask,
  stored: Stored,
): Effect.Effect<any, unknown, WorkflowRun> =>
  Effect.flatMap(sourceOf(token), (source) => waitFor(source, options, ask, stored))
