/** What we ship and how SQL is made, as far as reading the files can tell. */
import { existsSync, readdirSync, readFileSync } from "node:fs"
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
  expect(existsSync(join(root, "binding.gyp"))).toBe(false)
})

interface Locked {
  readonly version?: string
  readonly dev?: boolean
  readonly devOptional?: boolean
  readonly hasInstallScript?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
}

const locked: Readonly<Record<string, Locked>> = JSON.parse(read("package-lock.json")).packages
const nameOf = (path: string): string => path.replace(/^.*node_modules\//, "")

it("the lock file is that of the manifest", () => {
  const { dependencies, devDependencies, peerDependencies } = manifest
  expect(locked[""]).toMatchObject({ dependencies, devDependencies, peerDependencies })
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    expect(locked[`node_modules/${name}`]?.version).toBe(version)
  }
})

it("what comes with flowly is known by name, and runs nothing when it is installed", () => {
  const shipped = Object.entries(locked).filter(([path, { dev }]) => path !== "" && dev !== true)
  expect(shipped.map(([path]) => nameOf(path)).toSorted()).toEqual([
    "@effect/sql-pg",
    "devalue",
    "effect",
    "uuid",
  ])
  expect(shipped.filter(([, { hasInstallScript }]) => hasInstallScript === true)).toEqual([])
})

it("of what we develop with, each script that an install would run was decided upon", () => {
  const scripts = Object.entries(locked).filter(([, { hasInstallScript }]) => hasInstallScript)
  expect(scripts.length).toBeGreaterThan(0)
  const undecided = scripts.filter(([path]) => !(nameOf(path) in manifest.allowScripts))
  expect(undecided).toEqual([])
  const allowed = Object.entries(manifest.allowScripts).filter(([, yes]) => yes === true)
  // it fetches the Node that the scripts of this repository run on
  expect(allowed).toEqual([["node", true]])
})

it("a release says where it was built; CI looks at signatures, and writes down the parts", () => {
  expect(manifest.publishConfig).toEqual({ access: "public", provenance: true })
  const workflow = read(".github/workflows/ci.yml")
  const runs = [...workflow.matchAll(/^ +- run: (.+)$/gm)].map(([, command]) => command)
  expect(runs).toContain("npm audit signatures")
  expect(runs.some((command) => command?.startsWith("npm sbom "))).toBe(true)
  // no job may write to the repository, nor does one leave its token behind
  expect(workflow).toMatch(/^permissions:\n {2}contents: read$/m)
  expect(workflow.match(/^ +permissions:/m)).toBeNull()
  const checkouts = workflow.match(/uses: actions\/checkout/g) ?? []
  expect(workflow.match(/persist-credentials: false/g)).toHaveLength(checkouts.length)
})

it("the script that everybody runs asks the network for packages alone", () => {
  const script = read(".ci/run").replaceAll(/^\s*#.*$/gm, "")
  expect(
    script.match(/\b(curl|wget|git (clone|fetch|pull)|npm (audit|sbom|view|ping)|npx)\b/g),
  ).toBeNull()
  expect(script.match(/\bnpm (?:ci|install|i)\b/g)).toEqual(["npm ci"])
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
