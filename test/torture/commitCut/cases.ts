/**
 * Every verb of the store that writes, as something that can be cut and brought to its end: what comes
 * before it, its sending, and what whoever sent it does when no answer came.
 */
import * as Effect from "effect/Effect"
import type { Claim, RunWrite, WorkflowStore } from "../../../src/WorkflowStore.ts"
import {
  type Fixture,
  compensate,
  error,
  handBack,
  id,
  json,
  newRun,
  park,
  pause,
  record,
  registration,
  retrying,
  retryRun,
  schedule,
  settle,
  start,
  write,
} from "../../store/conformanceFixture.ts"

export type Verb = keyof WorkflowStore["Service"]

/** Verbs that leave nothing behind in the database. */
export const readers = [
  "name",
  "verify",
  "now",
  "callersTransaction",
  "joinTransaction",
  "loadHistory",
  "loadSources",
  "readSignals",
  "transactionOutcome",
  "findToken",
  "getControls",
  "getRuns",
  "listRuns",
  "countRuns",
  "getSituation",
  "getSteps",
  "getEvents",
  "tailEvents",
  "listSchedules",
  "dueSchedules",
  "listen",
  "sparesConnection",
  "overlap",
] as const satisfies ReadonlyArray<Verb>

export type Writer = Exclude<Verb, (typeof readers)[number]>

/** One round, in an empty store. */
export interface Round {
  readonly s: Fixture
  readonly n: number
  readonly worker: string
  readonly workflow: string
  readonly key: string
  /** Run `n`, as its first claim. */
  readonly claim: Claim
  /** A store on a schema that nobody has made. */
  readonly fresh: () => Fixture["store"]
}

type Act = (round: Round) => Effect.Effect<unknown, any>

export interface Case {
  readonly name: string
  readonly before: Act
  readonly send: Act
  /** Sent again until it is answered, unless given. */
  readonly converge?: Act
  /** What a second sending may answer where the first was carried out. */
  readonly again?: ReadonlyArray<unknown>
  /** Rightly different after a second sending. */
  readonly twice?: ReadonlyArray<"wakeCounter" | "token" | "controls">
}

const nothing: Act = () => Effect.void

const of = ({ workflow }: Round, more: Partial<Parameters<typeof newRun>[1]> = {}) => ({
  workflow,
  ...more,
})

const registered: Act = ({ s, worker, workflow }) =>
  s.store.registerWorker({
    ...registration(1),
    workerId: worker,
    workflows: [{ name: workflow, version: null }],
  })

const inserted: Act = (round) => round.s.insert(newRun(round.n, of(round)))

const held: Act = (round) =>
  Effect.andThen(registered(round), round.s.hold(round.worker, round.n, of(round)))

const both =
  (...acts: ReadonlyArray<Act>): Act =>
  (round) =>
    Effect.forEach(acts, (act) => act(round), { discard: true })

const writes =
  (parts: (round: Round) => Partial<RunWrite>): Act =>
  (round) =>
    Effect.map(
      round.s
        .commit(write(round.claim, parts(round)))
        .pipe(Effect.repeat({ while: ({ _tag }) => _tag === "busy", times: 1000 })),
      (answer) => answer._tag,
    )

const commits = (
  name: string,
  parts: (round: Round) => Partial<RunWrite>,
  before = held,
): Case => ({
  name,
  before,
  send: writes(parts),
})

const childOf = (round: Round) =>
  newRun(
    round.n + 5,
    of(round, { parent: { workflowRunId: id(round.n), stepKey: "child", attempt: 1 } }),
  )

const everything = (round: Round): Partial<RunWrite> => ({
  timers: [{ stepKey: "t", delayMs: 100 }],
  records: [record("a", 1, { hasCompensate: true }), record("e", 2, { kind: "emit" })],
  children: [childOf(round)],
  emitted: [{ stepKey: "e", name: "e", payload: json(1) }],
  compensations: [{ stepKey: "a", status: "completed", attempts: 1, error: null }],
  attributes: { colour: "red" },
})

const settled = (status: "completed" | "failed" | "dead_letter") =>
  both(
    held,
    writes(() => ({ transition: settle(status) })),
  )

const undoable = both(
  held,
  writes(() => ({ records: [record("a", 1, { hasCompensate: true })], transition: compensate })),
)

const byHand = ({ n }: Round) => [{ workflowRunId: id(n), error: error("by hand"), reason: "why" }]

const lapsed = both(held, ({ s, worker }) => s.store.retireWorker(worker))

/** The table has no key: what is done twice is there twice. */
const transacts: Act = ({ s, claim }) =>
  Effect.map(
    s.store.transact({
      claim,
      isolation: null,
      use: ({ client }) => {
        const { query } = client as { readonly query: (text: string) => Promise<unknown> }
        return Effect.as(
          Effect.tryPromise(() => query.call(client, "insert into public.effects values (1)")),
          record("tx", 1),
        )
      },
    }),
    ({ _tag }) => _tag,
  )

/** As an engine does: where the outcome is unknown it is looked up, and never guessed. */
const transactsAgain: Act = (round) =>
  Effect.gen(function* () {
    const { s, claim } = round
    const found = yield* s.store
      .transactionOutcome({ claim, record: record("tx", 1) })
      .pipe(Effect.retry({ times: 10 }))
    return found === null ? yield* transacts(round) : found._tag
  })

/** As a worker does: what it holds and does not know of is given back. */
const claimsAgain: Act = (round) =>
  Effect.gen(function* () {
    const { s, worker, workflow, n } = round
    for (let tries = 0; tries < 200; tries++) {
      const me = {
        ...registration(1),
        workerId: worker,
        workflows: [{ name: workflow, version: null }],
      }
      const { claims } = yield* s.store.renewLease(me)
      if (claims.length > 0) yield* s.store.releaseClaims(claims)
      const got = yield* s.claim(worker, { workflows: [workflow], limit: 1 })
      if (got[0]?.workflowRunId === id(n)) return 1
      yield* Effect.sleep(5)
    }
    return 0
  })

const everyEnd: ReadonlyArray<Case> = [
  commits("a record", () => ({ records: [record("a", 1)] })),
  commits("a record, the first of its key", () => ({
    records: [{ ...record("a", 1), first: true }],
  })),
  commits("an end that wakes nobody", () => ({
    transition: settle("completed", { wakesParent: false }),
  })),
  commits("a first record, and an end that wakes nobody", () => ({
    records: [{ ...record("a", 1), first: true }],
    transition: settle("completed", { wakesParent: false }),
  })),
  commits("a backoff", () => ({ records: [retrying("b", 1)] })),
  commits("everything, the claim stays", everything),
  commits("everything, and a park", (round) => ({
    ...everything(round),
    transition: park(0, { delayMs: 1000 }),
  })),
  commits("a sleep", () => ({
    timers: [{ stepKey: "nap", delayMs: 60_000 }],
    transition: park(0, { status: "sleeping", delayMs: 60_000 }),
  })),
  commits("a wait", () => ({ transition: park(0) })),
  commits("a hand-back", () => ({ records: [record("a", 1)], transition: handBack })),
  commits("a completion", () => ({ records: [record("a", 1)], transition: settle("completed") })),
  commits("a failure", () => ({ transition: settle("failed") })),
  commits("a dead letter", () => ({ transition: settle("dead_letter") })),
  commits("a pause", () => ({ transition: pause })),
  commits("a next attempt", () => ({
    records: [record("a", 1), record("b", 2, { status: "failed", result: null })],
    transition: retryRun(2),
  })),
  commits("the change to compensating", () => ({
    records: [record("a", 1, { hasCompensate: true })],
    transition: compensate,
  })),
  commits(
    "the end of compensating",
    () => ({
      compensations: [{ stepKey: "a", status: "completed", attempts: 1, error: null }],
      transition: settle("compensated"),
    }),
    undoable,
  ),
  {
    name: "a child's end, and its parent's park",
    before: (round) =>
      Effect.andThen(
        held(round),
        round.s.hold(
          round.worker,
          round.n + 5,
          of(round, { parent: { workflowRunId: id(round.n), stepKey: "c", attempt: 1 } }),
        ),
      ),
    send: ({ s, n, claim }) =>
      Effect.map(
        s.store
          .commit([
            write({ workflowRunId: id(n + 5), token: 1 }, { transition: settle("completed") }),
            write(claim, { transition: park(0) }),
          ])
          .pipe(Effect.repeat({ while: (all) => all.some((a) => a._tag === "busy"), times: 1000 })),
        (answers) => answers.map(({ _tag }) => _tag),
      ),
  },
]

const one = (
  name: string,
  before: Act,
  send: Act,
  more: Partial<Pick<Case, "again" | "twice" | "converge">> = {},
): ReadonlyArray<Case> => [{ name, before, send, ...more }]

const reschedules = (round: Round) =>
  round.s.store.rescheduleRuns({
    workflowRunIds: [id(round.n)],
    at: start + 50_000,
    sleep: null,
    reason: "why",
  })

export const cases: { readonly [V in Writer]: ReadonlyArray<Case> } = {
  migrate: one("a fresh schema", nothing, (round) => round.fresh().migrate),
  registerWorker: one("a worker", nothing, registered, { again: ["StoreRejected"] }),
  renewLease: one("a live lease", held, ({ s, worker, workflow }) =>
    s.store.renewLease({
      ...registration(1),
      workerId: worker,
      workflows: [{ name: workflow, version: null }],
    }),
  ),
  retireWorker: one("a worker", held, ({ s, worker }) => s.store.retireWorker(worker)),
  refundCrashes: one(
    "a crash",
    both(lapsed, ({ s }) => s.store.sweep({ limit: 10 })),
    ({ s, worker }) => s.store.refundCrashes(worker),
    { again: [0] },
  ),
  sweep: one("a lapsed claim", lapsed, ({ s }) => s.store.sweep({ limit: 10 }), { again: [0] }),
  deadLetterPoison: one(
    "a crashed run",
    both(lapsed, ({ s }) => s.store.sweep({ limit: 10 })),
    ({ s }) => s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 }),
    { again: [[]] },
  ),
  cancelOrphans: one(
    "a child whose parent ended",
    both(
      held,
      writes((round) => ({ children: [childOf(round)] })),
      // ends without asking its children
      ({ s, worker }) => s.store.retireWorker(worker),
      ({ s }) => s.store.sweep({ limit: 10 }),
      ({ s }) => s.store.deadLetterPoison({ maxCrashes: 1, limit: 10 }),
    ),
    ({ s }) => s.store.cancelOrphans({ limit: 10 }),
    { again: [0] },
  ),
  claimRuns: one(
    "a due run",
    both(registered, inserted),
    ({ s, worker, workflow }) =>
      Effect.map(s.claim(worker, { workflows: [workflow], limit: 1 }), ({ length }) => length),
    { converge: claimsAgain, twice: ["token"] },
  ),
  releaseClaims: one("a claim", held, ({ s, claim }) => s.store.releaseClaims([claim]), {
    again: [0],
  }),
  insertRuns: [
    ...one("with an id that is new", nothing, (round) =>
      Effect.map(round.s.insert(newRun(round.n, of(round, { fresh: true }))), (answers) =>
        answers.map(({ _tag }) => _tag),
      ),
    ),
    ...one("two with ids that are new", nothing, (round) =>
      Effect.map(
        round.s.insert(
          newRun(round.n, of(round, { fresh: true })),
          newRun(round.n + 1, of(round, { fresh: true })),
        ),
        (answers) => answers.map(({ _tag }) => _tag),
      ),
    ),
    ...one("with a key, and without", nothing, (round) =>
      Effect.map(
        round.s.insert(
          newRun(round.n, of(round, { idempotencyKey: round.key, attributes: { a: 1 } })),
          newRun(round.n + 1, of(round)),
        ),
        (answers) => answers.map(({ _tag }) => _tag),
      ),
    ),
    ...one("claimed at once", registered, (round) =>
      Effect.map(
        round.s.insertFor(round.worker, newRun(round.n, of(round, { concurrencyKey: round.key }))),
        (answers) => answers.map(({ _tag }) => _tag),
      ),
    ),
  ],
  releaseIdempotencyKey: one(
    "of an ended run",
    (round) =>
      Effect.gen(function* () {
        yield* registered(round)
        yield* round.s.hold(round.worker, round.n, of(round, { idempotencyKey: round.key }))
        yield* writes(() => ({ transition: settle("completed") }))(round)
      }),
    ({ s, n }) => s.store.releaseIdempotencyKey(id(n)),
    { again: [false] },
  ),
  commit: everyEnd,
  transact: one("a transaction", held, transacts, { converge: transactsAgain }),
  requestCancel: [
    ...one("of a run under way", held, ({ s, n }) => s.cancel(n), {
      twice: ["wakeCounter", "controls"],
    }),
    ...one("of a run that never started", inserted, ({ s, n }) => s.cancel(n), {
      again: ["terminal"],
    }),
  ],
  resumeRun: one(
    "of a paused run",
    both(
      held,
      writes(() => ({ transition: pause })),
    ),
    ({ s, n }) => s.store.resumeRun(id(n), "why"),
    { again: ["not-paused"] },
  ),
  retryRun: one(
    "of a failed run",
    settled("failed"),
    ({ s, n }) => s.store.retryRun(id(n), "why"),
    {
      again: ["not-retryable"],
    },
  ),
  reviseCompensation: one(
    "of an undo that gave up",
    both(
      undoable,
      writes(() => ({
        compensations: [{ stepKey: "a", status: "failed", attempts: 1, error: error("no") }],
        transition: settle("failed"),
      })),
    ),
    ({ s, n }) =>
      s.store.reviseCompensation({ workflowRunId: id(n), stepKey: null, verb: "retry" }),
    { again: ["refused", "nothing"] },
  ),
  sendEvents: one("an event with an id", inserted, ({ s, n, key }) => s.sendEvent(n, "go", key), {
    again: ["duplicate"],
  }),
  terminateRuns: one(
    "of a run under way",
    held,
    (round) => round.s.store.terminateRuns(byHand(round)),
    {
      again: [["terminal"]],
    },
  ),
  pauseRuns: [
    ...one("of a run at rest", inserted, (round) => round.s.store.pauseRuns(byHand(round)), {
      twice: ["controls"],
    }),
    ...one("of a run under way", held, (round) => round.s.store.pauseRuns(byHand(round)), {
      twice: ["controls", "wakeCounter"],
    }),
  ],
  wakeRuns: one(
    "of a sleeping run",
    both(
      held,
      writes(() => ({
        timers: [{ stepKey: "nap", delayMs: 60_000 }],
        transition: park(0, { status: "sleeping", delayMs: 60_000 }),
      })),
    ),
    ({ s, n }) => s.store.wakeRuns({ workflowRunIds: [id(n)], endSleeps: true, reason: "why" }),
    { twice: ["wakeCounter", "controls"] },
  ),
  rescheduleRuns: one(
    "of a run that has not started",
    (round) => round.s.insert(newRun(round.n, of(round, { scheduledFor: start + 9000 }))),
    reschedules,
    { twice: ["controls"] },
  ),
  forkRuns: one("from the start", settled("completed"), ({ s, n }) =>
    Effect.map(
      s.store.forkRuns([
        { workflowRunId: id(n), from: null, newRunId: id(n + 7), input: null, reason: "why" },
      ]),
      (answers) => answers,
    ),
  ),
  upsertSchedule: one("a schedule", nothing, ({ s, key, workflow }) =>
    s.store.upsertSchedule(schedule(key, { workflow })),
  ),
  removeSchedule: one(
    "a schedule",
    ({ s, key, workflow }) => s.store.upsertSchedule(schedule(key, { workflow })),
    ({ s, key }) => s.store.removeSchedule(key),
    { again: [false] },
  ),
  fireTick: one(
    "a tick",
    ({ s, key, workflow }) => s.store.upsertSchedule(schedule(key, { workflow })),
    (round) =>
      round.s.store.fireTick({
        key: round.key,
        expectedNextTick: start,
        tick: start,
        nextTick: start + 1000,
        run: newRun(round.n, of(round)),
      }),
    { again: [false] },
  ),
  notify: one("a hint", nothing, ({ s }) => s.store.notify(["work"])),
}
