/**
 * A worker process of the tests: an engine, told what to do by its parent. Its configuration comes
 * in the environment. Nothing here ends the process: once its engine has stopped and its parent has
 * let go, it has to end by itself.
 */
import pg from "pg"
import { DurableEngine } from "../../src/index.ts"
import type { Call, FromWorker, ProcessConfig } from "./harness.ts"
import { openWitness } from "./witness.ts"
import { makeWorkflows, type OrderInput } from "./workflows.ts"

const config = JSON.parse(process.env["FLOWLY_PROCESS"] ?? "{}") as ProcessConfig
const tell = (message: FromWorker) => {
  if (process.connected) process.send?.(message, () => undefined)
}

const passSync = (point: string, run: string): void => {
  if (config.dieAt === point) process.kill(process.pid, "SIGKILL")
  if (!config.quiet) tell({ type: "passed", point, run })
}
const pass = (point: string, run: string): Promise<void> => {
  passSync(point, run)
  const stands = config.dieAt === point || config.haltAt === point
  return stands ? new Promise<never>(() => undefined) : Promise.resolve()
}

const witness = openWitness(config.witnessUrl ?? config.url)
const workflows = makeWorkflows({ witness, pass })
const known = Object.values(workflows).filter(
  ({ name }) => config.workflows === undefined || config.workflows.includes(name),
)
const pool =
  config.driver === "pool"
    ? new pg.Pool({ connectionString: config.url, max: 8, application_name: "flowly-pool" })
    : undefined
const engine = new DurableEngine({
  ...(pool === undefined ? { url: config.url } : { pool }),
  schema: config.schema,
  workflows: known,
  worker: config.worker ?? {},
  logger: {
    debug: () => undefined,
    info: (message: unknown) => tell({ type: "log", level: "info", message: String(message) }),
    warn: (message: unknown) => tell({ type: "log", level: "warn", message: String(message) }),
    error: (message: unknown) => tell({ type: "log", level: "error", message: String(message) }),
  },
})
engine.hook("step:completed", ({ step, workflowRunId }) => {
  passSync(`completed ${step}`, workflowRunId)
})
for (const name of ["workflow:completed", "workflow:failed", "workflow:compensated"] as const) {
  engine.hook(name, ({ workflow, workflowRunId }) => passSync(`settled ${workflow}`, workflowRunId))
}

const close = async () => {
  await engine.stop()
  await pool?.end()
  await witness.close()
  if (process.connected) process.disconnect()
}

const answer = async ({ method, args }: Call): Promise<unknown> => {
  switch (method) {
    case "start":
      return engine.start()
    case "stop":
      return engine.stop()
    case "stop twice":
      return Promise.all([engine.stop(), engine.stop()])
    case "migrate":
      return engine.migrate()
    case "health":
      return engine.healthCheck()
    case "schedule": {
      const { nextRun } = await engine.schedule(workflows.ticking, { cron: String(args[0]) })
      return nextRun.getTime()
    }
    case "trigger order": {
      const input = args[0] as OrderInput
      return (await engine.trigger(workflows.order, { input })).workflowRunId
    }
    case "trigger flaky":
      return (await engine.trigger(workflows.flaky)).workflowRunId
    case "close":
      return undefined
  }
}

const reply = async (call: Call) => {
  const { id } = call
  try {
    tell({ type: "answer", id, ok: true, value: await answer(call) })
  } catch (error) {
    const { code, message } = error as { readonly code?: string; readonly message?: string }
    tell({ type: "answer", id, ok: false, value: { code, message } })
  }
  if (call.method === "close") await close()
}

process.on("message", (call: Call) => {
  void reply(call)
})
// as an application would
process.once("SIGTERM", () => void close())
// a parent that died must not leave us behind
process.once("disconnect", () => {
  if (!config.outlives) process.exit(0)
})
tell({ type: "ready" })
if (config.startNow) await engine.start()
