/**
 * The shape of the house: imports point one way, SQL text lives in one folder, and the core reads
 * no clock, dice or environment of its own.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, normalize, relative } from "node:path"
import { describe, expect, it } from "vitest"

const root = join(import.meta.dirname, "../src")

const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) =>
  file.endsWith(".ts"),
)

const source = (file: string): string => readFileSync(join(root, file), "utf8")

/** Without comments: what is said about SQL or Date is not SQL or Date. */
const code = (file: string): string =>
  source(file)
    .replaceAll(/\/\*[\s\S]*?\*\//g, "")
    .replaceAll(/(^|\s)\/\/.*$/gm, "")

/** From the ground up. A file may import its own layer and those in `below`. */
const layers: Record<string, { readonly holds: RegExp; readonly below: ReadonlyArray<string> }> = {
  model: {
    holds:
      /^(Run|Control|Attributes|RetryPolicy|DurationInput|Name|Payload|ErrorPayload|FlowlyError|StepError|Redaction|Cron)\.ts$|^payload\//,
    below: [],
  },
  contract: { holds: /^(WorkflowStore|EngineClock)\.ts$|^store\//, below: ["model"] },
  codec: { holds: /^PayloadCodec\.ts$|^codec\//, below: ["model", "contract"] },
  memory: { holds: /^MemoryStore\.ts$|^memory\//, below: ["model", "contract"] },
  postgres: { holds: /^PostgresStore\.ts$|^postgres\//, below: ["model", "contract"] },
  engine: { holds: /^(Engine|Journal)\.ts$|^engine\//, below: ["model", "contract"] },
  authoring: {
    holds: /^(WorkflowRun|WorkflowBody|Workflow|Step|Sleep|Event|Token|Child|Compensation)\.ts$/,
    below: ["model", "contract", "engine"],
  },
  worker: { holds: /^Worker\.ts$|^worker\//, below: ["model", "contract", "engine"] },
  embedded: { holds: /^embedded(\.ts$|\/)/, below: [] },
  entry: {
    holds: /^(index|effect)\.ts$|^promise\//,
    below: ["model", "contract", "codec", "memory", "postgres", "engine", "authoring", "worker"],
  },
  command: { holds: /^cli\.ts$/, below: ["entry"] },
  testing: {
    holds: /^testing(\.ts$|\/)/,
    below: [
      "model",
      "contract",
      "codec",
      "memory",
      "postgres",
      "engine",
      "authoring",
      "worker",
      "entry",
    ],
  },
}

const layerOf = (file: string): string | undefined =>
  Object.keys(layers).find((name) => layers[name]?.holds.test(file))

const importsOf = (file: string): ReadonlyArray<string> =>
  [...source(file).matchAll(/from "(\.[^"]+)"/g)].map(([, path]) =>
    normalize(relative(root, join(root, dirname(file), path ?? ""))),
  )

describe("imports point one way", () => {
  it.each(files)("%s", (file) => {
    const layer = layerOf(file)
    expect(layer, `${file} belongs to no layer`).toBeDefined()
    const allowed = new Set([layer, ...(layers[layer ?? ""]?.below ?? [])])
    const wrong = importsOf(file).filter((path) => !allowed.has(layerOf(path)))
    expect(wrong).toEqual([])
  })

  it("the graph has no cycle but through types", () => {
    const values = (file: string) =>
      [...source(file).matchAll(/^(?:import|export) (?!type )[^"]*?from "(\.[^"]+)"/gm)].map(
        ([, path]) => normalize(relative(root, join(root, dirname(file), path ?? ""))),
      )
    const done = new Set<string>()
    const cycles: Array<string> = []
    const visit = (file: string, trail: ReadonlyArray<string>): void => {
      if (trail.includes(file)) {
        cycles.push([...trail.slice(trail.indexOf(file)), file].join(" > "))
        return
      }
      if (done.has(file)) return
      for (const next of values(file)) visit(next, [...trail, file])
      done.add(file)
    }
    for (const file of files) visit(file, [])
    expect(cycles).toEqual([])
  })
})

describe("what lives in one place", () => {
  const sqlText = /\b(select .+ from|insert into|update .+ set|delete from|create table)\b/is

  it("SQL text is in postgres/ alone", () => {
    const elsewhere = files.filter(
      (file) => !/^(postgres\/|PostgresStore|embedded)/.test(file) && sqlText.test(code(file)),
    )
    expect(elsewhere).toEqual([])
  })

  it("the main entry imports no testing code and no embedded server", () => {
    const seen = new Set<string>()
    const visit = (file: string): void => {
      if (seen.has(file)) return
      seen.add(file)
      for (const next of importsOf(file)) visit(next)
    }
    visit("index.ts")
    expect([...seen].filter((file) => /^(testing|embedded)/.test(file))).toEqual([])
  })
})

describe("the core has no clock, dice or environment of its own", () => {
  const core = files.filter((file) => !/^(embedded|promise|testing|cli\.ts)/.test(file))
  const forbidden: ReadonlyArray<readonly [string, RegExp, ReadonlyArray<string>]> = [
    ["Date.now", /\bDate\.now\(|new Date\(\)/, []],
    ["performance", /\bperformance\.now/, []],
    ["Math.random", /\bMath\.random/, []],
    // a statement's deadline runs on the real clock, also under a test clock
    ["timers", /\b(setTimeout|setInterval|setImmediate)\(/, ["postgres/database.ts"]],
    ["process.env", /\bprocess\.env\b/, []],
    ["console", /\bconsole\./, []],
    ["async functions", /\basync (function|\()/, []],
  ]
  it.each(forbidden)("%s", (_, pattern, allowed) => {
    const wrong = core.filter((file) => !allowed.includes(file) && pattern.test(code(file)))
    expect(wrong).toEqual([])
  })
})
