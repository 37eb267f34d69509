/**
 * Transactions that reach past one verb: those that a store opens for a step, and those that the
 * application opened.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Hint, StoreError } from "../WorkflowStore.ts"

/**
 * @category models
 * @since 0.1.0
 */
export type Isolation = "read committed" | "repeatable read" | "serializable"

/**
 * A transaction that the store opened for a step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transaction {
  /** The `pg.PoolClient`, where the store borrows from a `pg.Pool`; else one of the same shape. */
  readonly client: unknown
  /** The client whose statements on this fiber are a part of the transaction. */
  readonly sql: SqlClient | null
  /** Whether an error of the step's code is a fault of the moment, in the database or on the way. */
  readonly faultOf: (error: unknown) => "serialization" | "unavailable" | null
}

/**
 * A transaction that the application opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallersTransaction {
  /**
   * Gives hints when, and only if, it commits: `then` is called in this process where the store
   * learns of the commit; else the hints go to all processes as a part of the transaction.
   */
  readonly afterCommit: (
    hints: ReadonlyArray<Hint>,
    then: () => void,
  ) => Effect.Effect<void, StoreError>
}

/**
 * Runs effects inside a transaction of the application: `callersTransaction` is that one then.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinedTransaction {
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}
