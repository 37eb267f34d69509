/**
 * A worker's lease: one heartbeat for the whole process, whatever it runs.
 *
 * The database decides who may take over; this process only bounds its own trust. The trust
 * deadline is the *start* of the last successful heartbeat + lease − margin, on the monotonic clock:
 * past it, runs are dropped before the database could give them away. A lapsed lease is never
 * renewed: everything is dropped and the worker registers anew, under a fresh incarnation id; what
 * the former incarnation still held is given back, and so is what sweeping counted against its runs.
 *
 * With each heartbeat the claims that the database holds for us are compared with memory. What no
 * run here accounts for (a claim whose reply was lost, a run dropped just before a heartbeat
 * succeeded) is released, fenced by its token: at once, or when every claim has ended that was under
 * way when it was first seen, and so might still bring it here.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { v4 as uuidv4 } from "uuid"
import { bounded } from "../engine/bounded.ts"
import type { Claim, StoreError, WorkerRegistration, WorkflowStore } from "../WorkflowStore.ts"

/**
 * A claim or eager insert that is under way, by one incarnation of the worker.
 */
export interface Claiming {
  readonly workerId: string
  /** Its answer came, or never will. Idempotent. */
  readonly end: () => void
}

/**
 * The lease of this process.
 */
export interface Lease {
  readonly workerId: () => string
  /** The trust deadline has not passed. */
  readonly trusted: () => boolean
  /** Two thirds of the lease have not passed since a heartbeat: fit for taking on more. */
  readonly fresh: () => boolean
  readonly claiming: () => Claiming
  /** Claims that are not to be executed here: the next heartbeat gives them back. */
  readonly disown: (claims: ReadonlyArray<Claim>) => void
  readonly register: Effect.Effect<void, StoreError>
  readonly heartbeat: Effect.Effect<void, StoreError>
  /** Gives back whatever the store still holds for this worker, then ends the lease. */
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
  /** What may be released need not wait for the heartbeat's time. */
  readonly wantReconcile: () => void
}): Lease => {
  const { store, leaseMs, monotonicMs } = options
  const marginMs = Math.min(leaseMs / 4, 5000)
  // a hung call must not outlive the trust it was to renew
  const patience = Duration.millis(Math.max(leaseMs / 3, 200))
  let workerId = uuidv4()
  let registered = false
  let trustedUntil = -Infinity
  const claiming = new Map<Claiming, number>()
  /** Claims seen without a run: since when. */
  const unaccounted = new Map<string, { readonly claim: Claim; readonly since: number }>()
  /** Former incarnations whose crash counts are to be given back, and claims to be released. */
  const lapsed = new Set<string>()
  let disowned: Array<Claim> = []

  const registration = (): WorkerRegistration => ({ ...options.registration(), workerId, leaseMs })

  const register = Effect.fnUntraced(function* (within: Duration.Duration | undefined) {
    workerId = uuidv4()
    registered = false
    unaccounted.clear()
    const started = monotonicMs()
    yield* bounded("registerWorker", within)(store.registerWorker(registration()))
    registered = true
    trustedUntil = started + leaseMs - marginMs
  })

  const release = (claims: ReadonlyArray<Claim>) =>
    bounded("releaseClaims")(store.releaseClaims(claims))

  const oldestClaiming = () => Math.min(Infinity, ...claiming.values())

  /** A claim has ended, and brought what it had: is there one that nothing else can bring? */
  const lookForOrphans = () => {
    const oldest = oldestClaiming()
    for (const { claim, since } of unaccounted.values()) {
      if (oldest > since && !options.accountsFor(claim)) return options.wantReconcile()
    }
  }

  const reconcile = Effect.fnUntraced(function* (held: ReadonlyArray<Claim>) {
    const now = monotonicMs()
    const seen: typeof unaccounted = new Map()
    const orphans: Array<Claim> = []
    const oldest = oldestClaiming()
    for (const claim of held) {
      if (options.accountsFor(claim)) continue
      const key = `${claim.workflowRunId}:${claim.token}`
      const since = unaccounted.get(key)?.since ?? now
      // a claim that was in flight when we first saw it may still bring it here
      if (oldest > since) orphans.push(claim)
      else seen.set(key, { claim, since })
    }
    unaccounted.clear()
    for (const [key, one] of seen) unaccounted.set(key, one)
    if (orphans.length > 0) {
      yield* Effect.logInfo(`flowly: releasing ${orphans.length} claims that no run accounts for`)
      yield* release(orphans)
    }
  })

  /** What a former incarnation left to be put right; tried again until it is. */
  const makeAmends = Effect.gen(function* () {
    const claims = disowned
    if (claims.length > 0) {
      yield* release(claims)
      disowned = disowned.filter((claim) => !claims.includes(claim))
    }
    for (const former of lapsed) {
      // merely frozen, not crashed: what sweeping counted against the runs is given back
      yield* bounded("refundCrashes")(store.refundCrashes(former))
      lapsed.delete(former)
    }
  })

  const heartbeat = Effect.gen(function* () {
    if (registered) {
      const started = monotonicMs()
      const answer = yield* bounded("renewLease", patience)(store.renewLease(registration()))
      if (answer.renewed) {
        trustedUntil = started + leaseMs - marginMs
        yield* reconcile(answer.claims)
      } else {
        registered = false
        trustedUntil = -Infinity
        options.onLapsed()
        lapsed.add(workerId)
        disowned = [...disowned, ...answer.claims]
        yield* Effect.logWarning("flowly: the worker's lease lapsed; registering anew")
      }
    }
    if (!registered) yield* register(patience)
    yield* makeAmends
  })

  return {
    workerId: () => workerId,
    trusted: () => monotonicMs() < trustedUntil,
    fresh: () => monotonicMs() < trustedUntil - leaseMs / 3,
    claiming: () => {
      const end = () => {
        // its runs are taken in right behind this call
        if (claiming.delete(one) && unaccounted.size > 0) queueMicrotask(lookForOrphans)
      }
      const one: Claiming = { workerId, end }
      claiming.set(one, monotonicMs())
      return one
    },
    disown: (claims) => {
      disowned = [...disowned, ...claims]
    },
    register: register(undefined),
    heartbeat,
    retire: Effect.gen(function* () {
      const { claims } = yield* store.renewLease(registration())
      const held = [...disowned, ...claims]
      if (held.length > 0) yield* store.releaseClaims(held)
      yield* store.retireWorker(workerId)
    }),
  }
}
