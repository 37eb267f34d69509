/**
 * The code of README.md as programs. What stands behind `ts` on the fence says how to run a block:
 *
 * - `postgres`: a whole program, with DATABASE_URL set; `memory`: one that needs no database;
 *   `embedded`: one that starts a server itself.
 * - `context=NAME`: lines of a program, whose rest is below.
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import * as path from "node:path"

export const root = path.resolve(import.meta.dirname, "../..")
export const readme = readFileSync(path.join(root, "README.md"), "utf8")

export interface Block {
  readonly language: string
  readonly info: string
  /** Of the opening fence, from 1. */
  readonly line: number
  readonly code: string
}

export const blocks: ReadonlyArray<Block> = [
  ...readme.matchAll(/^```(\w+) *([^\n]*)\n(.*?)^```$/gms),
].map((match) => ({
  language: match[1] ?? "",
  info: match[2] ?? "",
  line: readme.slice(0, match.index).split("\n").length,
  code: match[3] ?? "",
}))

export const programs = blocks.filter((block) => block.language === "ts")

export const fileOf = (block: Block) => `line-${block.line}.ts`

/** The whole program of a block. */
export function programOf(block: Block): string {
  const name = /^context=(\w+)$/.exec(block.info)?.[1]
  if (name === undefined) return block.code
  const context = contexts[name]
  if (context === undefined) throw new Error(`README.md:${block.line}: no context "${name}"`)
  return context.replace("THE BLOCK", () => block.code)
}

const contexts: Readonly<Record<string, string>> = {
  body: `
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "flowly"

const service = {
  priceOf: async (item: string) => item.length,
  stock: async () => 3,
  address: async () => "Lisbon",
  slow: () => new Promise<string>((resolve) => setTimeout(resolve, 1500, "late")),
  fails: async (): Promise<number> => {
    throw new Error("no rate today")
  },
}
const sumWorkflow = defineWorkflow("sum", (_, input: { numbers: ReadonlyArray<number> }) =>
  input.numbers.reduce((sum, one) => sum + one, 0),
)
const workflow = defineWorkflow("block", async (ctx, input: { items: ReadonlyArray<string> }) => {
THE BLOCK
  return { total, answer, rate }
})
const engine = new DurableEngine({ workflows: [workflow, sumWorkflow] })
engine.setStore(new MemoryWorkflowStore())
await engine.start()
const handle = await engine.trigger(workflow, { input: { items: ["a", "bcd"] } })
console.log(JSON.stringify(await handle.result()))
console.log((await engine.getEvents(handle.workflowRunId)).map((one) => one.event).join())
await engine.stop()
`,
  changes: `
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "flowly"

const service = {
  insure: async (orderId: string) => console.log(orderId, "insured"),
  ship: async (orderId: string) => console.log(orderId, "shipped"),
}
const workflow = defineWorkflow("block", async (ctx, input: { orderId: string }) => {
THE BLOCK
})
const engine = new DurableEngine({ workflows: [workflow] })
engine.setStore(new MemoryWorkflowStore())
await engine.start()
await (await engine.trigger(workflow, { input: { orderId: "4711" } })).result()
await engine.stop()
`,
  steps: `
import { defineWorkflow, DurableEngine, MemoryWorkflowStore, NonRetryableError, RetryAfterError } from "flowly"

const service = {
  reserve: async () => ({ id: "r-1" }),
  release: async (reservation: string) => console.log(reservation),
  importPage: async (page: number): Promise<number> => (page > 100 ? 404 : 200),
}
const reportWorkflow = defineWorkflow("report", (_, input: { month: number }) => input.month)
const workflow = defineWorkflow("block", async (ctx) => {
THE BLOCK
  return "ended"
})
const engine = new DurableEngine({ workflows: [workflow, reportWorkflow] })
engine.setStore(new MemoryWorkflowStore())
await engine.start()
console.log(await (await engine.trigger(workflow)).result())
await engine.stop()
void [NonRetryableError, RetryAfterError]
`,
  client: `
import { defineWorkflow, DurableEngine, MemoryWorkflowStore } from "flowly"

const orderWorkflow = defineWorkflow("process-order", async (ctx, input: { orderId: string }) => {
  await ctx.step("only", async () => input.orderId)
})
const client = { query: async (text: string, values?: ReadonlyArray<unknown>) => ({ rows: [text, values] }) }
const engine = new DurableEngine({ workflows: [orderWorkflow] })
engine.setStore(new MemoryWorkflowStore({ client }))
THE BLOCK
await engine.stop()
`,
  engine: `
import { defineWorkflow, DurableEngine, FlowlyError, MemoryWorkflowStore } from "flowly"

const orderWorkflow = defineWorkflow("process-order", async (ctx, input: { orderId: string }) => {
  await ctx.step("only", async () => input.orderId)
})
const engine = new DurableEngine({ workflows: [orderWorkflow] })
engine.setStore(new MemoryWorkflowStore())
await engine.start()
THE BLOCK
await engine.stop()
`,
}

/** Runs a program from its file, on the sources of flowly. */
export function runProgram(file: string, env: Readonly<Record<string, string>> = {}) {
  const hook = path.join(import.meta.dirname, "useSources.ts")
  const child = spawn(process.execPath, ["--import", hook, file], {
    env: { ...process.env, ...env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  })
  let output = ""
  child.stdout.on("data", (chunk) => (output += chunk))
  child.stderr.on("data", (chunk) => (output += chunk))
  return new Promise<{ readonly code: number | null; readonly output: string }>((resolve) => {
    child.once("close", (code) => resolve({ code, output }))
  })
}
