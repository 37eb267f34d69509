/**
 * Servers for the torture suite: of the embedded Postgres, of the programs that the system has, or
 * the one at DATABASE_URL. Those that are ours can be crashed (as `pg_ctl stop -m immediate` does) and
 * come back on the same data and port.
 *
 * `fsync` is off: what is killed here is processes, never the machine.
 */
import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { serverAccount } from "../../src/embedded/account.ts"
import { type Binaries, findBinaries } from "../../src/embedded/binaries.ts"
import { openDataDirectory } from "../../src/embedded/dataDirectory.ts"
import { type RunningServer, startServer } from "../../src/embedded/server.ts"
import { withClient } from "../support/provision.ts"

export type ServerKind = "embedded" | "system" | "given"

export interface Server {
  readonly kind: ServerKind
  /** As superuser. */
  readonly url: string
  /** "18.4" */
  readonly version: string
  /** Whether it is ours to crash and to configure. */
  readonly isOurs: boolean
  /** Ends at once, without a checkpoint; sessions hear nothing of use. */
  readonly crash: () => Promise<void>
  /** Starts it again on its data; recovers first. */
  readonly restart: () => Promise<void>
  readonly stop: () => Promise<void>
}

const settings = {
  max_connections: "200",
  fsync: "off",
  full_page_writes: "off",
  deadlock_timeout: "200ms",
}

/** The newest Postgres that the system has; `null`: none. */
export const systemBinaries = async (): Promise<Binaries | null> => {
  const root = "/usr/lib/postgresql"
  const versions = await fs.readdir(root).catch(() => [])
  for (const version of versions.toSorted((a, b) => Number(b) - Number(a))) {
    const bin = path.join(root, version, "bin")
    const [initdb, postgres, pgCtl] = ["initdb", "postgres", "pg_ctl"].map((name) =>
      path.join(bin, name),
    ) as [string, string, string]
    const isThere = await fs.access(postgres).then(
      () => true,
      () => false,
    )
    if (isThere) return { initdb, postgres, pgCtl, majorVersion: version }
  }
  return null
}

const versionOf = (url: string): Promise<string> =>
  withClient(url, async (client) => {
    const { rows } = await client.query<{ server_version: string }>("show server_version")
    return rows[0]?.server_version.split(" ")[0] ?? "unknown"
  })

const given = async (url: string): Promise<Server> => {
  const notOurs = () =>
    Promise.reject(new Error("the server at DATABASE_URL is not ours to stop or start"))
  const stop = async () => undefined
  const version = await versionOf(url)
  return { kind: "given", url, version, isOurs: false, crash: notOurs, restart: notOurs, stop }
}

/** A server of this kind; `given` needs DATABASE_URL. */
export const openServer = async (
  kind: ServerKind,
  more: Readonly<Record<string, string>> = {},
): Promise<Server> => {
  if (kind === "given") {
    const url = process.env["DATABASE_URL"]
    if (!url) throw new Error("DATABASE_URL is not set")
    return given(url)
  }
  const account = await serverAccount(undefined)
  const binaries = kind === "system" ? await systemBinaries() : await findBinaries(account)
  if (binaries === null) throw new Error("there are no Postgres programs in /usr/lib/postgresql")
  const folder = await fs.mkdtemp(path.join(tmpdir(), "flowly-torture-"))
  await fs.chmod(folder, 0o755)
  const dataDir = path.join(folder, "data")
  const data = await openDataDirectory({ dataDir, binaries, account, durable: false })
  let port: number | undefined
  const start = (): Promise<RunningServer> =>
    startServer({ binaries, account, data, port, settings: { ...settings, ...more } })
  let running: RunningServer | null = await start()
  port = running.port
  const url = `postgresql://postgres:${data.password}@127.0.0.1:${port}/postgres`
  const end = async () => {
    await running?.stop()
    running = null
  }
  return {
    kind,
    url,
    version: await versionOf(url),
    isOurs: true,
    crash: async () => {
      if (running !== null) process.kill(running.pid, "SIGQUIT")
      await end()
    },
    restart: async () => {
      running ??= await start()
    },
    stop: async () => {
      await end()
      await fs.rm(folder, { recursive: true, force: true })
    },
  }
}
