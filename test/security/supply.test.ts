/** What we ship and how SQL is made, as far as reading the files can tell. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"

const root = join(import.meta.dirname, "../..")
const read = (file: string): string => readFileSync(join(root, file), "utf8")
const manifest = JSON.parse(read("package.json"))

it("dependencies are exact versions; the lock file has hashes and names no host", () => {
  const pinned = { ...manifest.dependencies, ...manifest.devDependencies }
  for (const [name, version] of Object.entries(pinned)) {
    expect(`${name} ${version as string}`).toMatch(/ \d+\.\d+\.\d+(-[\w.]+)?$/)
  }
  const lock = JSON.parse(read("package-lock.json"))
  for (const [path, entry] of Object.entries<Record<string, unknown>>(lock.packages)) {
    // of the binaries for other platforms, npm writes down the version alone
    expect(Object.keys(entry)).not.toContain("resolved")
    if (path === "" || (entry["optional"] === true && !("integrity" in entry))) continue
    expect(`${path} ${String(entry["integrity"])}`).toMatch(/ sha512-/)
  }
})

it("nothing of ours runs when the package is installed", () => {
  for (const script of ["preinstall", "install", "postinstall", "prepare"]) {
    expect(manifest.scripts).not.toHaveProperty(script)
  }
})

const files = readdirSync(join(root, "src/postgres"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => [file, read(`src/postgres/${file}`)] as const)

it("text goes to the driver through two places, which are given it whole", () => {
  const raw = files.filter(([, text]) => /\.(unsafe|literal)(<[^(]*>)?\(/.test(text))
  expect(raw.map(([file]) => file).toSorted()).toEqual(["database.ts", "migrate.ts"])
})

it("no statement that writes also notifies: commits would queue for the database's one lock", () => {
  const notifying = files.filter(([, text]) => /pg_notify|\bnotify\s+["$]/i.test(text))
  expect(notifying.map(([file]) => file)).toEqual(["hints.ts"])
})

it("functions that fit any type are named with their schema", () => {
  const open =
    /(?<!pg_catalog\.)\b(jsonb?_build_object|jsonb_object_agg|jsonb?_agg|array_agg|unnest|to_jsonb?|pg_column_size|power|cardinality|array_(?:append|cat|length|position|positions|remove))\(/g
  const found = files.flatMap(([file, text]) =>
    [...text.matchAll(open)].map(([call]) => `${file}: ${call}`),
  )
  expect(found).toEqual([])
})
