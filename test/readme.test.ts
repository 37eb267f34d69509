/** README.md is true: its code compiles, what needs no database runs, its links lead somewhere. */
import { execFile } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import * as path from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { blocks, fileOf, programs, readme, root, runProgram } from "./readme/blocks.ts"
import { writePrograms } from "./readme/programFiles.ts"

const { folder, remove } = writePrograms()
afterAll(remove)

describe("README.md", () => {
  it("has programs, and says of each how it is run", () => {
    expect(programs.length).toBeGreaterThanOrEqual(5)
    const unknown = programs.filter(
      ({ info }) => !/^(postgres|embedded|memory|context=\w+)$/.test(info),
    )
    expect(unknown).toEqual([])
    const languages = new Set(blocks.map((block) => block.language))
    expect(languages).toEqual(new Set(["ts", "sh", "sql", "mermaid"]))
  })

  it("compiles", { timeout: 120_000 }, async () => {
    const tsc = path.join(root, "node_modules/typescript/bin/tsc")
    const output = await new Promise<string>((resolve) => {
      execFile(process.execPath, [tsc, "--noEmit", "-p", folder], (error, stdout, stderr) =>
        resolve(error === null ? "" : stdout + stderr),
      )
    })
    expect(output).toBe("")
  })

  const needsServer = /^(postgres|embedded)$/ // those run in readme.pg.test.ts
  const expected: Readonly<Record<string, RegExp>> = {
    "context=body": /^\{"rate":1,"total":4,"answer":"no answer"\}\npriced\n$/,
    "context=changes": /^4711 insured\n4711 shipped\n$/,
    "context=steps": /^ended\n$/,
    "context=engine": /was cancelled: changed my mind[\s\S]*IdempotencyConflict\n$/,
    memory:
      /a trial ends after thirty days|^version 2 ships by bicycle$|^told the customer: no funds$|^40 paid: R-7$|^c-1: small\nc-1: large$|^card \[card\] was declined$|^hello, Ada$/m,
  }
  for (const block of programs.filter(({ info }) => !needsServer.test(info))) {
    it(`runs its program of line ${block.line} (${block.info})`, { timeout: 60_000 }, async () => {
      const { code, output } = await runProgram(path.join(folder, fileOf(block)))
      expect(output).toMatch(expected[block.info] ?? /^$/)
      expect(code).toBe(0)
    })
  }

  it("links to what exists", () => {
    const links = [...readme.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((match) => match[1] ?? "")
    const local = links.filter((link) => !link.startsWith("https://"))
    expect(local.length).toBeGreaterThan(20)
    expect(local.filter((link) => !existsSync(path.join(root, link)))).toEqual([])
  })

  it("shows a test for everything that it says flowly has and others may not", () => {
    const section = readme.split("## Among others")[1]?.split("\n## ")[0] ?? ""
    const rows = section.split("\n").filter((line) => /^\| \w/.test(line))
    const cells = rows.map((row) => row.split("|").map((cell) => cell.trim()))
    expect(rows.length).toBeGreaterThan(15)
    for (const [, , ours = "", ...others] of cells) {
      expect(others.length).toBe(8)
      const shown = /^\[yes[^\]]*\]\((test\/[\w/.-]+\.ts)\)$/.exec(ours)?.[1]
      expect(ours === "no" || (shown !== undefined && existsSync(path.join(root, shown)))).toBe(
        true,
      )
    }
  })

  it("names scripts that exist", () => {
    const { scripts } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))
    const named = [...readme.matchAll(/npm run ([\w:]+)/g)].map((match) => match[1] ?? "")
    expect(named.filter((name) => !(name in scripts))).toEqual([])
  })
})
