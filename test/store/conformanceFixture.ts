/**
 * What the conformance suite is written with: short constructors of contract values, and verbs that
 * a test would otherwise repeat. `observe` is everything the store tells about a run: two equal
 * observations mean that nothing changed.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Encoded } from "../../src/Payload.ts"
import type { TerminalStatus } from "../../src/Run.ts"
import {
  type WorkflowRef,
  type Claim,
  type ClaimedRun,
  type InsertAnswer,
  type NewRun,
  type RecordWrite,
  type RunHistory,
  type RunRow,
  type RunWrite,
  type ScheduleRow,
  type Transition,
  type WorkerRegistration,
  WorkflowStore,
  type WriteAnswer,
} from "../../src/WorkflowStore.ts"

/** Where the clock of every test starts. */
export const start = 1_760_000_000_000

export const leaseMs = 30_000

/** Ids in the shape of UUIDv7, in the order of `n`. */
export const id = (n: number): string =>
  `01990000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`

export const workerId = (n: number): string =>
  `01980000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`

export const json = (value: unknown): Encoded => ({ codec: "json", json: JSON.stringify(value) })

/** The value behind a stored form: jsonb may print it differently. */
export const parse = (value: Encoded | null | undefined): unknown =>
  value === null || value === undefined ? value : JSON.parse(value.json)

export const error = (message: string) => ({ name: "Error", message })

export const newRun = (n: number, overrides: Partial<NewRun> = {}): NewRun => ({
  workflowRunId: id(n),
  workflow: "w",
  version: null,
  input: json({ n }),
  priority: 0,
  scheduledFor: null,
  timeoutMs: null,
  maxAttempts: null,
  idempotencyKey: null,
  concurrencyKey: null,
  parent: null,
  ...overrides,
})

export const childOf = (n: number, stepKey = "child", attempt = 1): Partial<NewRun> => ({
  parent: { workflowRunId: id(n), stepKey, attempt },
})

export const registration = (n: number, lease = leaseMs): WorkerRegistration => ({
  workerId: workerId(n),
  label: "worker",
  leaseMs: lease,
  workflows: [{ name: "w", version: null }],
  capacity: 10,
})

export const record = (
  stepKey: string,
  position: number | null,
  overrides: Partial<RecordWrite> = {},
): RecordWrite => ({
  stepKey,
  name: stepKey,
  kind: "step",
  position,
  issuedAfter: 0,
  status: "completed",
  attempts: 1,
  result: json(stepKey),
  error: null,
  hasCompensate: false,
  retryDelayMs: null,
  elapsedMs: 0,
  eventId: null,
  ...overrides,
})

export const failed = (stepKey: string, position: number, overrides: Partial<RecordWrite> = {}) =>
  record(stepKey, position, {
    status: "failed",
    result: null,
    error: error(`${stepKey} failed`),
    ...overrides,
  })

export const retrying = (stepKey: string, attempts: number, retryDelayMs = 1000) =>
  record(stepKey, null, {
    status: "retrying",
    attempts,
    result: null,
    error: error(`attempt ${attempts}`),
    retryDelayMs,
  })

export const sleepEnd = (stepKey: string, position: number) =>
  record(stepKey, position, { kind: "sleep", result: null })

/** A wait for an event that was in vain. */
export const waitEnd = (stepKey: string, position: number) =>
  record(stepKey, position, { kind: "event", result: null })

export const write = (claim: Claim, parts: Partial<RunWrite> = {}): RunWrite => ({
  workflowRunId: claim.workflowRunId,
  token: claim.token,
  timers: [],
  records: [],
  children: [],
  emitted: [],
  compensations: [],
  transition: null,
  ...parts,
})

export const park = (
  wakeCounter: number,
  options: { status?: "sleeping" | "waiting"; dueAt?: number; delayMs?: number } = {},
): Transition => ({
  _tag: "Park",
  status: options.status ?? "waiting",
  dueAt: options.dueAt ?? null,
  delayMs: options.delayMs ?? null,
  wakeCounter,
})

export const handBack: Transition = { _tag: "HandBack" }

export const settle = (
  status: TerminalStatus,
  parts: Partial<Transition & { readonly _tag: "Settle" }> = {},
): Transition => ({
  _tag: "Settle",
  status,
  result: status === "completed" ? json("done") : null,
  error: status === "completed" ? null : error(status),
  failedPosition: null,
  ...parts,
})

export const compensate: Transition = { _tag: "Compensate", error: error("must undo") }

export const pause: Transition = { _tag: "Pause", error: error("paused") }

export const retryRun = (failedPosition: number | null, delayMs = 0): Transition => ({
  _tag: "RetryRun",
  failedPosition,
  delayMs,
  error: error("attempt failed"),
})

export const schedule = (
  key: string,
  overrides: Partial<ScheduleRow> = {},
): Omit<ScheduleRow, "lastTick"> => ({
  key,
  workflow: "w",
  version: null,
  cron: "0 9 * * *",
  timeZone: "UTC",
  input: json(key),
  enabled: true,
  nextTick: start,
  ...overrides,
})

export type Committed = Extract<WriteAnswer, { readonly _tag: "committed" }>

/** The verbs that tests repeat, on one store. */
export class Fixture {
  readonly store: WorkflowStore["Service"]

  constructor(store: WorkflowStore["Service"]) {
    this.store = store
  }

  readonly advance = (ms: number) => TestClock.adjust(ms)

  /** Registers worker `n`. */
  worker(n: number, lease = leaseMs) {
    return Effect.as(this.store.registerWorker(registration(n, lease)), workerId(n))
  }

  insert(...runs: ReadonlyArray<NewRun>) {
    return this.store.insertRuns({ runs, claimFor: null })
  }

  insertFor(worker: string, ...runs: ReadonlyArray<NewRun>) {
    return this.store.insertRuns({ runs, claimFor: worker })
  }

  /** Inserts run `n` as claimed by the worker. */
  hold(worker: string, n: number, overrides: Partial<NewRun> = {}) {
    return Effect.map(this.insertFor(worker, newRun(n, overrides)), ([answer]): Claim => {
      assert.strictEqual(answer?._tag, "Inserted")
      const { token } = answer as Extract<InsertAnswer, { readonly _tag: "Inserted" }>
      assert.strictEqual(token, 1)
      return { workflowRunId: id(n), token: 1 }
    })
  }

  claim(
    worker: string,
    options: {
      limit?: number
      suspects?: boolean
      workflows?: ReadonlyArray<string | WorkflowRef>
    } = {},
  ) {
    const { limit = 10, suspects = false, workflows = ["w"] } = options
    const named = workflows.map((one) =>
      typeof one === "string" ? { name: one, version: null } : one,
    )
    return this.store.claimRuns({ workerId: worker, workflows: named, limit, suspects })
  }

  /** Claims, and expects exactly run `n`. */
  claimOnly(
    worker: string,
    n: number,
    options: { suspects?: boolean; workflows?: ReadonlyArray<WorkflowRef> } = {},
  ) {
    return Effect.map(this.claim(worker, options), (claims): ClaimedRun => {
      assert.deepStrictEqual(idsOf(claims), [id(n)])
      return claims[0]!
    })
  }

  commit(one: RunWrite) {
    return Effect.map(this.store.commit([one]), ([answer]) => answer!)
  }

  /** Commits, and expects it to be `committed`. */
  committed(claim: Claim, parts: Partial<RunWrite> = {}) {
    return Effect.map(this.commit(write(claim, parts)), (answer): Committed => {
      assert.strictEqual(answer._tag, "committed")
      return answer as Committed
    })
  }

  /** Commits, again while the row is in other hands, and expects it to be `committed`. */
  sentUntilAnswered(claim: Claim, parts: Partial<RunWrite> = {}) {
    return this.commit(write(claim, parts)).pipe(
      Effect.repeat({ while: ({ _tag }) => _tag === "busy", times: 1000 }),
      Effect.map((answer) => assert.strictEqual(answer._tag, "committed")),
    )
  }

  sendEvent(n: number, name = "go", eventId: string | null = null) {
    const event = { workflowRunId: id(n), name, payload: json(name), id: eventId }
    return Effect.map(this.store.sendEvents([event]), ([answer]) => answer!)
  }

  cancel(n: number, undo: boolean | null = null, reason: string | null = null) {
    return this.store.requestCancel({ workflowRunId: id(n), compensate: undo, reason })
  }

  row(n: number) {
    return Effect.map(this.store.getRuns([id(n)]), (rows): RunRow => {
      assert.strictEqual(rows.length, 1, `run ${n} exists`)
      return rows[0]!
    })
  }

  history(n: number) {
    return Effect.map(this.store.loadHistory([id(n)]), (histories): RunHistory => {
      assert.strictEqual(histories.length, 1, `run ${n} has a history`)
      return histories[0]!
    })
  }

  list(options: Partial<Parameters<WorkflowStore["Service"]["listRuns"]>[0]> = {}) {
    const all = { statuses: null, workflow: null, parentRunId: null, before: null, limit: 1000 }
    return this.store.listRuns({ ...all, ...options })
  }

  /** The worker's lease ends, and the sweeper comes by. */
  readonly lapseAndSweep = Effect.suspend(() =>
    Effect.andThen(TestClock.adjust(leaseMs), this.store.sweep({ limit: 100 })),
  )

  /** Everything the store tells about a run, but the time of the reading. */
  observe(n: number) {
    return Effect.all({
      row: this.row(n),
      history: Effect.map(this.history(n), (history) => ({ ...history, now: 0 })),
      steps: this.store.getSteps(id(n)),
      events: this.store.getEvents(id(n)),
      children: this.list({ parentRunId: id(n) }),
    })
  }
}

export const idsOf = (rows: ReadonlyArray<{ readonly workflowRunId: string }>) =>
  rows.map((row) => row.workflowRunId)

/** One test of the suite. The store is empty, and the clock stands at `start`. */
export type Test = (
  name: string,
  body: (s: Fixture) => Effect.fn.Return<void, unknown, Scope.Scope>,
) => void

export const testOn =
  (makeLayer: () => Layer.Layer<WorkflowStore, unknown>): Test =>
  (name, body) =>
    it.effect(name, () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const store = yield* WorkflowStore
        yield* Effect.gen(() => body(new Fixture(store)))
      }).pipe(Effect.provide(makeLayer())),
    )
