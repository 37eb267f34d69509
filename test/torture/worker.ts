/**
 * A worker process of the torture suite: an engine on a program, told what to do by its parent. It
 * ends by itself once its engine has stopped and its parent has let go.
 */
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { flushCompileCache } from "node:module"
import { getHeapStatistics } from "node:v8"
import pg from "pg"
import { DurableEngine, type DurableEngineOptions } from "../../src/index.ts"
import type { Program } from "../simulation/program.ts"
import { workflowsOf } from "./body.ts"
import { blindWitness, openWitness } from "./witness.ts"

/** How a worker process is set up. */
export interface WorkerConfig {
  readonly name: string
  /** For the engine: through the proxy, with a role of its own. */
  readonly url: string
  /** `null`: nobody watches. */
  readonly witnessUrl: string | null
  readonly driver: "url" | "pool"
  /** A file with the workload. */
  readonly workload: string
  readonly worker: NonNullable<DurableEngineOptions["worker"]>
}

export type ToWorker = { readonly type: "start" | "close" | "vitals" }

export interface Vitals {
  readonly rssMb: number
  readonly heapMb: number
  readonly handles: number
  readonly contexts: number
  /** What RSS is made of, in MB; native is malloc's, and pages that V8 gave up and keeps. */
  readonly parts: Readonly<Record<"heap pages" | "external" | "files" | "native", number>>
}

export type FromWorker =
  | { readonly type: "loaded" | "started" }
  | { readonly type: "failed"; readonly what: string; readonly message: string }
  | { readonly type: "log"; readonly text: string }
  | { readonly type: "vitals"; readonly vitals: Vitals }

const config = JSON.parse(process.env["FLOWLY_TORTURE"] ?? "{}") as WorkerConfig
const tell = (message: FromWorker) => {
  if (process.connected) process.send?.(message, () => undefined)
}

const witness =
  config.witnessUrl === null
    ? blindWitness(config.name)
    : openWitness(config.witnessUrl, config.name)
const workload = JSON.parse(readFileSync(config.workload, "utf8")) as Program
const pool =
  config.driver === "pool"
    ? new pg.Pool({ connectionString: config.url, max: 8, application_name: "flowly-pool" })
    : undefined
pool?.on("error", () => undefined)
const log = (message: unknown, ...more: ReadonlyArray<unknown>) =>
  tell({ type: "log", text: [message, ...more].map(String).join(" ").slice(0, 400) })
const engine = new DurableEngine({
  ...(pool === undefined ? { url: config.url } : { pool }),
  workflows: workflowsOf(workload, witness),
  worker: { ...config.worker, workerId: config.name },
  logger: { debug: () => undefined, info: log, warn: log, error: log },
})
const before = createHash("sha256").update(Object.getOwnPropertyNames(Object.prototype).join())

const start = async () => {
  for (;;) {
    try {
      await engine.start()
      // for those that come after: who is killed writes nothing at its end
      setTimeout(() => flushCompileCache(), 2000).unref()
      return tell({ type: "started" })
    } catch (error) {
      // a supervisor of processes would start it again
      tell({ type: "failed", what: "start", message: String(error) })
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

const close = async () => {
  await engine.stop()
  await pool?.end()
  await witness.close()
  const after = createHash("sha256").update(Object.getOwnPropertyNames(Object.prototype).join())
  if (before.digest("hex") !== after.digest("hex")) {
    tell({ type: "failed", what: "I18", message: "Object.prototype was changed" })
  }
  if (process.connected) process.disconnect()
}

/** Pages of files, code above all; where the kernel does not tell they are counted as native. */
const fileBytes = (): number => {
  try {
    const kilobytes = /^RssFile:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]
    return Number(kilobytes ?? 0) * 1024
  } catch {
    return 0
  }
}

const vitalsOf = (): Vitals => {
  const { rss, heapUsed, external } = process.memoryUsage()
  const files = fileBytes()
  // of its pages the heap has not yet touched all
  const { total_physical_size: touched, number_of_native_contexts: contexts } = getHeapStatistics()
  const mb = (bytes: number) => Math.round(bytes / 2 ** 18) / 4
  return {
    rssMb: mb(rss),
    heapMb: mb(heapUsed),
    handles: process.getActiveResourcesInfo().length,
    contexts,
    parts: {
      "heap pages": mb(touched),
      // buffers among them
      external: mb(external),
      files: mb(files),
      native: mb(rss - touched - external - files),
    },
  }
}

process.on("message", ({ type }: ToWorker) => {
  if (type === "start") void start()
  if (type === "close") {
    close().catch((error: unknown) => {
      tell({ type: "failed", what: "close", message: String(error) })
    })
  }
  if (type === "vitals") {
    // what is left behind a collection is what is kept
    globalThis.gc?.()
    tell({ type: "vitals", vitals: vitalsOf() })
  }
})
// a parent that died must not leave us behind
process.once("disconnect", () => {
  if (process.exitCode === undefined) setTimeout(() => process.exit(3), 20_000).unref()
})
tell({ type: "loaded" })
