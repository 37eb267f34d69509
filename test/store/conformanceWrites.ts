/**
 * Every kind of write that carries a claim, once: the fence tries each in each stale situation, and
 * the re-sends try each twice.
 */
import type { Claim, RunWrite } from "../../src/WorkflowStore.ts"
import {
  childOf,
  compensate,
  error,
  failed,
  handBack,
  json,
  newRun,
  park,
  pause,
  record,
  retryRun,
  retrying,
  settle,
  sleepEnd,
  waitEnd,
  write,
} from "./conformanceFixture.ts"

export interface KindOfWrite {
  readonly what: string
  /** Whether it releases the claim. */
  readonly releases: boolean
  readonly parts: Partial<RunWrite>
}

/** Writes for a held run 1 that has recorded the steps `done` (1) and `broken` (2). */
export const kindsOfWrite: ReadonlyArray<KindOfWrite> = [
  { what: "record a step", releases: false, parts: { records: [record("new", 3)] } },
  { what: "record a failure", releases: false, parts: { records: [failed("new", 3)] } },
  { what: "record a backoff", releases: false, parts: { records: [retrying("new", 1)] } },
  {
    what: "fix a timer",
    releases: false,
    parts: { timers: [{ stepKey: "nap", delayMs: 50 }], records: [record("new", 3)] },
  },
  {
    what: "end a sleep",
    releases: false,
    parts: { timers: [{ stepKey: "nap", delayMs: 0 }], records: [sleepEnd("nap", 3)] },
  },
  {
    what: "end a wait in vain",
    releases: false,
    parts: { timers: [{ stepKey: "go", delayMs: 0 }], records: [waitEnd("go", 3)] },
  },
  {
    what: "start a child",
    releases: false,
    parts: { children: [newRun(100, childOf(1))], records: [record("new", 3)] },
  },
  {
    what: "emit an event",
    releases: false,
    parts: {
      records: [record("emit:x", 3, { kind: "emit", result: null })],
      emitted: [{ stepKey: "emit:x", name: "x", payload: json(1) }],
    },
  },
  {
    what: "record an undo",
    releases: false,
    parts: {
      compensations: [{ stepKey: "done", status: "failed", attempts: 2, error: error("no undo") }],
    },
  },
  { what: "begin to compensate", releases: false, parts: { transition: compensate } },
  {
    what: "begin to compensate, with a record,",
    releases: false,
    parts: { records: [failed("new", 3)], transition: compensate },
  },
  { what: "park", releases: true, parts: { transition: park(0, { delayMs: 100 }) } },
  {
    what: "park, with a record,",
    releases: true,
    parts: { records: [record("new", 3)], transition: park(0) },
  },
  { what: "hand back", releases: true, parts: { transition: handBack } },
  { what: "complete", releases: true, parts: { transition: settle("completed") } },
  {
    what: "fail, with a record,",
    releases: true,
    parts: { records: [failed("new", 3)], transition: settle("failed", { failedPosition: 3 }) },
  },
  { what: "cancel", releases: true, parts: { transition: settle("cancelled") } },
  { what: "retry", releases: true, parts: { transition: retryRun(2, 100) } },
  {
    what: "retry, with a record,",
    releases: true,
    parts: { records: [failed("new", 3)], transition: retryRun(3, 100) },
  },
  { what: "pause", releases: true, parts: { transition: pause } },
]

export const writeOf = (claim: Claim, kind: KindOfWrite): RunWrite => write(claim, kind.parts)
