/** Each verb that carries values or errors, alone: what reaches the store, and what comes back. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { describe, expect, it } from "vitest"
import { codedStore } from "../../src/codec/codedStore.ts"
import { makeCoding } from "../../src/codec/coding.ts"
import type { WorkflowStore } from "../../src/effect.ts"
import { aes } from "./aes.ts"

type Store = WorkflowStore.WorkflowStore["Service"]

const coding = Result.getOrThrow(makeCoding({ write: aes("k1") }))

const secret = "canary"
const value = { codec: "json", json: JSON.stringify(secret) }
const error = { name: "E", message: secret }
const run = { workflowRunId: "r", input: value }

/** Over a store that notes what it is asked, and answers what it is told to. */
const over = (answer: unknown) => {
  let asked: unknown
  const verb = (...args: ReadonlyArray<unknown>) => {
    asked = args
    return Effect.succeed(answer)
  }
  const transact = ({ use }: { readonly use: (_: unknown) => Effect.Effect<unknown> }) =>
    Effect.flatMap(use({}), verb)
  const inner = new Proxy({ transact, listSchedules: Effect.succeed(answer) } as object, {
    get: (target, name) => Reflect.get(target, name) ?? verb,
  })
  return { store: codedStore(inner as Store, coding) as any, asked: () => asked }
}

const record = { kind: "step", result: value, error, heartbeat: value }

const written: Readonly<Record<string, readonly [verb: keyof Store, ...args: Array<unknown>]>> = {
  "runs that start": ["insertRuns", { runs: [run], claimFor: null }],
  events: ["sendEvents", [{ payload: value }], { maxPending: 1 }],
  "runs that are terminated": ["terminateRuns", [{ error }]],
  "runs that are paused": ["pauseRuns", [{ error }]],
  "forks with an input": ["forkRuns", [{ input: value }, { input: null }]],
  schedules: ["upsertSchedule", { input: value }],
  ticks: ["fireTick", { key: "k", run }],
  transactions: ["transact", { use: () => Effect.succeed(record) }],
  ...Object.fromEntries(
    [
      { _tag: "Settle", result: value, error },
      { _tag: "Settle", result: null, error: null },
      { _tag: "Compensate", error },
      { _tag: "RetryRun", error },
      { _tag: "Pause", error },
      { _tag: "Park" },
      null,
    ].map((transition) => [
      `a write with ${JSON.stringify(transition)}`,
      [
        "commit",
        [
          {
            records: [record, { kind: "step", result: null, error: null }],
            children: [run],
            emitted: [{ payload: value }],
            compensations: [{ error }, { error: null }],
            transition,
          },
        ],
      ] as const,
    ]),
  ),
}

/** What an answer is made of, as it is stored and as it is meant. */
const answers = (
  v: typeof value,
  e: unknown,
): Readonly<Record<string, readonly [keyof Store, unknown]>> => {
  const row = { input: v, result: v, error: e, pauseReason: e }
  const bare = { input: v, result: null, error: null, pauseReason: null }
  const step = { result: v, error: e, heartbeat: v, compensation: { error: e } }
  const nothing = { result: null, error: null, heartbeat: null, compensation: null }
  const child = { result: v, error: e }
  const sources = { children: [child], events: [{ payload: v }] }
  return {
    claims: ["claimRuns", [{ input: v, error: e }]],
    histories: ["loadHistory", [{ ...sources, records: [step, nothing] }]],
    sources: ["loadSources", [sources]],
    inserts: ["insertRuns", [{ _tag: "Existing", run: row }, { _tag: "Inserted" }]],
    runs: ["getRuns", [row, bare]],
    lists: ["listRuns", [row, bare]],
    situations: ["getSituation", { run: row, children: [child] }],
    "no situation": ["getSituation", null],
    steps: ["getSteps", [step, nothing]],
    events: ["getEvents", [{ payload: v }]],
    tails: ["tailEvents", { events: [{ payload: v }], cursor: "c" }],
    "a schedule": ["upsertSchedule", { input: v }],
    schedules: ["listSchedules", [{ input: v }]],
    "due schedules": ["dueSchedules", { now: 1, nextTick: 2, schedules: [{ input: v }] }],
  }
}

/** Arguments with which a verb can be called that is only asked for its answer. */
const someArguments: Partial<Record<keyof Store, unknown>> = {
  insertRuns: { runs: [] },
  upsertSchedule: { input: value },
}

describe("a store behind a payload codec", () => {
  it.each(Object.keys(written))("is not told the values and errors of %s", async (what) => {
    const [verb, ...args] = written[what]!
    const { store, asked } = over([])
    await Effect.runPromise(Effect.exit(store[verb](...args)))
    const text = JSON.stringify(asked())
    expect(text).not.toContain(secret)
    const meant = verb === "transact" ? record : args
    const secrets = JSON.stringify(meant).split(secret).length - 1
    expect(text.split('"k1:json"').length - 1).toBe(secrets)
  })

  const stored = answers(coding.encode(value), coding.encodeError(error))
  const meant = answers(value, error)
  it.each(Object.keys(meant))("tells what was meant, in %s", async (what) => {
    const [verb, answer] = stored[what]!
    expect(JSON.stringify(answer)).not.toContain(secret)
    const { store } = over(answer)
    const asked = typeof store[verb] === "function" ? store[verb](someArguments[verb]) : store[verb]
    expect(await Effect.runPromise(asked)).toEqual(meant[what]![1])
  })

  it.each(["sleep", "child_start", "emit", "token", "no_return", "patch"])(
    "keeps the engine's own records readable: %s",
    async (kind) => {
      const { store, asked } = over([])
      const own = { ...record, kind, error: null, heartbeat: null }
      const write = {
        records: [own],
        children: [],
        emitted: [],
        compensations: [],
        transition: null,
      }
      await Effect.runPromise(store.commit([write]))
      expect(asked()).toMatchObject([[{ records: [{ result: value }] }]])
    },
  )
})
