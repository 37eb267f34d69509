/**
 * A transactional step: one try, in a transaction that records it too.
 *
 * The record's place in the order of completion is taken when nothing but the commit is left; from
 * there on no time limit and no abort cuts it off, for its outcome would be in doubt. What is no
 * failure of the step's code costs no try of its retry policy:
 *
 * - serialization failures, deadlocks, a connection that is lost under the code, a store or driver that
 *   dies before the commit was sent: the code runs again, at most `mostFaults` times in all, with a
 *   growing, jittered pause; then the try has failed;
 * - a database that is away, before the commit was sent: again, for as long as the lease is trusted;
 * - a commit without an answer: looked up until it is known, and never done again where it stands.
 */
import * as Effect from "effect/Effect"
import { encodeError } from "../ErrorPayload.ts"
import { PayloadCodecFailed, StoreUnavailable } from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import type { Hold } from "./attempt.ts"
import { callPause } from "./bounded.ts"
import type { Execution, Issued, Reserved } from "./Execution.ts"
import type { AttemptFailure, StepAttempt, StepOperation } from "./Operation.ts"

const mostFaults = 10
const firstPauseMs = 10
const longestPauseMs = 1000

/**
 * The try. Succeeds when the step is recorded, and its delivery queued.
 */
export const inTransaction = (options: {
  readonly execution: Execution
  readonly issued: Issued
  readonly operation: StepOperation
  readonly attempt: StepAttempt
  readonly hold: Hold
}): Effect.Effect<Encoded, AttemptFailure> => {
  const { execution, issued, operation, attempt, hold } = options
  const { env } = execution
  /** Of those that the code itself may be the cause of. */
  let faults = 0
  let pauses = 0

  const pause = Effect.suspend(() => {
    const longest = Math.min(firstPauseMs * 2 ** Math.min(pauses++, 10), longestPauseMs)
    return Effect.interruptible(callPause(longest * (0.5 + env.random() / 2)))
  })

  const lost: Effect.Effect<never> = Effect.suspend(() => {
    execution.stop({ _tag: "lost" })
    return Effect.interrupt
  })

  /** All was rolled back; the code would only run again, for nothing: a person must see to it. */
  const paused = (unstorable: PayloadCodecFailed): Effect.Effect<never> => {
    const error = env.redact(encodeError(unstorable))
    execution.finish({ _tag: "Pause", error }, { _tag: "paused", error })
    return Effect.interrupt
  }

  const again: Effect.Effect<Encoded, AttemptFailure> = Effect.andThen(
    pause,
    Effect.suspend(() => (env.leaseTrusted() ? once : lost)),
  )

  const afterFault = (failure: AttemptFailure): Effect.Effect<Encoded, AttemptFailure> =>
    ++faults >= mostFaults ? Effect.fail(failure) : again

  const once: Effect.Effect<Encoded, AttemptFailure> = Effect.suspend(() => {
    let place: Reserved | null = null
    let result: Encoded | null = null
    let goOn: (() => void) | null = null

    const drop = (): void => {
      place?.dropped()
      place = null
      goOn?.()
    }
    const stands = (
      answer: Extract<Parameters<Reserved["committed"]>[0], { _tag: "committed" }>,
    ): Encoded => {
      place?.committed(answer)
      return result as Encoded
    }

    const lookUp = (reserved: Reserved): Effect.Effect<Encoded, AttemptFailure> =>
      env.transactionOutcome(reserved.record).pipe(
        // whatever goes wrong says nothing of the commit
        Effect.catchDefect(Effect.fail),
        Effect.matchEffect({
          onFailure: () =>
            Effect.andThen(
              Effect.uninterruptible(pause),
              Effect.suspend(() => (env.leaseTrusted() ? lookUp(reserved) : lost)),
            ),
          onSuccess: (answer) => {
            if (answer?._tag === "lost") return lost
            if (answer?._tag === "committed") return Effect.sync(() => stands(answer))
            drop()
            return again
          },
        }),
      )

    return env
      .transact({
        isolation: operation.transaction?.isolation ?? null,
        use: (transaction) =>
          // the database may have taken its time to begin: the body is a try like any other
          Effect.interruptible(
            Effect.suspend(() => {
              attempt.transaction = transaction
              return env.leaseTrusted() ? operation.run(attempt) : lost
            }),
          ).pipe(
            Effect.catchDefect((defect) => {
              const fault = transaction.faultOf(defect)
              return Effect.fail<AttemptFailure>({
                error: encodeError(defect),
                retryable: true,
                fault,
              })
            }),
            Effect.flatMap((value) =>
              Effect.suspend(() => {
                const held = hold()
                if (held === null) return Effect.interrupt
                goOn = held
                result = value
                place = execution.reserve(issued, value)
                return Effect.succeed(place.record)
              }),
            ),
          ),
      })
      .pipe(
        Effect.onInterrupt(() => Effect.sync(drop)),
        // a place that was taken is given back, or its record stands: later ones wait for it
        Effect.catchDefect((defect): Effect.Effect<never, AttemptFailure | StoreUnavailable> =>
          place === null
            ? Effect.fail({
                error: encodeError(defect),
                retryable: true,
                fault: "unavailable",
              })
            : Effect.fail(
                new StoreUnavailable({
                  operation: "transact",
                  outcome: "unknown",
                  reason: String(defect),
                }),
              ),
        ),
        Effect.matchEffect({
          onSuccess: (answer) =>
            answer._tag === "lost" ? lost : Effect.sync(() => stands(answer)),
          onFailure: (error) => {
            if (
              error instanceof StoreUnavailable &&
              error.outcome === "unknown" &&
              place !== null
            ) {
              return lookUp(place)
            }
            drop()
            if ("_tag" in error) {
              if (isCodecFailure(error)) return paused(error)
              const retryable = error instanceof StoreUnavailable
              const failure = { error: encodeError(error), retryable }
              if (!retryable) return Effect.fail(failure)
              const isConflict = /^40(001|P01):/.test(error.reason)
              return isConflict ? afterFault(failure) : again
            }
            return error.fault ? afterFault(error) : Effect.fail(error)
          },
        }),
      )
  })

  return once
}

/** Of a store behind payload codecs, whose contract does not name it. */
const isCodecFailure = (error: unknown): error is PayloadCodecFailed =>
  error instanceof PayloadCodecFailed
