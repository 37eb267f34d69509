/**
 * What a data directory says about the server on it, through Postgres' own files: `postmaster.pid`
 * (its process, port and state, there while it runs) and `postmaster.opts` (its command line).
 *
 * Gotcha: after a kill, `postmaster.pid` stays, and its process id may since belong to another
 * program (in containers it usually does). Postgres then refuses to start, so we look who it is.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { systemCode } from "./errors.ts"

/** A running server. */
export interface Postmaster {
  readonly pid: number
  readonly port: number
  /** It accepts connections (or will, after recovery, when this is false). */
  readonly ready: boolean
  /** The process that started it, where flowly did. */
  readonly owner: number | undefined
}

/** The setting by which a server tells which process started it (`show flowly.owner`). */
export const OWNER_SETTING = "flowly.owner"

/** The server that runs on the cluster. Removes the pid file of one that does not run. */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const file = path.join(cluster, "postmaster.pid")
  const lines = (await readIfThere(file))?.split("\n")
  if (lines === undefined) return undefined
  const pid = Math.abs(Number(lines[0]))
  if (!Number.isInteger(pid) || pid === 0) return undefined // being written
  if (!isAlive(pid)) return undefined // Postgres removes such a file itself
  if (!(await isServerOf(pid, cluster))) {
    await fs.rm(file, { force: true })
    return undefined
  }
  const ready = lines[7]?.trim() === "ready"
  return { pid, port: Number(lines[3]), ready, owner: (await lastStart(cluster)).owner }
}

/** Port and owner of the last start. */
export async function lastStart(
  cluster: string,
): Promise<{ readonly port: number | undefined; readonly owner: number | undefined }> {
  const line = (await readIfThere(path.join(cluster, "postmaster.opts"))) ?? ""
  const number = (name: string) => {
    const match = new RegExp(`"${name.replace(".", "\\.")}=(\\d+)"`).exec(line)
    return match === null ? undefined : Number(match[1])
  }
  return { port: number("port"), owner: number(OWNER_SETTING) }
}

/** True when the process exists, whoever owns it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return systemCode(error) === "EPERM"
  }
}

/** True unless the process is certainly something else than the server on this cluster. */
async function isServerOf(pid: number, cluster: string): Promise<boolean> {
  if (process.platform === "win32") return true
  // A killed process that nobody has waited for yet has an empty command line.
  const line =
    process.platform === "linux"
      ? await readIfThere(`/proc/${pid}/cmdline`).catch(() => undefined)
      : await commandLine(pid)
  return line === undefined ? isAlive(pid) : line.includes(cluster)
}

function commandLine(pid: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile("ps", ["-ww", "-o", "command=", "-p", String(pid)], (error, stdout) => {
      resolve(error === null ? stdout : undefined)
    })
  })
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await fs.readFile(file, "utf8")
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined
    throw error
  }
}
