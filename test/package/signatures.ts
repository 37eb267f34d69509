/**
 * Which foreign types do the exports of a declaration file show? Follows every exported name through
 * the declarations that it mentions, file after file. Modules may import what they like for
 * themselves; only what a signature mentions counts.
 *
 * It reads text as `tsc` writes it (a declaration begins in the first column), which is coarse on one
 * side only: a name mentioned anywhere in a declaration counts as used.
 */
import { readFileSync } from "node:fs"
import * as path from "node:path"

interface Import {
  readonly from: string
  /** The exported name, or "*" for the whole module. */
  readonly name: string
}

interface Module {
  /** Declarations by their names; overloads and merged interfaces are joined. */
  readonly declarations: Map<string, string>
  readonly imports: Map<string, Import>
  /** Names that are exported from elsewhere, and under which name there. */
  readonly forwarded: Map<string, Import>
}

/** Answers a trail of names for each foreign type, `["Engine", "Options", "effect/Duration"]`. */
export function foreignTypes(
  entry: string,
  isForeign: (specifier: string) => boolean,
): ReadonlyArray<ReadonlyArray<string>> {
  const modules = new Map<string, Module>()
  const read = (file: string): Module => {
    const known = modules.get(file) ?? parse(readFileSync(file, "utf8"))
    modules.set(file, known)
    return known
  }
  const seen = new Set<string>()
  const found: Array<ReadonlyArray<string>> = []

  const follow = (file: string, { from, name }: Import, trail: ReadonlyArray<string>) => {
    if (isForeign(from)) found.push([...trail, from])
    else if (from.startsWith(".")) visit(resolve(file, from), name, trail)
  }

  const visit = (file: string, name: string, trail: ReadonlyArray<string>) => {
    if (seen.has(`${file}#${name}`)) return
    seen.add(`${file}#${name}`)
    const module = read(file)
    const forwarded = module.forwarded.get(name) ?? module.imports.get(name)
    if (forwarded !== undefined) return follow(file, forwarded, trail)
    const text = module.declarations.get(name) ?? ""
    const here = [...trail, name]
    for (const [, from = "", member = "*"] of text.matchAll(INLINE_IMPORT)) {
      follow(file, { from, name: member }, here)
    }
    for (const [, used = "", member] of text.replace(INLINE_IMPORT, "").matchAll(NAME)) {
      const imported = module.imports.get(used)
      if (imported === undefined) {
        if (module.declarations.has(used)) visit(file, used, here)
      } else
        follow(file, imported.name === "*" ? { ...imported, name: member ?? "*" } : imported, here)
    }
  }

  const { declarations, forwarded } = read(entry)
  for (const name of [...declarations.keys(), ...forwarded.keys()]) visit(entry, name, [])
  return found
}

const INLINE_IMPORT = /import\("([^"]+)"\)(?:\.(\w+))?/g
/** A name that is not a property or member, and the first of its own members. */
const NAME = /(?<![\w$.#])([A-Za-z_$][\w$]*)(?![\w$])(?!\??[:(])(?:\.([A-Za-z_$][\w$]*))?/g

const resolve = (file: string, specifier: string) =>
  path.resolve(path.dirname(file), specifier.replace(/\.[jt]s$/, ".d.ts"))

function parse(source: string): Module {
  const module: Module = { declarations: new Map(), imports: new Map(), forwarded: new Map() }
  const text = source.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "")
  for (const statement of text.split(/\n(?=[a-z])/)) parseStatement(statement.trim(), module)
  return module
}

function parseStatement(statement: string, module: Module): void {
  const from = /from\s+"([^"]+)";?$/.exec(statement)?.[1]
  const names = /\{([\s\S]*)\}/.exec(statement)?.[1] ?? ""
  if (from !== undefined) {
    const into = statement.startsWith("import") ? module.imports : module.forwarded
    const whole = /\*\s+as\s+(\w+)/.exec(statement)?.[1]
    if (whole !== undefined) into.set(whole, { from, name: "*" })
    for (const [name, local] of pairs(names)) into.set(local, { from, name })
    return
  }
  if (/^export\s*(type\s*)?\{/.test(statement)) {
    for (const [name, local] of pairs(names)) {
      const imported = module.imports.get(name)
      if (imported !== undefined) module.forwarded.set(local, imported)
    }
    return
  }
  const name =
    /^(?:export\s+)?(?:declare\s+)?(?:abstract\s+)?(?:class|interface|type|function|const|let|enum|namespace)\s+([\w$]+)/.exec(
      statement,
    )?.[1]
  if (name === undefined) return
  const body = statement.replace(/(["'`])(?:\\.|(?!\1).)*\1/g, (literal, _, at: number) =>
    statement.slice(0, at).endsWith("import(") ? literal : '""',
  )
  module.declarations.set(name, `${module.declarations.get(name) ?? ""}\n${body}`)
}

/** `A, type B as C` as pairs of outer and local name. */
function pairs(names: string): ReadonlyArray<readonly [string, string]> {
  return names
    .split(",")
    .map((part) => part.trim().replace(/^type\s+/, ""))
    .filter((part) => part !== "")
    .map((part) => {
      const [name = "", local = name] = part.split(/\s+as\s+/)
      return [name, local]
    })
}
