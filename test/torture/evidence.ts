/**
 * What stands when all is quiet: the engine's rows as its own store reads them, the witness's tables,
 * and the audit; in the shape that the simulation's checkers know, too.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EngineClock from "../../src/EngineClock.ts"
import * as PostgresStore from "../../src/PostgresStore.ts"
import {
  type EventRow,
  type RunRow,
  type StepRecord,
  WorkflowStore,
} from "../../src/WorkflowStore.ts"
import type { BodyExecution, Try } from "../simulation/ledger.ts"
import { printBlock } from "../simulation/printProgram.ts"
import { commandsOf, type Program } from "../simulation/program.ts"
import { attemptOf, type Prediction, predict } from "../simulation/predict.ts"
import type { Evidence as Common } from "../simulation/scene.ts"
import { withClient } from "../support/provision.ts"
import { type Audit, readAudit } from "./audit.ts"
import type { Client } from "./client.ts"
import type { Death, Freeze } from "./nemesis/processes.ts"
import type { Timeline } from "./timeline.ts"

/** One line of the ledger. */
export interface LedgerRow {
  readonly seq: number
  readonly nonce: string
  readonly what: "step" | "undo"
  readonly run: string
  readonly step: string
  readonly key: string
  readonly attempt: number
  readonly run_attempt: number
  readonly worker: string
  readonly began_at: Date
  readonly how: string | null
  readonly ended_at: Date | null
}

interface ToldRow {
  readonly execution: string
  readonly worker: string
  readonly run: string
  readonly attempt: number
  readonly kind: string
  readonly site: string
  readonly value: string
  readonly at: Date
}

export interface AskedSleep {
  readonly run: string
  readonly step: string
  readonly ms: number
  readonly at: Date
}

export interface Evidence extends Common {
  /** Names of transactional steps. */
  readonly transactional: ReadonlySet<string>
  readonly audit: Audit
  readonly lines: ReadonlyArray<LedgerRow>
  readonly asked: ReadonlyArray<AskedSleep>
  readonly timers: ReadonlyMap<string, { readonly setAt: Date; readonly wakeAt: Date }>
  readonly sink: ReadonlyArray<{
    readonly key: string
    readonly run: string
    readonly step: string
  }>
  readonly freezes: ReadonlyArray<Freeze>
  readonly deaths: ReadonlyArray<Death>
  /** Which process a worker's incarnation was, by its id. */
  readonly roleOf: ReadonlyMap<string, string>
  /** Names of processes, by the role of their sessions. */
  readonly nameOf: (role: string) => string
  /** How long a process waited for a processor between two instants. */
  readonly waited: (name: string, from: number, to: number) => number
  readonly deadlocks: number
  readonly invalidIndexes: ReadonlyArray<string>
}

const readEngine = async (url: string, emits: boolean) => {
  const layer = PostgresStore.layerUrl({ url, applicationName: "torture-reader" }).pipe(
    Layer.provide(EngineClock.layerStore),
  )
  return Effect.gen(function* () {
    const store = yield* WorkflowStore
    const rows = new Map<string, RunRow>()
    const ids = yield* Effect.promise(() =>
      withClient(url, async (client) => {
        const found = await client.query<{ id: string }>(
          "select workflow_run_id as id from durable_workflow.workflow_runs",
        )
        return found.rows.map(({ id }) => id)
      }),
    )
    for (let i = 0; i < ids.length; i += 200) {
      for (const row of yield* store.getRuns(ids.slice(i, i + 200))) {
        rows.set(row.workflowRunId, row)
      }
    }
    const records = new Map<string, ReadonlyArray<StepRecord>>()
    const emitted = new Map<string, ReadonlyArray<EventRow>>()
    yield* Effect.forEach(
      ids,
      Effect.fnUntraced(function* (id) {
        records.set(id, yield* store.getSteps(id))
        if (emits) emitted.set(id, yield* store.getEvents(id))
      }),
      { concurrency: 8, discard: true },
    )
    return { rows, records, emitted }
  }).pipe(Effect.provide(layer), Effect.runPromise)
}

export const gather = async (given: {
  readonly url: string
  readonly workload: Program
  readonly client: Client
  readonly timeline: Timeline
  readonly logs: ReadonlyArray<string>
  readonly freezes: ReadonlyArray<Freeze>
  readonly deaths: ReadonlyArray<Death>
  readonly names: ReadonlyMap<string, string>
  readonly waited: Evidence["waited"]
  readonly violate: Common["violate"]
}): Promise<Evidence> => {
  const { url, workload, client, names } = given
  const { rows, records, emitted } = await readEngine(url, true)
  const witnessed = await withClient(url, async (sql) => {
    const all = async <Row>(text: string) => (await sql.query(text)).rows as ReadonlyArray<Row>
    return {
      audit: await readAudit(sql),
      lines: await all<LedgerRow>(
        `select l.seq::float8, l.nonce, l.what, l.run, l.step, l.key, l.attempt, l.run_attempt, l.worker,
          l.began_at, e.how, e.ended_at
        from torture.ledger l left join torture.endings e using (nonce) order by l.began_at`,
      ),
      told: await all<ToldRow>("select * from torture.told order by seq"),
      sink: await all<{ key: string; run: string; step: string }>("select * from torture.sink"),
      transfers: await all<{ run: string; step: string; nonce: string }>(
        "select run, step, nonce from torture.transfers",
      ),
      timers: await all<{ run: string; step: string; setAt: Date; wakeAt: Date }>(
        `select workflow_run_id as run, step_key as step, created_at as "setAt",
          wake_at as "wakeAt"
        from durable_workflow.sleep_timers`,
      ),
      deadlocks: await all<{ n: number }>(
        "select deadlocks::int as n from pg_stat_database where datname = current_database()",
      ),
      invalid: await all<{ name: string }>(
        "select indexrelid::regclass::text as name from pg_index where not indisvalid",
      ),
    }
  })
  const { audit, lines, told } = witnessed
  const taken = new Map<string, number>()
  for (const change of audit.runs) {
    if (change.old_worker === null) continue
    const ended = change.worker !== change.old_worker || change.token !== change.old_token
    if (!ended) continue
    if (change.verb === "commit" && change.status !== "pending" && change.status !== "paused") {
      continue
    }
    taken.set(change.run, (taken.get(change.run) ?? 0) + 1)
  }
  const processes = new Map<string, Try["process"]>()
  /** Checkers ask for its name only. */
  const processOf = (name: string): Try["process"] => {
    const known = processes.get(name)
    if (known !== undefined) return known
    const made = { name } as Try["process"]
    processes.set(name, made)
    return made
  }
  const tries = lines.map((line): Try => ({
    what: line.what,
    workflowRunId: line.run,
    stepKey: line.step,
    attempt: line.attempt,
    runAttempt: line.run_attempt,
    process: processOf(line.worker),
    beganAt: line.began_at.getTime(),
    nonce: line.nonce,
    end: line.how as Try["end"],
    endedAt: line.ended_at?.getTime() ?? null,
  }))
  const executions = new Map<string, BodyExecution>()
  const asked: Array<AskedSleep> = []
  for (const { execution, run, attempt, worker, kind, site, value, at } of told) {
    const one: BodyExecution = executions.get(execution) ?? {
      workflowRunId: run,
      attempt,
      process: processOf(worker),
      seen: [],
      notes: new Map(),
      ended: true,
    }
    executions.set(execution, one)
    if (kind === "seen") one.seen.push(value)
    if (kind === "note") one.notes.set(site, value)
    if (kind === "sleep") asked.push({ run, step: site, ms: Number(value), at })
  }
  const predictions = new Map<string, Prediction>()
  return {
    program: { ...workload, starts: workload.starts.slice(0, client.begun()) },
    transactional: new Set(
      workload.workflows
        .flatMap(({ block }) => commandsOf(block))
        .flatMap((command) => (command.is === "transaction" ? [command.name] : [])),
    ),
    ledger: {
      tries,
      executions: [...executions.values()],
      sink: witnessed.transfers.map(({ run, step, nonce }) => ({
        workflowRunId: run,
        stepKey: step,
        nonce,
      })),
    },
    acknowledged: client.acknowledged,
    cancelled: client.cancelled,
    taken: (id) => taken.get(id) ?? 0,
    logs: given.logs,
    rows: () => rows,
    records: (id) => records.get(id) ?? [],
    emitted: (id) => emitted.get(id) ?? [],
    prediction: (row) => {
      const { workflow, maxAttempts } = row
      const attempt = attemptOf(row)
      const key = `${workflow} ${attempt} ${maxAttempts}`
      const known = predictions.get(key)
      if (known !== undefined) return known
      const index = workload.workflows.findIndex(({ name }) => name === workflow)
      const made = predict(workload, index, attempt, maxAttempts)
      predictions.set(key, made)
      return made
    },
    violate: given.violate,
    audit,
    lines,
    asked,
    timers: new Map(witnessed.timers.map((one) => [`${one.run} ${one.step}`, one])),
    sink: witnessed.sink,
    freezes: given.freezes,
    deaths: given.deaths,
    roleOf: new Map(
      audit.workers.filter(({ op }) => op === "insert").map(({ worker, who }) => [worker, who]),
    ),
    nameOf: (role) => names.get(role) ?? role,
    waited: given.waited,
    deadlocks: witnessed.deadlocks[0]?.n ?? 0,
    invalidIndexes: witnessed.invalid.map(({ name }) => name),
  }
}

/** What is known of one run, in the order of time: who did what. */
export const storyOf = (
  found: Evidence,
  timeline: Timeline,
  workflowRunId: string,
): ReadonlyArray<{ readonly at: number; readonly who: string; readonly what: string }> => {
  const { audit, lines, nameOf, roleOf } = found
  const holder = (worker: string | null) =>
    worker === null ? "nobody" : nameOf(roleOf.get(worker) ?? worker)
  const own = [
    ...audit.runs
      .filter(({ run }) => run === workflowRunId)
      .map((one) => ({
        at: one.at.getTime(),
        who: nameOf(one.who),
        what:
          `${one.verb}: ${one.was ?? "new"} -> ${one.status}, token ${one.token}, ` +
          `held by ${holder(one.worker)}${one.crashes > 0 ? `, ${one.crashes} crashes` : ""}` +
          (one.old_worker !== null && one.worker === null && one.old_lease_ms !== null
            ? `; was held by ${holder(one.old_worker)}, lease ${one.old_lease_ms.toFixed(0)} ms`
            : ""),
      })),
    ...audit.steps
      .filter(({ run }) => run === workflowRunId)
      .map((one) => ({
        at: one.at.getTime(),
        who: nameOf(one.who),
        what: `record ${one.op}: ${one.step} ${one.status ?? ""} under token ${one.token}${one.undo === null ? "" : `, undo ${one.undo}`}`,
      })),
    ...lines
      .filter(({ run }) => run === workflowRunId)
      .map((one) => ({
        at: one.began_at.getTime(),
        who: one.worker,
        what: `${one.what} ${one.step} begins, try ${one.attempt} of attempt ${one.run_attempt}: ${one.nonce}${one.how === null ? "" : ` (${one.how})`}`,
      })),
  ]
  const first = Math.min(...own.map(({ at }) => at)) - 500
  const last = Math.max(...own.map(({ at }) => at)) + 2000
  const workers = new Set(own.map(({ who }) => who))
  const deeds = timeline.deeds.filter(
    ({ at, who, what }) =>
      at >= first &&
      at <= last &&
      (workers.has(who) ||
        who === "suite" ||
        what.includes(workflowRunId) ||
        what.includes(workflowRunId.slice(-6)) ||
        what.includes("server") ||
        [...workers].some((name) => what.split(/[ ,]/).includes(name))),
  )
  return [...own, ...deeds]
}

/** What the run's workflow does, as text. */
export const programOf = (found: Evidence, workflowRunId: string): ReadonlyArray<string> => {
  const name = found.rows().get(workflowRunId)?.workflow
  const workflow = found.program.workflows.find((one) => one.name === name)
  return workflow === undefined ? [] : [`${name}:`, ...printBlock(workflow.block, "  ").split("\n")]
}
