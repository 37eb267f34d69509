/** Builds and packs flowly as it would be published, into a temporary folder. */
import { execFileSync, type ExecFileSyncOptions } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"

export const root = path.resolve(import.meta.dirname, "../..")

export interface Packed {
  /** A temporary folder, for the caller to use as well. */
  readonly folder: string
  readonly tarball: string
  /** The paths in the package. */
  readonly files: ReadonlyArray<string>
}

/** Hands the package to `use`, and removes it. An error is printed and is the exit code. */
export function withPackage(use: (packed: Packed) => void): void {
  const folder = mkdtempSync(path.join(tmpdir(), "flowly-package-"))
  try {
    use(pack(folder))
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function pack(folder: string): Packed {
  run("npm", ["run", "--silent", "build"], { cwd: root })
  const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder]
  // One object per package: npm 11 prints a list, npm 12 a record.
  const answer: ReadonlyArray<Answer> = Object.values(JSON.parse(run("npm", args, { cwd: root })))
  const [packed] = answer
  if (packed === undefined) throw new Error("npm pack answered with no package")
  const files = packed.files.map((file) => file.path)
  return { folder, tarball: path.join(folder, packed.filename), files }
}

interface Answer {
  readonly filename: string
  readonly files: ReadonlyArray<{ readonly path: string }>
}

/** Runs a program and answers what it prints. Where it fails, what it said is the error. */
export function run(file: string, args: ReadonlyArray<string>, options: ExecFileSyncOptions = {}) {
  try {
    const stdio = ["ignore", "pipe", "pipe"] as const
    return execFileSync(file, args, { ...options, stdio: [...stdio], encoding: "utf8" })
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string }
    const said = `${stdout}\n${stderr}`.trim()
    throw new Error(`${file} ${args.join(" ")} failed:\n${said}`, { cause: error })
  }
}

/** A version out of the lock file, so that what is installed here is what was tested. */
export function lockedVersion(name: string): string {
  const lock: { packages: Record<string, { version: string }> } = JSON.parse(
    readFileSync(path.join(root, "package-lock.json"), "utf8"),
  )
  const version = lock.packages[`node_modules/${name}`]?.version
  if (version === undefined) throw new Error(`${name} is not in the lock file`)
  return version
}
