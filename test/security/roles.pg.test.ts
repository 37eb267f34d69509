/**
 * Three roles: the owner migrates, the worker has rows and no more, the reader looks and no more.
 * What the worker can do: the suite of the promise API with a url runs as it
 * (test/promise/postgresBackend.ts), and that of the store (hostilePath.pg.test.ts).
 */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { defineWorkflow, DurableEngine, FlowlyError, grants } from "../../src/index.ts"
import { refusal, thrown } from "../promise/rig.ts"
import { createRoles, type DatabaseWithRoles, type Role } from "./roles.ts"

let database: DatabaseWithRoles
const engines: Array<DurableEngine> = []

const greet = defineWorkflow("greet", async (ctx, name: string) => {
  await ctx.emit("greeting", name)
  return ctx.step("greet", () => `hello ${name}`)
})

const engineOf = (role: Role, schema = database.schema): DurableEngine => {
  const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }
  const engine = new DurableEngine({
    url: database.urlOf(role),
    schema,
    workflows: [greet],
    logger,
    worker: { pollIntervalMs: 50 },
  })
  engines.push(engine)
  return engine
}

const nothing = () => undefined

beforeAll(async () => {
  database = await createRoles()
  await engineOf("owner").migrate()
  await database.grant()
})
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.stop()))
})
afterAll(() => database.drop())

describe("the worker", () => {
  it.each([
    "create table durable_workflow.mine (n int)",
    "create table public.mine (n int)",
    "create schema mine",
    "create temporary table mine (n int)",
    "alter table durable_workflow.workflow_runs add mine int",
    "drop table durable_workflow.schedule_ticks",
    "truncate durable_workflow.workflow_runs",
    "create function durable_workflow.mine() returns int language sql as 'select 1'",
    "create trigger mine after insert on durable_workflow.workflow_runs execute function now()",
    "insert into durable_workflow.flowly_migrations values (99, 'mine')",
  ])("may not %s", async (text) => {
    await expect(database.as("worker", text)).rejects.toThrow(/permission denied|must be owner/)
  })

  it("may call migrate, which finds nothing to do", async () => {
    await engineOf("worker").migrate()
  })
})

describe("the reader", () => {
  it("reads whatever there is to read", async () => {
    const worker = engineOf("worker")
    await worker.start()
    const handle = await worker.trigger(greet, { input: "Ada" })
    await handle.result()
    const reader = engineOf("reader")
    const id = handle.workflowRunId
    expect(await reader.getStatus(id)).toMatchObject({ status: "completed", result: "hello Ada" })
    expect(await reader.getRun(id)).toMatchObject({ workflow: "greet" })
    expect(await reader.getSteps(id)).toHaveLength(2)
    expect(await reader.getEvents(id)).toHaveLength(1)
    expect(await reader.explain(id)).toMatchObject({ workflowRunId: id })
    expect(await reader.getControlLog(id)).toEqual([])
    expect(await reader.count({ workflow: "greet" })).toBe(1)
    expect((await reader.listRuns({ workflow: "greet" })).runs).toHaveLength(1)
    expect(await reader.getDeadLetterRuns({ workflow: "greet" })).toEqual([])
    expect(await reader.handle(greet, id).result()).toBe("hello Ada")
    expect((await reader.healthCheck()).healthy).toBe(true)
  })

  const id = crypto.randomUUID()
  const filter = { workflow: "greet" }
  const writes: Readonly<Record<string, (engine: DurableEngine) => Promise<unknown>>> = {
    start: (engine) => engine.start(),
    trigger: (engine) => engine.trigger(greet, { input: "Eve" }),
    triggerMany: (engine) => engine.triggerMany(greet, [{ input: "Eve" }]).then(settled),
    schedule: (engine) => engine.schedule(greet, { cron: "@daily", input: "Eve" }),
    unschedule: (engine) => engine.unschedule("greet"),
    sendEvent: (engine) => engine.sendEvent(id, "hello"),
    cancel: (engine) => engine.cancel(id),
    cancelMany: (engine) => engine.cancelMany(filter),
    terminate: (engine) => engine.terminate(id),
    pause: (engine) => engine.pause(id),
    resume: (engine) => engine.resume(id),
    retry: (engine) => engine.retry(id),
    wake: (engine) => engine.wake(id),
    reschedule: (engine) => engine.reschedule(id, new Date()),
    fork: (engine) => engine.fork(id),
    retryDeadLetter: (engine) => engine.retryDeadLetter(id),
    retryCompensation: (engine) => engine.retryCompensation(id),
    skipCompensation: (engine) => engine.skipCompensation(id),
  }
  const settled = ([one]: Array<PromiseSettledResult<unknown>>) =>
    one?.status === "rejected" ? Promise.reject(one.reason) : one?.value

  it.each(Object.keys(writes))("cannot %s: a typed error says whom to ask", async (name) => {
    const error = await refusal(writes[name]!(engineOf("reader")))
    expect(error).toMatchObject({ code: "StoreRejected", retryable: false })
    expect(error.details).toMatchObject({ sqlState: "42501" })
    expect(error.message).toContain("`flowly grants` prints")
  })
})

describe("without what it needs", () => {
  it("a worker without tables says who must make them", async () => {
    const error = await refusal(engineOf("worker", "not_there").start())
    expect(error.code).toBe("SchemaNotMigrated")
    expect(error.message).toContain("with DDL rights")
  })

  it("a worker that migrates says that another role must", async () => {
    const error = await refusal(engineOf("worker", "not_there").migrate())
    expect(error).toMatchObject({ code: "StoreRejected", details: { sqlState: "42501" } })
    expect(error.message).toContain("migrate as a role that may create")
  })

  it("a worker without grants says which are missing", async () => {
    await engineOf("owner", "not_granted").migrate()
    for (const call of ["start", "migrate"] as const) {
      const error = await refusal(engineOf("worker", "not_granted")[call]())
      expect(error).toMatchObject({ code: "StoreRejected", details: { sqlState: "42501" } })
      expect(error.message).toContain("`flowly grants` prints")
    }
  })
})

describe("grants", () => {
  it.each<[unknown, string]>([
    ["", "worker"],
    ["public", "worker"],
    ["a\nb", "worker"],
    ["a\0b", "worker"],
    ["é".repeat(32), "worker"],
    ["\uD800", "worker"],
    [7, "worker"],
  ])("refuses the role %j", (worker, field) => {
    expect(thrown(() => grants({ worker: worker as string }))).toMatchObject({
      code: "InvalidInput",
      details: { field },
    })
  })

  it("refuses a strange schema, and nobody", () => {
    expect(thrown(() => grants({ worker: "w", schema: 'x" to public; --' }))).toBeInstanceOf(
      FlowlyError,
    )
    expect(thrown(() => grants({}))).toMatchObject({ details: { field: "grants" } })
  })

  it("name every table of the schema", async () => {
    const { rows } = await database.admin(
      "select tablename from pg_tables where schemaname = 'durable_workflow'",
    )
    expect(rows.length).toBeGreaterThan(9)
    for (const { tablename } of rows) {
      expect(grants({ reader: "r" })).toContain(`"durable_workflow"."${tablename}"`)
      expect(grants({ worker: "w" })).toContain(`"durable_workflow"."${tablename}"`)
    }
  })

  it("are what the command prints, which needs no database; it migrates with DATABASE_URL", async () => {
    const cli = new URL("../../src/cli.ts", import.meta.url).pathname
    const flowly = (args: ReadonlyArray<string>, env: Record<string, string> = {}) =>
      promisify(execFile)(process.execPath, [cli, ...args], { env, timeout: 60_000 })
    const asked = ["--schema", "by_command", "--worker", "app", "--reader", "support"]
    const printed = await flowly(["grants", ...asked])
    expect(printed.stdout).toBe(grants({ schema: "by_command", worker: "app", reader: "support" }))
    await flowly(["migrate", "--schema", "by_command"], { DATABASE_URL: database.urlOf("owner") })
    await database.as("owner", "select from by_command.workflow_runs")
    const failed = await flowly(["migrate", "--schema", "elsewhere"], {
      DATABASE_URL: database.urlOf("worker"),
    }).catch((error: unknown) => error as { readonly code: number; readonly stderr: string })
    expect(failed).toMatchObject({ code: 1 })
    expect(failed.stderr).toContain("migrate as a role that may create")
    expect(failed.stderr).not.toContain(new URL(database.urlOf("worker")).password)
  })
})
