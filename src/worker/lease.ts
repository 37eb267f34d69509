/**
 * A worker's lease: one heartbeat for the whole process, whatever it runs.
 *
 * The database decides who may take over; this process only bounds its own trust. The trust
 * deadline is the *start* of the last successful heartbeat + lease − margin, on the monotonic clock:
 * past it, runs are dropped before the database could give them away. A lapsed lease is never
 * renewed: everything is dropped and the worker registers anew, under a fresh incarnation id.
 *
 * With each heartbeat the claims that the database holds for us are compared with memory. What no
 * run here accounts for (a claim whose reply was lost, a run dropped just before a heartbeat
 * succeeded) is released, fenced by its token.
 */
import * as Effect from "effect/Effect"
import { v4 as uuidv4 } from "uuid"
import type { Claim, StoreError, WorkerRegistration, WorkflowStore } from "../WorkflowStore.ts"

/**
 * The lease of this process.
 */
export interface Lease {
  readonly workerId: () => string
  /** The trust deadline has not passed. */
  readonly trusted: () => boolean
  /** Half of the trust is left: fit for taking on more. */
  readonly fresh: () => boolean
  /** A claim or eager insert begins, whose reply may be lost; call the result when it has ended. */
  readonly claiming: () => () => void
  readonly register: Effect.Effect<void, StoreError>
  readonly heartbeat: Effect.Effect<void, StoreError>
  readonly retire: Effect.Effect<void, StoreError>
}

/**
 * A lease, not yet registered.
 */
export const makeLease = (options: {
  readonly store: WorkflowStore["Service"]
  readonly leaseMs: number
  readonly registration: () => Omit<WorkerRegistration, "workerId" | "leaseMs">
  readonly monotonicMs: () => number
  /** A run here accounts for this claim. */
  readonly accountsFor: (claim: Claim) => boolean
  /** The lease lapsed: every run must stop, now. */
  readonly onLapsed: () => void
}): Lease => {
  const { store, leaseMs, monotonicMs } = options
  const marginMs = Math.min(leaseMs / 4, 5000)
  let workerId = uuidv4()
  let trustedUntil = -Infinity
  let nextClaiming = 0
  const claiming = new Map<number, number>()
  /** Claims seen without a run: since when. */
  const unaccounted = new Map<string, number>()

  const registration = (): WorkerRegistration => ({ ...options.registration(), workerId, leaseMs })
  // a hung call must not outlive the trust it was to renew
  const deadlineMs = Math.max(leaseMs / 3, 200)

  const register = Effect.gen(function* () {
    workerId = uuidv4()
    unaccounted.clear()
    const started = monotonicMs()
    yield* store.registerWorker(registration())
    trustedUntil = started + leaseMs - marginMs
  })

  const reconcile = Effect.fnUntraced(function* (held: ReadonlyArray<Claim>, sentAt: number) {
    const seen = new Map<string, number>()
    const orphans: Array<Claim> = []
    const oldest = Math.min(Infinity, ...claiming.values())
    for (const claim of held) {
      if (options.accountsFor(claim)) continue
      const key = `${claim.workflowRunId}:${claim.token}`
      const since = unaccounted.get(key) ?? sentAt
      // a claim in flight since before we saw it may still bring it here
      if (oldest > since) orphans.push(claim)
      else seen.set(key, since)
    }
    unaccounted.clear()
    for (const [key, since] of seen) unaccounted.set(key, since)
    if (orphans.length > 0) {
      yield* Effect.logInfo(`flowly: releasing ${orphans.length} claims that no run accounts for`)
      yield* store.releaseClaims(orphans)
    }
  })

  const heartbeat = Effect.gen(function* () {
    const started = monotonicMs()
    const answer = yield* store.renewLease(registration()).pipe(Effect.timeoutOption(deadlineMs))
    if (answer._tag === "None") return
    if (!answer.value.renewed) {
      const lapsed = workerId
      trustedUntil = -Infinity
      options.onLapsed()
      yield* Effect.logWarning("flowly: the worker's lease lapsed; registering anew")
      yield* register
      // merely frozen, not crashed: what sweeping counted against the runs is given back
      yield* store.refundCrashes(lapsed)
      return
    }
    trustedUntil = started + leaseMs - marginMs
    yield* reconcile(answer.value.claims, started)
  })

  return {
    workerId: () => workerId,
    trusted: () => monotonicMs() < trustedUntil,
    fresh: () => monotonicMs() < trustedUntil - leaseMs / 3,
    claiming: () => {
      const id = nextClaiming++
      claiming.set(id, monotonicMs())
      return () => claiming.delete(id)
    },
    register,
    heartbeat,
    retire: Effect.suspend(() => store.retireWorker(workerId)),
  }
}
