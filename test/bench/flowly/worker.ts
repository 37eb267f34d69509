/** The engine as a worker, as an application starts it. */
import pg from "pg"
import {
  DurableEngine,
  type DurableEngineOptions,
  type HookName,
  type WorkflowDefinition,
} from "../../../src/index.ts"
import { aes } from "../../codec/aes.ts"
import type { Meter, Working } from "../process/meter.ts"
import { enteredSteps, type Input, workflows } from "./workflows.ts"

/** How the engine reaches its database. */
export type Driver = "url" | "pool"

export interface FlowlyJob {
  readonly kind: "flowly"
  readonly driver: Driver
  readonly url: string
  /** The name of one of `workflows.ts`. */
  readonly workflow: string
  readonly concurrency: number
  /** Listen to every hook there is, and do nothing. */
  readonly hooks?: boolean
  /** What the runs write is encrypted. */
  readonly encrypted?: boolean
  /** Count the beginnings of steps that wait, not the ends of runs. */
  readonly entered?: boolean
  readonly shutdownTimeoutMs?: number
}

/** An engine on the database, and how to end it with all of its connections. */
export const openEngine = (
  driver: Driver,
  url: string,
  worker?: DurableEngineOptions["worker"],
  registered: DurableEngineOptions["workflows"] = workflows,
  payloadCodecs?: DurableEngineOptions["payloadCodecs"],
) => {
  const pool = driver === "pool" ? new pg.Pool({ connectionString: url, max: 10 }) : null
  const engine = new DurableEngine({
    workflows: registered,
    worker,
    payloadCodecs,
    ...(pool ? { pool } : { url }),
  })
  let closed = false
  pool?.on("error", (error) => {
    // its database may be dropped before the server has heard of the end of its last session
    if (!closed) throw error
  })
  return {
    engine,
    close: async () => {
      await engine.stop()
      closed = true
      await pool?.end()
    },
  }
}

const hookNames: ReadonlyArray<HookName> = [
  "workflow:started",
  "workflow:failed",
  "workflow:compensated",
  "step:started",
  "step:completed",
  "step:failed",
]

/** A process of one application: it knows the workflow of its case. */
export const flowlyWorker = async (job: FlowlyJob, meter: Meter): Promise<Working> => {
  const { driver, url, concurrency, shutdownTimeoutMs } = job
  const { engine, close } = openEngine(
    driver,
    url,
    { maxConcurrent: concurrency, shutdownTimeoutMs },
    workflows.filter(({ name }) => name === job.workflow),
    job.encrypted ? { write: aes("bench") } : undefined,
  )
  if (job.entered) enteredSteps.listener = meter.done
  else engine.hook("workflow:completed", meter.done)
  engine.hook("workflow:failed", (event) => meter.fail(new Error(JSON.stringify(event))))
  if (job.hooks) for (const name of hookNames) engine.hook(name, () => undefined)
  return { start: () => engine.start(), close }
}

/** Creates the tables and enqueues runs of a workflow, as a process without a worker does. */
export const enqueue = async <O>(
  url: string,
  workflow: WorkflowDefinition<Input, O>,
  runs: number,
): Promise<void> => {
  await migrate(url)
  const { engine, close } = openEngine("url", url)
  for (let from = 0; from < runs; from += 1000) {
    const some = Array.from({ length: Math.min(1000, runs - from) }, (_, at) => from + at)
    await Promise.all(some.map((n) => engine.trigger(workflow, { input: { n } })))
  }
  await close()
}

/** Creates the tables. */
export const migrate = async (url: string): Promise<void> => {
  const { engine, close } = openEngine("url", url)
  await engine.migrate()
  await close()
}
