/**
 * The migrations, in order. Numbers are contiguous from 1; a released one is never edited.
 *
 * @since 0.1.0
 */
import type { Names } from "../names.ts"
import * as m0001 from "./0001_tables.ts"

/** One numbered step of the schema: statements that run in one transaction, one per call. */
export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: (names: Names) => ReadonlyArray<string>
}

export const migrations: ReadonlyArray<Migration> = [m0001]

/** The version that this library needs, and the newest that it knows. */
export const currentVersion: number = migrations.length
