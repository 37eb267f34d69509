/**
 * How an engine is set up, and what is wrong with a setup, told at construction.
 */
import * as Result from "effect/Result"
import { checkLimits } from "../engine/limits.ts"
import { makeCoding } from "../codec/coding.ts"
import type { PayloadCodecs } from "../PayloadCodec.ts"
import type { PgPoolLike } from "../PostgresStore.ts"
import { defaultSchema, makeNames } from "../postgres/names.ts"
import type { Redact } from "../Redaction.ts"
import { checkOptions as checkWorkerOptions } from "../worker/options.ts"
import { checkErrorClasses, type ErrorClass } from "./errorClasses.ts"
import { invalid, orThrow } from "./FlowlyError.ts"
import { checkKnown, type Names } from "./knownOptions.ts"
import type { Logger } from "./logger.ts"
import type { AnyWorkflow } from "./workflow.ts"

/**
 * What is used of a `pg.Pool`.
 */
export type PoolLike = PgPoolLike

/**
 * How an engine is set up. One of `pool` and `url`, unless `setStore` is called.
 */
export interface DurableEngineOptions {
  /** A `pg.Pool` of the application; never ended by the engine. */
  readonly pool?: PoolLike | undefined
  /** A connection string; the engine opens its own connections. */
  readonly url?: string | undefined
  readonly workflows: ReadonlyArray<AnyWorkflow>
  /** The schema of the tables. Default "durable_workflow". */
  readonly schema?: string | undefined
  /**
   * `false` behind a pooler in transaction mode that cannot keep prepared statements (PgBouncer
   * before 1.21). Default true.
   */
  readonly prepare?: boolean | undefined
  readonly worker?:
    | {
        /** Between two polls, when nothing tells of work. Default 1000. */
        readonly pollIntervalMs?: number | undefined
        /** Runs that execute at once. Default 5. */
        readonly maxConcurrent?: number | undefined
        /** How long claims hold when this process dies. Default 30000, at least 1000. */
        readonly leaseMs?: number | undefined
        /** A label for logs. */
        readonly workerId?: string | undefined
        /** How long `stop` lets steps finish. Default 30000. */
        readonly shutdownTimeoutMs?: number | undefined
        /**
         * LISTEN on a connection of its own: for work while this engine is started, else for what
         * `result()` and `on` wait for (where the pool has at least four). Default true.
         */
        readonly useNotify?: boolean | undefined
        /** Crashes without progress after which a run is dead-lettered. Default 5. */
        readonly maxCrashes?: number | undefined
      }
    | undefined
  readonly logger?: Logger | undefined
  /**
   * Classes of errors that come back as themselves, by name: `instanceof` works in workflows, for
   * the cause of `result()`, in `getStatus`. They are rebuilt without their constructor, or by
   * their static `fromStored(error)`. Other errors come back as `Error`.
   */
  readonly errors?: ReadonlyArray<ErrorClass> | undefined
  /**
   * Takes out of errors of your code what must not be kept: is given each text of an error, and where
   * it stood (`message`, `stack`, `details.card`), and answers what is stored, logged and caught.
   * Default: nothing is taken out.
   */
  readonly redactErrors?: Redact | undefined
  /**
   * What is done to values before they are stored, and undone when they are read: encryption,
   * compression. `write` names each value that it writes; `read` are earlier ones. Inputs, results,
   * events, heartbeats and errors; not names, keys, attributes, status texts and reasons.
   */
  readonly payloadCodecs?: PayloadCodecs | undefined
  readonly limits?:
    | {
        /** Events that wait in one run, taken by no wait. Default 10,000. */
        readonly maxPendingEvents?: number | undefined
        /**
         * The least between two ticks of a schedule, in milliseconds, asked for when it is created.
         * Default 1000.
         */
        readonly minTickDistanceMs?: number | undefined
      }
    | undefined
  /**
   * Tells, once for each place, of what a workflow calls outside a step although replay would call
   * it again: `Date.now`, `new Date()`, `Math.random`, `crypto.randomUUID`, timers, `fetch`. With
   * "throw", the call throws. Default: whether NODE_ENV is "development".
   */
  readonly development?: boolean | "throw" | undefined
}

/**
 * The option, or what the environment says.
 */
export const isDevelopment = (options: DurableEngineOptions): boolean | "throw" =>
  options.development ?? process.env["NODE_ENV"] === "development"

/**
 * Throws what is wrong with the options.
 */
export const checkOptions = (options: DurableEngineOptions): void => {
  if (typeof options !== "object" || options === null) throw invalid("options", "must be an object")
  const { pool, url, workflows, schema, worker, development } = options
  if (!Array.isArray(workflows)) {
    throw invalid("workflows", "must be an array of what defineWorkflow returns")
  }
  for (const workflow of workflows as ReadonlyArray<unknown>) checkWorkflow(workflow, "workflows")
  if (pool !== undefined && url !== undefined) {
    throw invalid("pool", "give either a pool or a url, not both")
  }
  if (pool !== undefined && typeof pool?.connect !== "function") {
    throw invalid("pool", "must be a pg.Pool")
  }
  if (url !== undefined && !isUrl(url)) {
    throw invalid("url", 'must be a connection string, like "postgres://user@host:5432/database"')
  }
  if (development !== undefined && typeof development !== "boolean" && development !== "throw") {
    throw invalid("development", 'must be true, false or "throw"')
  }
  checkErrorClasses(options.errors)
  if (options.redactErrors !== undefined && typeof options.redactErrors !== "function") {
    throw invalid("redactErrors", "must be a function of a text and where it stood")
  }
  if (options.payloadCodecs !== undefined) checkCodecs(options.payloadCodecs)
  orThrow(checkLimits(options.limits))
  checkLogger(options.logger)
  if (options.prepare !== undefined && typeof options.prepare !== "boolean") {
    throw invalid("prepare", "must be true or false")
  }
  orThrow(makeNames(schema === undefined ? defaultSchema : schema))
  orThrow(Result.map(checkWorkerOptions(worker === undefined ? {} : worker), () => undefined))
  checkKnown(options, engineNames, (name) => name)
  checkKnown(worker, workerNames, (name) => `worker.${name}`)
  checkKnown(options.payloadCodecs, codecNames, (name) => `payloadCodecs.${name}`)
}

const engineNames: Names<DurableEngineOptions> = {
  pool: true,
  url: true,
  workflows: true,
  schema: true,
  prepare: true,
  worker: true,
  logger: true,
  errors: true,
  redactErrors: true,
  payloadCodecs: true,
  limits: true,
  development: true,
}

const workerNames: Names<NonNullable<DurableEngineOptions["worker"]>> & { limits: true } = {
  // of executions: for tests
  limits: true,
  pollIntervalMs: true,
  maxConcurrent: true,
  leaseMs: true,
  workerId: true,
  shutdownTimeoutMs: true,
  useNotify: true,
  maxCrashes: true,
}

const codecNames: Names<PayloadCodecs> = { write: true, read: true }

const checkCodecs = (codecs: PayloadCodecs): void => {
  if (typeof codecs !== "object" || codecs === null || !Array.isArray(codecs.read ?? [])) {
    throw invalid("payloadCodecs", "must be { write?: codec, read?: [codec, …] }")
  }
  orThrow(makeCoding(codecs))
}

const checkLogger = (logger: unknown): void => {
  if (logger === undefined) return
  for (const level of ["debug", "info", "warn", "error"]) {
    if (typeof (logger as Record<string, unknown> | null)?.[level] !== "function") {
      throw invalid("logger", `must have a function ${level}(message)`)
    }
  }
}

/**
 * Throws unless the value is a definition.
 */
export const checkWorkflow = (value: unknown, field: string): void => {
  const { name, run } = (value ?? {}) as Partial<AnyWorkflow>
  if (typeof name !== "string" || typeof run !== "function") {
    throw invalid(field, "must be what defineWorkflow returns")
  }
}

const isUrl = (url: unknown): boolean =>
  typeof url === "string" && /^postgres(ql)?:$/.test(URL.parse(url)?.protocol ?? "")
