/**
 * Everything that may happen to one run, in pairs: from each starting state, each ordered pair of
 * verbs. After every verb the row is one that the transition table and the contract allow, terminal
 * states are final, and the run can still be brought to its end.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { canTransition, isTerminal } from "../../src/Run.ts"
import type { Claim, RunRow, Transition } from "../../src/WorkflowStore.ts"
import {
  compensate,
  error,
  type Fixture,
  handBack,
  id,
  newRun,
  park,
  pause,
  record,
  registration,
  retryRun,
  retrying,
  settle,
  start,
  workerId,
  write,
} from "./conformanceFixture.ts"

/** One run, with a worker and a workflow of its own: pairs do not meet. */
export interface Case {
  readonly s: Fixture
  readonly n: number
  readonly run: string
  worker: string
  readonly workflow: string
  /** What its worker believes to hold. */
  claim: Claim | null
  /** What it knows of that run: it has begun to undo. */
  undoing: boolean
}

type Act = (c: Case) => Effect.Effect<unknown, unknown>

const commit =
  (transition: Transition | null, parts: Partial<Parameters<typeof write>[1]> = {}): Act =>
  ({ s, claim }) =>
    claim === null
      ? Effect.void
      : s
          .commit(write(claim, { ...parts, transition }))
          .pipe(Effect.repeat({ while: ({ _tag }) => _tag === "busy", times: 1000 }))

/** Inserted as claimed by its worker. */
const held: Act = (c) =>
  Effect.map(c.s.hold(c.worker, c.n, { workflow: c.workflow }), (claim) => {
    c.claim = claim
  })

const undo: Act = (c) =>
  Effect.map(commit(compensate, { records: [record("a", 1, { hasCompensate: true })] })(c), () => {
    c.undoing = true
  })

const both =
  (...acts: ReadonlyArray<Act>): Act =>
  (c) =>
    Effect.forEach(acts, (act) => act(c), { discard: true })

const runWith = (c: Case) => [{ workflowRunId: c.run, error: error("by hand"), reason: "why" }]

export const verbs: Readonly<Record<string, Act>> = {
  cancel: ({ s, n }) => s.cancel(n, null, "why"),
  terminate: (c) => c.s.store.terminateRuns(runWith(c)),
  pause: (c) => c.s.store.pauseRuns(runWith(c)),
  resume: ({ s, run }) => s.store.resumeRun(run, "why"),
  retry: ({ s, run }) => s.store.retryRun(run, "why"),
  fork: ({ s, n, run }) =>
    s.store.forkRuns([
      { workflowRunId: run, from: null, newRunId: id(n + 500_000), input: null, reason: "why" },
    ]),
  wake: ({ s, run }) => s.store.wakeRuns({ workflowRunIds: [run], endSleeps: true, reason: null }),
  reschedule: ({ s, run }) =>
    s.store.rescheduleRuns({ workflowRunIds: [run], at: start + 50, sleep: null, reason: null }),
  sendEvent: ({ s, n }) => s.sendEvent(n),
  // of a run that undoes, too
  "commit: settle": commit(settle("failed")),
  "commit: park": commit(park(0, { status: "sleeping", delayMs: 9000 }), {
    timers: [{ stepKey: "sleep", delayMs: 9000 }],
    records: [record("last", 7)],
  }),
  "commit: hand back": commit(handBack),
  "commit: next attempt": (c) => (c.undoing ? Effect.void : commit(retryRun(null, 9000))(c)),
  "commit: compensate": undo,
  claim: (c) =>
    Effect.map(c.s.claim(c.worker, { workflows: [c.workflow], limit: 1 }), ([claimed]) => {
      if (claimed === undefined) return
      c.claim = claimed
      c.undoing = claimed.compensating
    }),
  sweep: ({ s, worker }) =>
    Effect.andThen(s.store.retireWorker(worker), s.store.sweep({ limit: 1000 })),
}

/** The rest of the contract's verbs that may change a run: with the others, all of them. */
export const rarerVerbs: Readonly<Record<string, Act>> = {
  poison: ({ s }) => s.store.deadLetterPoison({ maxCrashes: 1, limit: 1000 }),
  refund: ({ s, worker }) => s.store.refundCrashes(worker),
  renew: ({ s, worker }) => s.store.renewLease({ ...registration(1), workerId: worker }),
  release: ({ s, claim }) => (claim === null ? Effect.void : s.store.releaseClaims([claim])),
  orphans: ({ s }) => s.store.cancelOrphans({ limit: 1000 }),
  insert: ({ s, n, workflow }) => s.insert(newRun(n, { workflow })),
  "retry the undo": ({ s, run }) =>
    s.store.reviseCompensation({ workflowRunId: run, stepKey: "a", verb: "retry" }),
  "skip the undo": ({ s, run }) =>
    s.store.reviseCompensation({ workflowRunId: run, stepKey: "a", verb: "skip" }),
  "commit: pause": commit(pause),
  "commit: transact": ({ s, claim }) =>
    claim === null
      ? Effect.void
      : s.store.transact({ claim, isolation: null, use: () => Effect.succeed(record("tx", 9)) }),
}

export const allVerbs: Readonly<Record<string, Act>> = { ...verbs, ...rarerVerbs }

/** Its worker dies, after another claim if it had died before; the clock stands still. */
const crash: Act = (c) =>
  Effect.gen(function* () {
    // others crash at the same time
    const number = ++crashes
    const dying = workerId(1_000_000 + number)
    yield* c.s.store.registerWorker({ ...registration(1), workerId: dying })
    if ((yield* c.s.row(c.n)).workerId === null) {
      yield* c.s.store.wakeRuns({ workflowRunIds: [c.run], endSleeps: true, reason: null })
      yield* c.s.claim(dying, { workflows: [c.workflow], limit: 1 })
    }
    yield* c.s.store.retireWorker((yield* c.s.row(c.n)).workerId ?? dying)
    // the sweep of another pair may hold the run at that moment: then ours passes it by
    yield* Effect.repeat(Effect.andThen(c.s.store.sweep({ limit: 1000 }), c.s.row(c.n)), {
      until: ({ workerId: holder }) => holder === null,
      times: 1000,
    })
    c.claim = null
    // its own worker's lease, for the verbs to come
    yield* c.s.store.registerWorker({
      ...registration(1),
      workerId: (c.worker = workerId(2_000_000 + number)),
    })
  })
let crashes = 0

const nap = { timers: [{ stepKey: "nap", delayMs: 60_000 }] }

export const states: Readonly<Record<string, Act>> = {
  pending: ({ s, n, workflow }) => s.insert(newRun(n, { workflow })),
  scheduled: ({ s, n, workflow }) => s.insert(newRun(n, { workflow, scheduledFor: start + 9000 })),
  running: both(held, commit(null, { ...nap, records: [retrying("step", 1, 50_000)] })),
  "asked to cancel": both(held, ({ s, n }) => s.cancel(n)),
  "asked to pause": both(held, (c) => c.s.store.pauseRuns(runWith(c))),
  sleeping: both(held, commit(park(0, { status: "sleeping", delayMs: 60_000 }), nap)),
  waiting: both(held, commit(park(0))),
  "between attempts": both(held, commit(retryRun(null, 60_000))),
  paused: both(held, commit(pause)),
  "paused before its start": both(
    ({ s, n, workflow }) => s.insert(newRun(n, { workflow })),
    (c) => c.s.store.pauseRuns(runWith(c)),
  ),
  crashed: both(held, crash),
  "crashed, paused": both(held, crash, (c) => c.s.store.pauseRuns(runWith(c))),
  "crashed, asked to pause": both(held, (c) => c.s.store.pauseRuns(runWith(c)), crash),
  "a suspect": both(held, crash, crash),
  undoing: both(held, undo),
  "undone in vain": both(
    held,
    undo,
    commit(settle("failed"), {
      compensations: [{ stepKey: "a", status: "failed", attempts: 1, error: error("no") }],
    }),
  ),
  "undoing, parked": both(held, undo, commit(park(0, { status: "sleeping", delayMs: 60_000 }))),
  "undoing, paused": both(held, undo, commit(pause)),
  completed: both(held, commit(settle("completed"))),
  failed: both(held, commit(settle("failed"))),
  compensated: both(held, undo, commit(settle("compensated"))),
  cancelled: ({ s, n, workflow }) => Effect.andThen(s.insert(newRun(n, { workflow })), s.cancel(n)),
  "dead letter": both(held, commit(settle("dead_letter"))),
}

/** What every row of the store is, whatever was done to it. */
const assertLegal = (row: RunRow, what: string): void => {
  const demand = (holds: boolean, claim: string) =>
    assert.isTrue(holds, `${what}: ${claim}: ${JSON.stringify(row)}`)
  const { status, workerId: holder, dueAt, cancelRequest, pauseRequest } = row
  demand(cancelRequest === null || pauseRequest === null, "asked to cancel and to pause")
  demand((status === "paused") === (row.pauseReason !== null), "paused has a reason, nothing else")
  demand(isTerminal(status) === (row.completedAt !== null), "ended is completed")
  if (holder !== null) {
    demand(status === "running" || status === "compensating", "held, but not under way")
    return
  }
  demand(status !== "running", "running in nobody's hands")
  if (isTerminal(status) || status === "paused") {
    demand(dueAt === null && pauseRequest === null, "at rest, but due or asked")
  } else demand(dueAt !== null || status === "waiting", "never due")
}

const mayRevive = (before: RunRow, verb: string) =>
  (before.status === "failed" || before.status === "dead_letter") &&
  (before.compensating ? verb.endsWith("the undo") : verb === "retry")

const assertChange = (before: RunRow, after: RunRow, verb: string, what: string): void => {
  assertLegal(after, what)
  assert.isTrue(after.token >= before.token, `${what}: a token shrank`)
  assert.isTrue(after.wakeCounter >= before.wakeCounter, `${what}: a wake counter shrank`)
  if (isTerminal(before.status) && !mayRevive(before, verb)) {
    assert.deepStrictEqual(after, before, `${what}: terminal is final`)
  } else if (before.status !== after.status) {
    const change = `${before.status} became ${after.status}`
    assert.isTrue(canTransition(before.status, after.status), `${what}: ${change}`)
  }
}

/** Fresh hands bring the run to its end. */
const assertEnds = Effect.fnUntraced(function* (c: Case, what: string) {
  const { s, n } = c
  yield* s.store.resumeRun(c.run)
  // what a worker holds or a time holds back: the tests do not move the clock
  yield* s.store.wakeRuns({ workflowRunIds: [c.run], endSleeps: true, reason: null })
  if ((yield* s.row(n)).startedAt === null) {
    const at = { workflowRunIds: [c.run], at: start, sleep: null, reason: null }
    yield* s.store.rescheduleRuns(at)
  }
  const row = yield* s.row(n)
  if (isTerminal(row.status)) return
  let claim: Claim | undefined = { workflowRunId: c.run, token: row.token }
  if (row.workerId === null) {
    const finisher = workerId(n + 500_000)
    yield* s.store.registerWorker({ ...registration(1), workerId: finisher })
    const due = { workflows: [c.workflow], limit: 1 }
    claim =
      (yield* s.claim(finisher, due))[0] ??
      (yield* s.claim(finisher, { ...due, suspects: true }))[0]
    assert.isDefined(claim, `${what}: nobody can claim ${JSON.stringify(yield* s.row(n))}`)
  }
  const end = settle(row.compensating ? "compensated" : "completed")
  const answer = yield* s
    .commit(write(claim!, { transition: end }))
    .pipe(Effect.repeat({ while: ({ _tag }) => _tag === "busy", times: 1000 }))
  assert.strictEqual(answer._tag, "committed", what)
})

const makeCase = Effect.fnUntraced(function* (s: Fixture, n: number, state: string) {
  const worker = workerId(n)
  const workflow = `w${n}`
  yield* s.store.registerWorker({ ...registration(1), workerId: worker })
  const c: Case = { s, n, run: id(n), worker, workflow, claim: null, undoing: false }
  yield* states[state]!(c)
  return c
})

/** Of all runs of the store, not of one. */
const ofAll: ReadonlySet<string> = new Set(["poison", "orphans", "sweep"])

/** Plays every ordered pair of these verbs from one state, `width` at a time. */
export const playPairs = Effect.fnUntraced(function* (
  s: Fixture,
  state: string,
  width: number,
  acts: Readonly<Record<string, Act>>,
) {
  const names = Object.keys(acts)
  const pairs = names.flatMap((first) => names.map((second) => [first, second] as const))
  const play = Effect.fnUntraced(function* ([first, second]: readonly [string, string]) {
    const c = yield* makeCase(
      s,
      pairs.findIndex(([a, b]) => a === first && b === second) + 1,
      state,
    )
    let before = yield* s.row(c.n)
    assertLegal(before, state)
    for (const verb of [first, second]) {
      yield* acts[verb]!(c)
      const after = yield* s.row(c.n)
      assertChange(before, after, verb, `${state}: ${first}, then ${second} (at ${verb})`)
      before = after
    }
    yield* assertEnds(c, `${state}: ${first}, then ${second}`)
  })
  const meets = ([first, second]: readonly [string, string]) =>
    ofAll.has(first) || ofAll.has(second)
  const ownOnly = pairs.filter((pair) => !meets(pair))
  yield* Effect.forEach(ownOnly, play, { concurrency: width, discard: true })
  yield* Effect.forEach(pairs.filter(meets), play, { discard: true })
  return pairs.length
})

const summary = (row: RunRow): string =>
  [row.status, row.compensating, row.workerId !== null, row.attempt].join()

const skipping: ReadonlySet<string> = new Set([
  "claim",
  "sweep",
  "poison",
  "refund",
  "release",
  "orphans",
])

/** How each order of two verbs ends, on a store where they cannot overlap. */
export const ordersOf = Effect.fnUntraced(function* (
  s: Fixture,
  state: string,
  pair: readonly [string, string],
  n: number,
) {
  const ends: Array<string> = []
  const [first, second] = pair
  const orders = [
    [first, second],
    [second, first],
  ]
  // who skips what is locked comes by again
  if (skipping.has(first)) orders.push([second])
  if (skipping.has(second)) orders.push([first])
  for (const [index, order] of orders.entries()) {
    const c = yield* makeCase(s, 4 * n + index, state)
    for (const verb of order) yield* allVerbs[verb]!(c)
    ends.push(summary(yield* s.row(c.n)))
  }
  return ends
})

/** Two verbs at once: the run is as one of their orders would have left it. */
export const playTogether = Effect.fnUntraced(function* (
  s: Fixture,
  state: string,
  pair: readonly [string, string],
  n: number,
  ends: ReadonlyArray<string>,
) {
  const c = yield* makeCase(s, n, state)
  // each sees the claim that there is now, as two processes would
  yield* Effect.all(
    pair.map((verb) => Effect.suspend(() => allVerbs[verb]!({ ...c }))),
    { concurrency: "unbounded" },
  )
  const row = yield* s.row(n)
  const what = `${state}: ${pair.join(" and ")} at once`
  assertLegal(row, what)
  assert.include(ends, summary(row), what)
  yield* assertEnds(c, what)
})
