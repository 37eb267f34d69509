/**
 * A worker process that plays a cast (`FLOWLY_CAST`), set up as those of `test/processes`. Each SIGTERM
 * asks its engine to stop; it tells when it has, stays a moment to be watched, and ends by itself.
 */
import { DurableEngine } from "../../src/index.ts"
import type { Call, FromWorker, ProcessConfig } from "../processes/harness.ts"
import { openWitness } from "../processes/witness.ts"
import { makeWorkflows } from "../processes/workflows.ts"
import { castOf } from "./casts.ts"

const config = JSON.parse(process.env["FLOWLY_PROCESS"] ?? "{}") as ProcessConfig
const cast = process.env["FLOWLY_CAST"] ?? "processes"
const lingerMs = 400

const tell = (message: FromWorker) => {
  if (process.connected) process.send?.(message, () => undefined)
}
const pass = async (point: string, run: string): Promise<void> => {
  tell({ type: "passed", point, run })
  if (config.haltAt === point) await new Promise<never>(() => undefined)
}

const witness = openWitness(config.witnessUrl ?? config.url)
const log = (level: string) => (message: unknown) =>
  tell({ type: "log", level, message: String(message) })
const engine = new DurableEngine({
  url: config.url,
  schema: config.schema,
  prepare: process.env["FLOWLY_PREPARE"] !== "no",
  workflows:
    cast === "processes" ? Object.values(makeWorkflows({ witness, pass })) : castOf(cast, witness),
  worker: { ...config.worker, workerId: `pid ${process.pid}` },
  logger: { debug: () => undefined, info: log("info"), warn: log("warn"), error: log("error") },
})

const end = async () => {
  await new Promise((resolve) => setTimeout(resolve, lingerMs))
  await witness.close()
  if (process.connected) process.disconnect()
}

let ending: Promise<void> | undefined
process.on("SIGTERM", () => {
  void (async () => {
    await engine.stop()
    tell({ type: "passed", point: "stopped", run: "" })
    ending ??= end()
    await ending
  })()
})
process.on("message", ({ id, method }: Call) => {
  void (async () => {
    try {
      if (method === "start") await engine.start()
      tell({ type: "answer", id, ok: true, value: undefined })
    } catch (error) {
      const { code, message } = error as { readonly code?: string; readonly message?: string }
      tell({ type: "answer", id, ok: false, value: { code, message } })
    }
  })()
})
process.once("disconnect", () => {
  if (ending === undefined) process.exit(0)
})
tell({ type: "ready" })
