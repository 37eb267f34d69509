/**
 * `npm run smoke`: installs the packed flowly into an empty project, beside the `effect` that it
 * was tested with, and uses it there as its users do. Node's own loader and the compiler see what
 * they would see after `npm install flowly effect`.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { lockedVersion, type Packed, root, run, withPackage } from "./pack.ts"
import { foreignTypes } from "./signatures.ts"

interface Consumer {
  readonly packed: Packed
  /** The folder of the project that uses flowly. */
  readonly project: string
  /** flowly as it is installed there. */
  readonly installed: string
}

const checks: ReadonlyArray<readonly [string, (consumer: Consumer) => void]> = [
  ["the package holds what it names, and no tests", holdsWhatItNames],
  ["it installs beside effect", install],
  ["every entry point can be imported", importEntries],
  ["flowly can be required", requireIt],
  ["no signature of flowly shows a type of effect", hasNoEffectTypes],
  ["a program of a promise user type-checks and runs", useIt("promise.ts")],
  ["a program of an Effect user type-checks and runs", useIt("effect.ts")],
  ["flowly/embedded says how to install the binaries", embeddedWithoutBinaries],
]

withPackage((packed) => {
  const project = path.join(packed.folder, "project")
  const consumer = { packed, project, installed: path.join(project, "node_modules/flowly") }
  for (const [what, check] of checks) {
    check(consumer)
    console.log(`ok: ${what}`)
  }
})

function holdsWhatItNames({ packed }: Consumer) {
  const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"))
  const entries: ReadonlyArray<string> = Object.values<Record<string, string> | string>(
    manifest.exports,
  ).flatMap((entry) => (typeof entry === "string" ? [entry] : Object.values(entry)))
  for (const entry of [...entries, "./LICENSE", "./README.md"]) {
    const file = entry.slice("./".length)
    if (!packed.files.includes(file)) throw new Error(`the package lacks ${file}`)
  }
  const strange = packed.files.filter((file) => /(^test|\.test\.|node_modules)/.test(file))
  if (strange.length > 0) throw new Error(`the package holds ${strange.join(", ")}`)
  for (const file of packed.files.filter((name) => name.endsWith(".js"))) {
    for (const companion of [`${file}.map`, file.replace(/\.js$/, ".d.ts")]) {
      if (!packed.files.includes(companion)) throw new Error(`the package lacks ${companion}`)
    }
  }
}

function install({ packed, project, installed }: Consumer) {
  mkdirSync(project)
  const manifest = { name: "consumer", private: true, type: "module" }
  writeFileSync(path.join(project, "package.json"), JSON.stringify(manifest))
  const quiet = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
  const effect = `effect@${lockedVersion("effect")}`
  run("npm", ["install", ...quiet, packed.tarball, effect], { cwd: project })
  if (!existsSync(installed)) throw new Error("flowly is not in node_modules")
}

function node({ project }: Consumer, ...args: ReadonlyArray<string>): string {
  return run(process.execPath, args, { cwd: project, timeout: 60_000 })
}

function importEntries(consumer: Consumer) {
  for (const entry of ["flowly", "flowly/effect", "flowly/testing", "flowly/embedded"]) {
    node(consumer, "--input-type=module", "-e", `await import(${JSON.stringify(entry)})`)
  }
}

function requireIt(consumer: Consumer) {
  const code = `if (typeof require("flowly").DurableEngine !== "function") process.exit(1)`
  node(consumer, "--input-type=commonjs", "-e", code)
}

function isEffect(specifier: string) {
  return /^@?effect(\/|$)/.test(specifier)
}

function hasNoEffectTypes({ installed }: Consumer) {
  const trails = foreignTypes(path.join(installed, "dist/index.d.ts"), isEffect)
  if (trails.length === 0) return
  const lines = trails.map((trail) => `  ${trail.join(" > ")}`)
  throw new Error(`types of effect in the signatures of flowly:\n${lines.join("\n")}`)
}

/** The consumer has no types of Node: flowly's declarations must not need any. */
function useIt(program: string) {
  return (consumer: Consumer) => {
    const { project } = consumer
    cpSync(path.join(import.meta.dirname, "consumer", program), path.join(project, program))
    const compilerOptions = {
      target: "ES2023",
      module: "NodeNext",
      lib: ["ES2023", "ESNext.Disposable", "DOM"],
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      skipLibCheck: program === "effect.ts", // effect's own declarations are not ours to check
    }
    const config = { compilerOptions, files: [program] }
    writeFileSync(path.join(project, "tsconfig.json"), JSON.stringify(config))
    run(path.join(root, "node_modules/.bin/tsc"), ["-p", project])
    node(consumer, program)
  }
}

function embeddedWithoutBinaries(consumer: Consumer) {
  const said = node(
    consumer,
    "--input-type=module",
    "-e",
    `import { startEmbeddedPostgres } from "flowly/embedded"
     startEmbeddedPostgres().catch((error) => console.log(error._tag, error.reason, error.message))`,
  )
  if (!/^EmbeddedPostgresError BinariesMissing .*npm install/.test(said)) {
    throw new Error(`flowly/embedded without binaries says: ${said}`)
  }
}
