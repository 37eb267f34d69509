/**
 * Transactional steps in the promise API: who is handed which client.
 *
 * - An engine on a `pool` hands out the pool's own client: a real `pg.PoolClient`, which any query
 *   builder for `pg` takes. It is released by the engine.
 * - An engine on a `url` hands out a client of the same shape over a connection of its own (values as
 *   its driver gives them: an int8 is a `bigint`).
 * - `MemoryWorkflowStore` hands out the client that it was made with, and nothing is rolled back.
 */
import * as Effect from "effect/Effect"
import { Engine } from "../Engine.ts"
import type { InvalidInput, TransactionUnsupported } from "../FlowlyError.ts"
import type { Isolation } from "../WorkflowStore.ts"
import type { StepOptions, TryInfo } from "./step.ts"
import { invalid } from "./FlowlyError.ts"

/**
 * The part of a `pg` client that both kinds of engine hand out. Where the engine has a pool, give the
 * parameter its type: `(client: pg.PoolClient) => …`.
 */
export interface TransactionClient {
  readonly query: (
    query: string | { readonly text: string; readonly values?: ReadonlyArray<unknown> },
    values?: ReadonlyArray<unknown>,
  ) => Promise<{ readonly rows: ReadonlyArray<any>; readonly rowCount: number | null }>
}

/**
 * How a transactional step is run. `timeoutMs` rolls back; `compensate` is not in the transaction.
 */
export interface TransactionOptions<T> extends Omit<StepOptions<T>, "run"> {
  /** Default: the database's, which is "read committed" unless it was changed. */
  readonly isolation?: "read committed" | "repeatable read" | "serializable" | undefined
}

/**
 * Runs a function in a transaction that records the step too. BEGIN and COMMIT are the engine's. A
 * serialization failure or a deadlock runs the function again.
 */
export interface TransactionStep {
  <T, C = TransactionClient>(
    name: string,
    run: (client: C, info: TryInfo) => Promise<T> | T,
    options?: TransactionOptions<T>,
  ): Promise<T>
}

/**
 * A client on which the application has opened a transaction of the engine's database: a `pg` client
 * that was sent BEGIN, the `tx` of Drizzle's `db.transaction` (node-postgres), the `trx` of Kysely's
 * `db.transaction()`.
 */
export type CallersClient =
  | { readonly query: (...args: Array<any>) => any }
  | { readonly execute: (...args: Array<any>) => any; readonly rollback: () => never }
  | { readonly executeQuery: (...args: Array<any>) => any; readonly isTransaction: true }

/**
 * The effect in the caller's transaction, where there is one.
 */
export const within = <A, E>(
  client: CallersClient | undefined,
  effect: Effect.Effect<A, E, Engine>,
): Effect.Effect<A, E | InvalidInput | TransactionUnsupported, Engine> =>
  client === undefined ? effect : Effect.flatMap(Engine, (engine) => engine.within(client)(effect))

/**
 * The function, and how its transaction begins.
 */
export interface TransactionBody<T> {
  readonly run: (client: any, info: TryInfo) => Promise<T> | T
  readonly isolation: Isolation | null
}

/**
 * Throws unless the isolation is a level of Postgres.
 */
export const transactionOf = <T>(
  run: TransactionBody<T>["run"],
  options: TransactionOptions<T> | undefined,
): TransactionBody<T> => {
  const isolation = options?.isolation
  if (isolation !== undefined && !levels.has(isolation)) {
    throw invalid("isolation", `must be ${[...levels].map((one) => `"${one}"`).join(" or ")}`)
  }
  return { run, isolation: isolation ?? null }
}

const levels: ReadonlySet<Isolation> = new Set([
  "read committed",
  "repeatable read",
  "serializable",
])
