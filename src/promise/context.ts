/**
 * `ctx`: the operations of a body, as promises.
 *
 * Each method is a thin layer over `perform`. Promises of a body that was parked, handed back or
 * lost never settle, so no `catch` or `finally` of it runs; a promise that nobody awaits never
 * becomes an unhandled rejection.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import { awaitOf, startAlone } from "../Child.ts"
import { pointOfNoReturn } from "../Compensation.ts"
import {
  type Attributes,
  check as checkAttributes,
  checkStatus,
  statusName,
} from "../Attributes.ts"
import { type DurationInput, toMillis } from "../DurationInput.ts"
import type { Delivered, Execution } from "../engine/Execution.ts"
import type {
  ChildOperation,
  Operation,
  SleepOperation,
  StepOperation,
} from "../engine/Operation.ts"
import { anyValue, reasonOf } from "../engine/values.ts"
import type { Revive } from "../ErrorPayload.ts"
import { checkName } from "../Name.ts"
import type { Encoded } from "../Payload.ts"
import * as Token from "../Token.ts"
import {
  bodyContext,
  noteFailure,
  noteFailureUnsafe,
  patched,
  pauseUnreadable,
  pauseUnreadableUnsafe,
  perform,
  performUnsafe,
  WorkflowRun,
} from "../WorkflowRun.ts"
import { waitForEvent, waitForToken, type WaitFor, type WaitOptions } from "./events.ts"
import { ErrorClasses } from "./errorClasses.ts"
import { refuseInside } from "./inside.ts"
import { errorOf, invalid, orThrow, toFlowlyError } from "./FlowlyError.ts"
import {
  type TransactionBody,
  transactionOf,
  type TransactionOptions,
  type TransactionStep,
} from "./transaction.ts"
import { type ChildArguments, type ChildHandle, childOperation, mapBounded } from "./children.ts"
import {
  JustRun,
  type TryInfo,
  stepOperation,
  type StepOptions,
  stored,
  undefinedValue,
} from "./step.ts"
import type { WorkflowDefinition } from "./workflow.ts"

/**
 * What a workflow's function works with. All methods may be used in loops, under `Promise.all` and
 * `Promise.race`; everything that touches the world belongs into a step. They are for this function, not
 * for those of its steps and undos: `now`, `setStatus` and `setAttributes` alone may be called there.
 */
export interface WorkflowContext {
  readonly workflowRunId: string
  /** Attempt of the whole run, from 1. */
  readonly attempt: number
  /**
   * The time, the same on every replay: the database's at the last step, sleep or other completion
   * that this function was given; at first, when the run began. It stands still between them.
   */
  readonly now: () => Date
  /** A random number from 0 inclusive to 1 exclusive, the same on every replay. */
  readonly random: () => number
  /** A UUID, the same on every replay. */
  readonly uuid: () => string
  /**
   * Where this function's code has changed: true in a run that comes here for the first time, and
   * takes the new code; false in one that had gone past this point with the old code, which it must
   * keep. One run and id, one answer.
   */
  readonly patched: (id: string) => Promise<boolean>
  /** Runs a step, or gives its remembered outcome. */
  readonly step: <T>(
    name: string,
    options: StepOptions<T> | ((info: TryInfo) => Promise<T> | T),
  ) => Promise<T>
  /**
   * A step whose function works in a transaction of the engine's database, which records the step
   * too: exactly once, for what it does through the client that it is given.
   */
  readonly transaction: TransactionStep
  /** Sleeps durably. */
  readonly sleep: (name: string, duration: DurationInput) => Promise<void>
  /** Sleeps durably until an instant. */
  readonly sleepUntil: (name: string, date: Date) => Promise<void>
  /** A value from outside that must be the same on replay: a setting, a file. Not retried. */
  readonly sideEffect: <T>(name: string, fn: () => Promise<T> | T) => Promise<T>
  /**
   * Sets the text that `handle.status()` shows as `statusText`. Costs no record and waits for nothing;
   * of several in a row the last one counts, and a replay sets none back.
   */
  readonly setStatus: (text: string) => void
  /** Sets attributes to search runs by, like `setStatus`; those not named stay. */
  readonly setAttributes: (attributes: Attributes) => void
  /** Tells the engine's listeners something, once. */
  readonly emit: (event: string, data?: unknown) => Promise<void>
  /**
   * Waits for an event that `engine.sendEvent` sends to this run, or has sent. A timeout is an answer
   * to branch on: `{ timedOut: true }`, else `{ timedOut: false, payload }`.
   */
  readonly waitForEvent: WaitFor
  /**
   * A string that nobody can guess, to be handed to a person or a webhook: `engine.resolveToken`
   * resolves the one `waitForToken` that waits for it.
   */
  readonly token: (name: string) => Promise<string>
  /** Waits until a token of this run is resolved; answers like `waitForEvent`. */
  readonly waitForToken: WaitFor
  /** What has completed before it is no longer undone, whatever becomes of the run. */
  readonly pointOfNoReturn: (name: string) => Promise<void>
  /** Runs another workflow as a part of this one, and waits for its result. */
  readonly child: <I, O>(
    definition: WorkflowDefinition<I, O>,
    ...input: ChildArguments<I>
  ) => Promise<O>
  /**
   * Starts another workflow as a part of this one, and goes on when it is in the database; its
   * `result()` may be waited for later. If this whole run is tried again, a child that failed starts
   * anew where its result is waited for.
   */
  readonly startChild: <I, O>(
    definition: WorkflowDefinition<I, O>,
    ...input: ChildArguments<I>
  ) => Promise<ChildHandle<O>>
  /** The older name of `child`. */
  readonly workflow: <I, O>(
    definition: WorkflowDefinition<I, O>,
    ...input: ChildArguments<I>
  ) => Promise<O>
  /**
   * `fn` for each item, at most `concurrency` at once (default: all), begun in order of the items; the
   * results in that order. Rejects with the first error, as `Promise.all` does, and begins no further
   * item then. Give what `fn` asks for names that tell the item: `ctx.step(`charge ${item.id}`, …)`.
   */
  readonly map: <T, R>(
    items: Iterable<T>,
    fn: (item: T, index: number) => Promise<R> | R,
    options?: { readonly concurrency?: number | undefined },
  ) => Promise<Array<R>>
}

/** Asks for an operation; its failure is the stored error, as it will be on every replay. */
const ask = (operation: Parameters<typeof perform>[0]) =>
  Effect.catch(perform(operation), ({ error, position }) =>
    Effect.flatMap(ErrorClasses, (revive) => {
      const decoded = errorOf(error, revive)
      return Effect.andThen(noteFailure(decoded, position), Effect.fail(decoded))
    }),
  )

const read = (result: Encoded | null, field: string) =>
  Effect.catch(anyValue.decode(result ?? undefinedValue), (reason) =>
    pauseUnreadable(field, reason),
  )

const step = <T>(
  kind: StepOperation["kind"],
  name: string,
  options: StepOptions<T>,
  transaction?: TransactionBody<T>,
) =>
  Effect.flatMap(ask(stepOperation(kind, name, options, transaction)), (result) =>
    Effect.catch(stored(result, options.schema), (reason) =>
      pauseUnreadable(`result of step "${name}"`, reason),
    ),
  )

const awaitChild = (operation: ChildOperation) =>
  Effect.flatMap(ask(operation), (result) => read(result, `result of child "${operation.name}"`))

/**
 * The context of a body.
 */
export const makeContext = ({
  execution,
  services,
  revive,
}: {
  readonly execution: Execution
  readonly services: Context.Context<never>
  readonly revive: Revive
}): WorkflowContext => {
  const { run } = execution
  // most bodies do nothing that needs it
  let made: Context.Context<WorkflowRun> | null = null
  const context = () =>
    (made ??= Context.add(bodyContext(execution, services), ErrorClasses, revive))
  const drawn = () => {
    refuseInside(execution)
    return Context.get(context(), WorkflowRun).values
  }

  const promise = <A>(operation: () => Effect.Effect<A, unknown, WorkflowRun>): Promise<A> => {
    const result = new Promise<A>((resolve, reject) => {
      // an executor that throws rejects; the fiber begins when the body's turn comes
      refuseInside(execution)
      const fiber = Effect.runForkWith(context())(Effect.suspend(operation), {
        scheduler: execution.rest.scheduler,
      })
      fiber.addObserver((exit) => {
        if (Exit.isSuccess(exit)) resolve(exit.value)
        // an abandoned body hears nothing more
        else if (!Cause.hasInterruptsOnly(exit.cause)) {
          reject(toFlowlyError(Cause.squash(exit.cause)))
        }
      })
    })
    result.catch(() => undefined)
    return result
  }

  /**
   * The same for an operation that is known at once: no fiber, which costs as much as all else that a
   * step costs this process. Only where a schema takes its time is its result read in one.
   */
  const direct = <A>(
    make: () => Operation,
    readResult: (result: Encoded | null) => Effect.Effect<A, string>,
    field: () => string,
  ): Promise<A> => {
    const result = new Promise<A>((resolve, reject) => {
      const rejected = (error: unknown) => reject(toFlowlyError(error))
      const wasRead = (exit: Exit.Exit<A, string>): void => {
        if (Exit.isSuccess(exit)) return resolve(exit.value)
        pauseUnreadableUnsafe(execution, field(), reasonOf(Cause.squash(exit.cause)))
      }
      const delivered = ({ outcome, position }: Delivered) => {
        if (outcome._tag === "Success") {
          const reading = readResult(outcome.result)
          if (Exit.isExit(reading)) return wasRead(reading as Exit.Exit<A, string>)
          Effect.runForkWith(context())(reading, {
            scheduler: execution.rest.scheduler,
          }).addObserver(wasRead)
          return
        }
        const { coded, message } = outcome.error
        if (coded !== undefined) {
          const unread = `error in the place of the ${field()}`
          return pauseUnreadableUnsafe(execution, unread, message)
        }
        try {
          const error = errorOf(outcome.error, revive)
          noteFailureUnsafe(execution, error, position)
          rejected(error)
        } catch (error) {
          rejected(error)
        }
      }
      try {
        refuseInside(execution)
        performUnsafe(execution, make(), delivered)
      } catch (error) {
        rejected(error)
      }
    })
    result.catch(() => undefined)
    return result
  }

  const plainStep = <T>(
    kind: StepOperation["kind"],
    name: string,
    options: StepOptions<T>,
    more?: undefined,
  ): Promise<T> =>
    direct(
      () => {
        if (more === undefined) return stepOperation(kind, name, options)
        throw invalid(`step "${name}"`, "has its options beside its function: { run, retry, … }")
      },
      (result) => stored(result, options.schema),
      () => `result of step "${name}"`,
    )

  const sleep = (name: string, until: () => SleepOperation["until"]): Promise<void> =>
    direct(
      () => {
        orThrow(checkName(name, "sleep name"))
        return { kind: "sleep", name, until: until() }
      },
      () => Effect.void,
      () => `sleep "${name}"`,
    )

  const child: WorkflowContext["child"] = (definition, ...[input, options]) =>
    promise(() =>
      Effect.flatMap(childOperation(run.workflow, definition, input, options), awaitChild),
    )

  const ctx: WorkflowContext = {
    workflowRunId: run.workflowRunId,
    attempt: run.attempt,
    now: () => new Date(execution.nowForBody),
    random: () => drawn().random(),
    uuid: () => drawn().uuid(),
    patched: (id) => promise(() => patched(id)),
    step: <T>(
      name: string,
      options: StepOptions<T> | StepOptions<T>["run"],
      more?: undefined,
    ): Promise<T> =>
      plainStep("step", name, typeof options === "function" ? new JustRun(options) : options, more),
    transaction: <T, C>(
      name: string,
      body: (client: C, info: TryInfo) => Promise<T> | T,
      options?: TransactionOptions<T>,
    ) =>
      promise(() => {
        if (typeof body !== "function") throw invalid(`transaction "${name}"`, "must be a function")
        return step(
          "step",
          name,
          { ...options, run: undefined as never },
          transactionOf(body, options),
        )
      }),
    sideEffect: (name, fn) => plainStep("side_effect", name, new JustRun(fn)),
    sleep: (name, duration) =>
      sleep(name, () => ({ delayMs: orThrow(toMillis(duration, `duration of sleep "${name}"`)) })),
    sleepUntil: (name, date) =>
      sleep(name, () => {
        // new Date(null) is the epoch: a date that is missing would be one that is past
        const wakeAt = date === null ? Number.NaN : new Date(date).getTime()
        if (Number.isNaN(wakeAt) || wakeAt > Date.UTC(9999, 0)) {
          throw invalid(`date of sleep "${name}"`, "is not a valid date before the year 9999")
        }
        // what is long past is past: Postgres knows fewer years than Date
        return { wakeAt: Math.max(wakeAt, 0) }
      }),
    pointOfNoReturn: (name) => promise(() => pointOfNoReturn(name)),
    setStatus: (text) => execution.publish({ [statusName]: orThrow(checkStatus(text)) }),
    setAttributes: (attributes) =>
      execution.publish(orThrow(checkAttributes(attributes, "attributes"))),
    emit: (event, data) =>
      promise(() => {
        orThrow(checkName(event, "event name"))
        return Effect.flatMap(anyValue.encode(data, `data of event "${event}"`), (payload) =>
          Effect.asVoid(ask({ kind: "emit", name: event, payload })),
        )
      }),
    waitForEvent: (name: string, options?: WaitOptions<any>) =>
      promise(() => waitForEvent(name, options, ask, stored)),
    token: (name) => promise(() => Token.make(name)),
    waitForToken: (token: string, options?: WaitOptions<any>) =>
      promise(() => waitForToken(token, options, ask, stored)),
    child,
    workflow: child,
    startChild: (definition, ...[input, options]) =>
      promise(() =>
        Effect.flatMap(childOperation(run.workflow, definition, input, options), (operation) =>
          Effect.map(startAlone(operation), ({ workflowRunId, stepKey }) => {
            let result: Promise<any> | null = null
            return {
              workflowRunId,
              result: () => (result ??= promise(() => awaitChild(awaitOf(operation, stepKey)))),
            }
          }),
        ),
      ),
    map: (items, fn, options) => {
      const mapped = mapBounded(items, fn, options)
      mapped.catch(() => undefined)
      return mapped
    },
  }
  return ctx
}
