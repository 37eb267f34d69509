/**
 * `npm run demo`: an order survives the SIGKILL of its worker, twice, and another one fails and is
 * undone. On a real Postgres that comes out of npm; half a minute; exit code 1 if a promise broke.
 */
import * as path from "node:path"
import { parseArgs } from "node:util"
import { DurableEngine } from "flowly"
import { startEmbeddedPostgres, type EmbeddedPostgresServer } from "flowly/embedded"
import pg from "pg"
import { checkStory, type Story, unfinished } from "./checks.ts"
import { defineOrderSaga, type Order } from "./saga.ts"
import { countdown, elapsedSeconds, heading, paint, print, printLast, say } from "./screen.ts"
import { createBooks, openShop, type Progress } from "./shop.ts"
import { killAllWorkers, startWorker, workersAlive, type WorkerProcess } from "./workers.ts"

const HELP = `Usage: npm run demo [-- --data-dir <folder>]

Starts a Postgres server out of npm, runs an order through a workflow, kills the worker process
twice while it does, and lets another order fail. Takes half a minute, needs nothing installed,
leaves no process behind.

  --data-dir <folder>   where the database lives. It is kept: run the demo again, and it goes on.
                        Default: .flowly/demo
  -h, --help            this text

Exit code: 0 if all checks hold, 1 if one does not, 130 after Ctrl-C.`

const DEADLINE_MS = 40_000

const options = parseArguments()
let server: EmbeddedPostgresServer | undefined
let interrupted = false

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => void interrupt(signal))
}
process.stdout.on("error", () => void interrupt("SIGHUP")) // nobody reads any more

try {
  const isGood = await run()
  await server?.stop()
  process.exitCode = isGood ? 0 : 1
} catch (error) {
  if (!interrupted) {
    print(paint("red", `\nThe demo broke off: ${error instanceof Error ? error.message : error}`))
    killAllWorkers()
    await server?.stop()
    process.exit(1)
  }
}

async function interrupt(signal: NodeJS.Signals): Promise<void> {
  if (interrupted) process.exit(130) // asked twice: the server's guard does the rest
  interrupted = true
  killAllWorkers()
  printLast(`\n${signal}: stopping. The next demo finishes what this one left.`)
  await server?.stop()
  process.exit(130)
}

async function run(): Promise<boolean> {
  print(paint("bold", "flowly: an order survives two kills of its worker, and another is undone"))
  print(
    "reserve-inventory, charge-card, sleep, ship-order, send-confirmation: examples/demo/saga.ts",
  )
  print()
  say("demo", "starting Postgres (the first time it takes some seconds longer)")
  server = await startEmbeddedPostgres({ dataDir: options.dataDir })
  if (!server.owned) {
    throw new Error(
      `another demo uses ${server.dataDir}: wait for its end, or give --data-dir another folder`,
    )
  }
  const pool = new pg.Pool({ connectionString: server.url, max: 5 })
  pool.on("error", () => {}) // the next query tells
  const { rows } = await pool.query<{ server_version: string }>("show server_version")
  const folder = path.relative(process.cwd(), server.dataDir)
  say(
    "demo",
    `Postgres ${rows[0]?.server_version} on port ${server.port}, its data in ` +
      `${folder.startsWith("..") ? server.dataDir : folder} (kept)`,
  )

  // The demo itself only triggers orders and asks for their status; the work is done by workers.
  const workflow = defineOrderSaga(openShop(pool, () => {}))
  const engine = new DurableEngine({ pool, workflows: [workflow] })
  await engine.migrate()
  await pool.query(createBooks)
  const story = await tell({ pool, engine, workflow, url: server.url })
  const isGood = await summarize(pool, story)
  await engine.stop()
  await pool.end()
  return isGood
}

interface Stage {
  readonly pool: pg.Pool
  readonly engine: DurableEngine
  readonly workflow: ReturnType<typeof defineOrderSaga>
  readonly url: string
}

async function tell({ pool, engine, workflow, url }: Stage): Promise<Story> {
  const count = async (where: string) => {
    const text = `select count(*)::int as n from durable_workflow.workflow_runs where ${where}`
    return (await pool.query<{ n: number }>(text)).rows[0]?.n ?? 0
  }
  const before = await count("true")
  const left = await count(unfinished)
  if (left > 0) {
    const what = left === 1 ? "1 order" : `${left} orders`
    say(
      "demo",
      `a demo that was killed has left ${what} unfinished: the workers go on with that too`,
    )
  }

  let killHalfWay: { readonly order: string; readonly worker: WorkerProcess } | undefined
  const employ = (number: number) => {
    const name = `worker ${number}`
    const worker = startWorker({
      name,
      url,
      onProgress: (progress) => {
        say(name, describe(progress))
        const target = killHalfWay
        if (target?.worker !== worker || progress.order !== target.order) return
        if (progress.step === "ship-order" && progress.phase === "half-way") worker.kill()
      },
    })
    say("demo", `${name} started, process ${worker.pid}`)
    return worker
  }
  const statusOf = async (id: string) => (await engine.getStatus(id))?.status
  const trigger = async (order: Order) => {
    const { workflowRunId: id } = await engine.trigger(workflow, {
      input: order,
      idempotencyKey: order.order,
    })
    say("demo", `${order.order} triggered: ${order.amount} € to ${order.destination}`)
    return { id, order }
  }

  heading("1  The worker is killed while the order sleeps")
  const first = employ(1)
  await within(first.ready, "the first worker to be ready")
  const good = await trigger({
    order: `order ${before + 1}`,
    amount: 120,
    destination: "Lisbon",
    coolingSeconds: 7,
  })
  await until(async () => (await statusOf(good.id)) === "sleeping", "the order to sleep")
  const wakeAt = await wakeTime(pool, good.id)
  const remainingMs = () => wakeAt.getTime() - Date.now()
  say("demo", `cooling off until ${clock(wakeAt)}: the order is a row in Postgres, in no memory`)
  const killAt = wakeAt.getTime() - 4500
  await countdown({ label: "to cool off", remainingMs, until: () => Date.now() >= killAt })
  first.kill()
  const firstEnd = await within(first.ended, "the first worker to be dead")
  say("demo", kill(`SIGKILL to worker 1, process ${first.pid}, which is gone (${firstEnd.signal})`))
  const stillSleeps = await statusOf(good.id)
  say("demo", `no worker is left; the order is "${stillSleeps}" until ${clock(wakeAt)}`)
  const second = employ(2)
  killHalfWay = { order: good.order.order, worker: second }
  await countdown({ label: "to cool off", remainingMs, until: () => remainingMs() <= 0 })

  heading("2  The worker is killed in the middle of a step")
  say("demo", "worker 2 goes on after the sleep; the two steps before it are remembered, not run")
  const secondEnd = await within(second.ended, "the second worker to be dead")
  say("demo", kill(`SIGKILL to worker 2, process ${second.pid}, half-way through ship-order`))
  say("demo", "the order still belongs to it, until its lease is over: 2.5 s here, 30 s by default")
  const third = employ(3)
  await until(async () => (await statusOf(good.id)) === "completed", "the order to be completed")
  say("demo", `${good.order.order} is completed`)

  heading("3  An order fails, and is undone")
  const bad = await trigger({
    order: `order ${before + 2}`,
    amount: 80,
    destination: "the Moon",
    coolingSeconds: 1,
  })
  const terminal = new Set(["completed", "failed", "compensated"])
  await until(async () => terminal.has((await statusOf(bad.id)) ?? ""), "the order to end")
  say("demo", `${bad.order.order} is ${await statusOf(bad.id)}`)
  if (left > 0) await until(async () => (await count(unfinished)) === 0, "old orders to end")

  third.stop()
  const thirdEnd = await within(third.ended, "the third worker to stop")
  const workers = [
    { pid: first.pid, end: firstEnd },
    { pid: second.pid, end: secondEnd },
    { pid: third.pid, end: thirdEnd },
  ]
  return { good, bad, wakeAt, workers }
}

async function summarize(pool: pg.Pool, story: Story): Promise<boolean> {
  heading("What the database, the shop's books and the processes say")
  const checks = [
    ...(await checkStory(pool, story)),
    {
      claim: "no worker process is left",
      ok: workersAlive() === 0,
      evidence: `${workersAlive()} alive`,
    },
  ]
  for (const { ok, claim, evidence } of checks) {
    print(`  ${ok ? paint("green", "✓") : paint("red", "✗ NOT SO:")} ${claim}`)
    print(paint("dim", `    ${evidence}`))
  }
  const broken = checks.filter((check) => !check.ok).length
  const seconds = elapsedSeconds().toFixed(0)
  const verdict =
    broken === 0
      ? paint("green", `All ${checks.length} checks hold.`)
      : paint("red", `${broken} of ${checks.length} checks do not hold.`)
  print(`\n${verdict} ${seconds} s. Run it again: the database is kept.`)
  return broken === 0
}

function describe({ order, step, phase, text }: Progress): string {
  const what = `${paint("dim", order)}  ${step.padEnd(23)}`
  switch (phase) {
    case "begun":
      return `${what} begins`
    case "half-way":
      return `${what} is half-way`
    case "done":
      return `${what} ${paint("green", `done: ${text}`)}`
    case "failed":
      return `${what} ${paint("red", `failed: ${text}`)}`
  }
}

function kill(text: string): string {
  return paint(["red", "bold"], text)
}

function clock(date: Date): string {
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`
}

async function wakeTime(pool: pg.Pool, id: string): Promise<Date> {
  const text = "select wake_at from durable_workflow.sleep_timers where workflow_run_id = $1"
  const { rows } = await pool.query<{ wake_at: Date }>(text, [id])
  if (rows[0] === undefined) throw new Error("the sleep has no timer")
  return rows[0].wake_at
}

async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${DEADLINE_MS / 1000} s for ${what}`)
    await new Promise((resolve) => {
      setTimeout(resolve, 50)
    })
  }
}

async function within<A>(promise: Promise<A>, what: string): Promise<A> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`waited ${DEADLINE_MS / 1000} s for ${what}`)
    timer = setTimeout(() => reject(error), DEADLINE_MS)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function parseArguments(): { readonly dataDir: string } {
  try {
    const { values } = parseArgs({
      options: { help: { type: "boolean", short: "h" }, "data-dir": { type: "string" } },
    })
    if (values.help) {
      console.log(HELP)
      process.exit(0)
    }
    return { dataDir: values["data-dir"] ?? path.join(".flowly", "demo") }
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${HELP}`)
    process.exit(2)
  }
}
