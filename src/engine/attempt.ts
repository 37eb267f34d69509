/**
 * One try of a function that touches the world: a step's body, or its undo.
 *
 * A try ends once: with its function's own end, or at a time limit. At a limit it is told to stop (its
 * signal aborts, its fiber is interrupted) and not waited for. A function that was told to stop and
 * ended in nothing but an interruption has an unknown outcome; one that interrupts itself, unasked,
 * has failed: nothing else would ever end it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"

/**
 * How a try ended.
 */
export type AttemptEnd<A, E> =
  | { readonly _tag: "Success"; readonly value: A }
  | { readonly _tag: "Failure"; readonly failure: E }
  | { readonly _tag: "Defect"; readonly error: unknown }
  | { readonly _tag: "TimedOut"; readonly error: LimitError }
  | { readonly _tag: "Interrupted" }

/**
 * The error of a try that reached a limit.
 */
export type LimitError = Error & { readonly retryable: boolean }

/**
 * A time limit of a try, and the error that says so.
 */
export interface TimeLimit {
  readonly afterMs: number
  /** What of it has passed; it may begin anew while the try runs. Default: counted from the start. */
  readonly elapsedMs?: (() => number) | undefined
  readonly error: () => LimitError
}

/**
 * Begins what must not be cut off, and answers how to end it; `null`: too late, the try was told to
 * stop, and how it ends is told already.
 */
export type Hold = () => (() => void) | null

/**
 * A try under way.
 */
export interface RunningAttempt {
  /** Aborts the signal and interrupts the function, whose end is still told. Nothing, once it ended. */
  readonly abort: (reason: unknown) => void
}

/**
 * Starts a try. `onEnd` is called once; a function that ends at once calls it before this returns.
 */
export const startAttempt = <A, E>(options: {
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Calls `hold` before what must not be cut off: limits and aborts wait from then on. */
  readonly body: (signal: () => AbortSignal, hold: Hold) => Effect.Effect<A, E>
  /** In the place of `body`: a plain function, which no fiber carries. Calls `end` once. */
  readonly call?:
    | ((signal: () => AbortSignal, end: (result: Result.Result<A, E>) => void) => void)
    | undefined
  readonly limits: ReadonlyArray<TimeLimit>
  /** `aborted`: it had been told to stop before it ended. */
  readonly onEnd: (end: AttemptEnd<A, E>, aborted: boolean) => void
}): RunningAttempt => {
  const { fork } = options
  // A signal is dear, and most functions never look at theirs.
  let controller: AbortController | null = null
  let told: { readonly reason: unknown } | null = null
  const signal = () => {
    controller ??= new AbortController()
    if (told !== null) controller.abort(told.reason)
    return controller.signal
  }
  const tellToStop = (reason: unknown) => {
    told ??= { reason }
    controller?.abort(reason)
  }
  const timers: Array<Fiber.Fiber<void>> = []
  let ended = false
  let held = false
  let waiting: (() => void) | null = null
  const unlessHeld = (cut: () => void) => {
    if (!held) cut()
    else waiting ??= cut
  }
  const hold: Hold = () => {
    if (ended || told !== null) return null
    held = true
    return () => {
      held = false
      const cut = waiting
      waiting = null
      cut?.()
    }
  }
  const end = (result: AttemptEnd<A, E>) => {
    if (ended) return
    ended = true
    for (const timer of timers) timer.interruptUnsafe()
    options.onEnd(result, told !== null)
  }
  /** The running try, with its limits. */
  const limited = (abort: (reason: unknown) => void): RunningAttempt => {
    for (const limit of options.limits) {
      if (ended) break
      const over = Effect.sync(() =>
        unlessHeld(() => {
          if (ended) return
          const reason = limit.error()
          end({ _tag: "TimedOut", error: reason })
          abort(reason)
        }),
      )
      timers.push(fork(Effect.andThen(passed(limit), over)))
    }
    return {
      abort: (reason) => {
        unlessHeld(() => {
          if (!ended) abort(reason)
        })
      },
    }
  }
  const { call } = options
  if (call !== undefined) {
    call(signal, (result) => {
      try {
        end(
          Result.isSuccess(result)
            ? { _tag: "Success", value: result.success }
            : { _tag: "Failure", failure: result.failure },
        )
      } catch (defect) {
        // the function's caller has nothing to do with it
        fork(Effect.die(defect))
      }
    })
    return limited(tellToStop)
  }
  // uninterruptible around, so that a function which ended in spite of an abort still tells how
  const fiber = fork(
    Effect.uninterruptible(
      Effect.matchCause(
        Effect.suspend(() => options.body(signal, hold)),
        {
          onSuccess: (value) => end({ _tag: "Success", value }),
          onFailure: (cause) => end(endOf(cause, told !== null)),
        },
      ),
    ),
  )
  return limited((reason) => {
    tellToStop(reason)
    fiber.interruptUnsafe()
  })
}

const passed = ({ afterMs, elapsedMs }: TimeLimit): Effect.Effect<void> =>
  elapsedMs === undefined
    ? Effect.sleep(afterMs)
    : Effect.gen(function* () {
        let left = afterMs
        while (left > 0) {
          // what rounding leaves of a millisecond would be slept in no time, again and again
          yield* Effect.sleep(Math.ceil(left))
          left = afterMs - elapsedMs()
        }
      })

const endOf = <E>(cause: Cause.Cause<E>, aborted: boolean): AttemptEnd<never, E> => {
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure !== undefined) return { _tag: "Failure", failure: failure.error }
  if (aborted && Cause.hasInterruptsOnly(cause)) return { _tag: "Interrupted" }
  return { _tag: "Defect", error: Cause.squash(cause) }
}
