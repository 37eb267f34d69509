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
 * What is tried.
 */
export interface AttemptOptions<A, E> {
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Calls `hold` before what must not be cut off: limits and aborts wait from then on. */
  body(signal: () => AbortSignal, hold: Hold): Effect.Effect<A, E>
  /** In the place of `body`: a plain function, which no fiber carries. Calls `end` once. */
  readonly call?:
    | ((signal: () => AbortSignal, end: (result: Result.Result<A, E>) => void) => void)
    | undefined
  readonly limits: ReadonlyArray<TimeLimit>
  /** `aborted`: it had been told to stop before it ended. */
  onEnd(end: AttemptEnd<A, E>, aborted: boolean): void
}

/**
 * Starts a try. `onEnd` is called once; a function that ends at once calls it before this returns.
 */
export const startAttempt = <A, E>(options: AttemptOptions<A, E>): RunningAttempt => {
  const running = new Running(options)
  running.start()
  return running
}

/** A class, not a dozen closures: there is one for each try of each step. */
class Running<A, E> implements RunningAttempt {
  readonly #options: AttemptOptions<A, E>
  // A signal is dear, and most functions never look at theirs.
  #controller: AbortController | null = null
  #told: { readonly reason: unknown } | null = null
  #timers: Array<Fiber.Fiber<void>> | null = null
  #fiber: Fiber.Fiber<void> | null = null
  #ended = false
  #held = false
  #waiting: (() => void) | null = null

  constructor(options: AttemptOptions<A, E>) {
    this.#options = options
  }

  start(): void {
    const options = this.#options
    if (options.call !== undefined) this.#call(options.call)
    else {
      // uninterruptible around, so that a function which ended in spite of an abort still tells how
      this.#fiber = options.fork(
        Effect.uninterruptible(
          Effect.matchCause(
            Effect.suspend(() => options.body(this.#signal, () => this.#hold())),
            {
              onSuccess: (value) => this.#end({ _tag: "Success", value }),
              onFailure: (cause) => this.#end(endOf(cause, this.#told !== null)),
            },
          ),
        ),
      )
    }
    if (options.limits.length > 0) this.#limit(options.limits)
  }

  abort(reason: unknown): void {
    this.#unlessHeld(() => {
      if (!this.#ended) this.#cut(reason)
    })
  }

  #call(call: NonNullable<AttemptOptions<A, E>["call"]>): void {
    call(this.#signal, (result) => {
      try {
        this.#end(
          Result.isSuccess(result)
            ? { _tag: "Success", value: result.success }
            : { _tag: "Failure", failure: result.failure },
        )
      } catch (defect) {
        // the function's caller has nothing to do with it
        this.#options.fork(Effect.die(defect))
      }
    })
  }

  #limit(limits: ReadonlyArray<TimeLimit>): void {
    for (const limit of limits) {
      if (this.#ended) return
      const over = Effect.sync(() =>
        this.#unlessHeld(() => {
          if (this.#ended) return
          const reason = limit.error()
          this.#end({ _tag: "TimedOut", error: reason })
          this.#cut(reason)
        }),
      )
      this.#timers ??= []
      this.#timers.push(this.#options.fork(Effect.andThen(passed(limit), over)))
    }
  }

  readonly #signal = (): AbortSignal => {
    this.#controller ??= new AbortController()
    if (this.#told !== null) this.#controller.abort(this.#told.reason)
    return this.#controller.signal
  }

  #hold(): ReturnType<Hold> {
    if (this.#ended || this.#told !== null) return null
    this.#held = true
    return () => {
      this.#held = false
      const cut = this.#waiting
      this.#waiting = null
      cut?.()
    }
  }

  #unlessHeld(cut: () => void): void {
    if (!this.#held) cut()
    else this.#waiting ??= cut
  }

  /** Tells it to stop. */
  #cut(reason: unknown): void {
    this.#told ??= { reason }
    this.#controller?.abort(reason)
    this.#fiber?.interruptUnsafe()
  }

  #end(end: AttemptEnd<A, E>): void {
    if (this.#ended) return
    this.#ended = true
    if (this.#timers !== null) for (const timer of this.#timers) timer.interruptUnsafe()
    this.#options.onEnd(end, this.#told !== null)
  }
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
