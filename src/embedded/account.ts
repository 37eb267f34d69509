/**
 * The operating-system account that runs the server. Postgres refuses to run as root, so a root
 * process (a container, a CI job) hands it to `postgres` or `nobody`; anybody else runs it as
 * themselves (`undefined` here). What that account may read is computed from owner and mode.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { EmbeddedPostgresError } from "./errors.ts"

/** Another account than our own. */
export interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

/**
 * The account to use when we are root, `undefined` when our own will do. A cluster that another
 * account made stays that account's: `sudo` once must not lock its owner out.
 */
export async function serverAccount(dataDir: string | undefined): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  if (dataDir !== undefined) {
    const made = await fs.stat(path.resolve(dataDir, "cluster")).catch(() => undefined)
    if (made !== undefined && made.uid > 0) {
      return { name: `with uid ${made.uid}`, uid: made.uid, gid: made.gid }
    }
  }
  const passwd = await fs.readFile("/etc/passwd", "utf8").catch(() => "")
  for (const name of ["postgres", "nobody"]) {
    const account = findAccount(passwd, name)
    if (account !== undefined) return account
  }
  throw new EmbeddedPostgresError({
    reason: "NoAccount",
    detail:
      `Postgres refuses to run as root, and /etc/passwd has neither "postgres" nor "nobody" ` +
      `to run it: run as another user, or add one of these`,
  })
}

/** Reads one line of a passwd file; an account that is root itself does not count. */
export function findAccount(passwd: string, name: string): Account | undefined {
  for (const line of passwd.split("\n")) {
    const fields = line.split(":")
    if (fields[0] !== name) continue
    const [uid, gid] = [Number(fields[2]), Number(fields[3])]
    if (Number.isInteger(uid) && Number.isInteger(gid) && uid > 0) return { name, uid, gid }
  }
  return undefined
}

/** True when every folder on the way to `folder`, and itself, may be entered. */
export async function mayEnter(folder: string, account: Account | undefined): Promise<boolean> {
  if (account === undefined) return true
  for (let at = await fs.realpath(folder); ; at = path.dirname(at)) {
    if (!(await allows(at, account, 0o1))) return false
    if (path.dirname(at) === at) return true
  }
}

/** True when the file may be read, and executed or entered. Its folder is not looked at. */
export async function mayRead(file: string, account: Account | undefined): Promise<boolean> {
  return account === undefined || (await allows(file, account, 0o5))
}

async function allows(file: string, account: Account, bits: number): Promise<boolean> {
  const { uid, gid, mode } = await fs.stat(file)
  const shift = uid === account.uid ? 6 : gid === account.gid ? 3 : 0
  return ((mode >> shift) & bits) === bits
}
