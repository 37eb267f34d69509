/** What a test file asks for: a fresh database of its own, so that files can run at once. */
import { inject } from "vitest"
import { createDatabaseOn, type TestDatabase } from "./provision.ts"

export { type TestDatabase, withClient } from "./provision.ts"

/** A fresh database on the server that the test run chose. */
export function createDatabase(): Promise<TestDatabase> {
  return createDatabaseOn(inject("postgresUrl"), inject("testRun"))
}
