/**
 * Programs that the system may have, beside the servers: found, started as the account that runs
 * Postgres, and ended with the scenario. Where one is not there the scenario says so, and is skipped.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as net from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { serverAccount } from "../../src/embedded/account.ts"

/** The first of these files that is there. */
export const findProgram = async (
  candidates: ReadonlyArray<string | undefined>,
): Promise<string | null> => {
  for (const candidate of candidates) {
    if (candidate === undefined || candidate === "") continue
    const isThere = await fs.access(candidate, fs.constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isThere) return candidate
  }
  return null
}

export interface Program {
  readonly child: ChildProcess
  /** What it said last. */
  readonly said: () => string
  readonly exited: Promise<number | null>
}

/** As the account that runs servers: Postgres and PgBouncer refuse to run as root. */
export const startProgram = async (
  file: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
): Promise<Program> => {
  const account = await serverAccount(undefined)
  const child = spawn(file, [...args], {
    cwd: tmpdir(),
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid }),
  })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000)
    })
  }
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once("exit", (code) => resolve(code))
    child.once("error", reject)
  })
  return { child, said: () => said, exited }
}

/** A folder that belongs to the account that runs servers. */
export const ownFolder = async (): Promise<string> => {
  const account = await serverAccount(undefined)
  const folder = await fs.mkdtemp(path.join(tmpdir(), "flowly-torture-"))
  if (account !== undefined) await fs.chown(folder, account.uid, account.gid)
  return folder
}

export const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })

/** One address, behind which the server changes. */
export interface Switch {
  readonly port: number
  /** From now on connections lead there; `null`: nowhere. What is open ends. */
  readonly lead: (port: number | null) => void
  readonly close: () => Promise<void>
}

export const openSwitch = async (): Promise<Switch> => {
  let target: number | null = null
  const sockets = new Set<net.Socket>()
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  const server = net.createServer((near) => {
    near.on("error", () => undefined)
    if (target === null) {
      near.destroy()
      return
    }
    const far = net.connect(target, "127.0.0.1")
    far.on("error", () => undefined)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on("close", () => {
        sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far)
    far.pipe(near)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    port: (server.address() as net.AddressInfo).port,
    lead: (port) => {
      target = port
      cut()
    },
    close: () => {
      cut()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** Waits until it holds; throws what it is about if it does not. */
export const eventually = async (
  what: string,
  holds: () => Promise<boolean>,
  milliseconds = 60_000,
): Promise<void> => {
  const deadline = performance.now() + milliseconds
  while (!(await holds().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
