/** Starts the server for the `integration` project, says which it is, and stops it at the end. */
import type { TestProject } from "vitest/node"
import { dropLeftovers } from "./provision.ts"
import { startTestServer } from "./server.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** A server where databases may be created. Tests use `createDatabase`. */
    readonly postgresUrl: string
    /** The runner's process: part of the names of the databases made for this test run. */
    readonly testRun: number
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startTestServer()
  console.log(`Postgres for the tests: ${server.description}`)
  project.provide("postgresUrl", server.url)
  project.provide("testRun", process.pid)
  return async () => {
    await dropLeftovers(server.url, process.pid)
    await server.stop()
  }
}
