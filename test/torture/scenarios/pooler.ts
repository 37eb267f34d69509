/**
 * PgBouncer in transaction mode between the workers and Postgres: no prepared statements, no session
 * state, and a LISTEN that hears nothing, so polling must carry. It is killed and comes back, too.
 *
 * Needs PgBouncer: at FLOWLY_PGBOUNCER, or where the system keeps it.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import pg from "pg"
import { Place, quick } from "../../processes/harness.ts"
import { withClient } from "../../support/provision.ts"
import {
  eventually,
  findProgram,
  freePort,
  ownFolder,
  type Program,
  startProgram,
} from "../programs.ts"
import type { Context, Scenario } from "../scenario.ts"
import { Traffic } from "../traffic.ts"

export const pooler: Scenario = {
  id: "PGB",
  title: "PgBouncer in transaction mode before the database, killed and replaced",
  tiers: ["T1", "T2"],
  run: async (context) => {
    const given = process.env["FLOWLY_PGBOUNCER"]
    const program = await findProgram([given, "/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"])
    if (program === null) {
      context.say("skipped: PgBouncer is not installed")
      context.count("skipped scenarios")
      return
    }
    await play(context, program)
  },
}

const play = async (context: Context, program: string): Promise<void> => {
  const { count, sized, say, dice } = context
  const url = await context.database()
  const port = await freePort()
  const config = await configOf(url, port)
  let running: Program = await startProgram(program, [config])
  context.atEnd(async () => {
    running.child.kill("SIGKILL")
    await running.exited
  })
  const pooled = new URL(url)
  pooled.port = String(port)
  const answers = () =>
    withClient(pooled.href, (client) => client.query("select 1")).then(() => true)
  await eventually(`PgBouncer answers: ${running.said()}`, answers, 10_000)

  const witnessUrl = await context.database()
  const look = new pg.Pool({ connectionString: url, max: 2 })
  context.atEnd(() => look.end())
  await look.query("create table public.counted (run uuid, step text, result int)")
  const database = { url: witnessUrl, drop: async () => undefined }
  await using place = await Place.on(database, pooled.href, { prepare: false })
  const script = { script: "../torture/actor.ts", env: { FLOWLY_PREPARE: "no" } }
  const start = async (useNotify: boolean) => {
    const worker = { ...quick, maxConcurrent: 10, useNotify }
    const one = await place.spawn({ worker, quiet: true }, script)
    await one.call("start")
    return one
  }
  const workers = [await start(false), await start(false), await start(true)]
  const traffic = new Traffic(place)
  traffic.begin(25)
  const kills = sized({ T0: 1, T1: 2, T2: 20 })
  for (let i = 0; i < kills; i++) {
    await wait(dice.whole(1500, 3000))
    running.child.kill("SIGKILL")
    await running.exited
    count("kills of the pooler")
    await wait(dice.whole(0, 800))
    running = await startProgram(program, [config])
    await eventually("PgBouncer answers again", answers, 10_000)
    workers[i % 2]?.signal("SIGKILL")
    workers[i % 2] = await start(false)
    count("kills")
    say(`${traffic.acknowledged.size} runs acknowledged`)
  }
  await wait(1500)
  await traffic.end()
  const query = async <Row>(text: string, values: ReadonlyArray<unknown> = []) =>
    (await look.query(text, [...values])).rows as ReadonlyArray<Row>
  await traffic.judge(context, "PGB", query)
}

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Few server sessions for many clients, in transaction mode. */
const configOf = async (url: string, port: number): Promise<string> => {
  const folder = await ownFolder()
  const { hostname, port: server, username, password } = new URL(url)
  const file = path.join(folder, "pgbouncer.ini")
  const to = `host=${hostname} port=${server || 5432} user=${username}`
  await fs.writeFile(
    file,
    `[databases]
* = ${to} password=${decodeURIComponent(password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
server_login_retry = 1
`,
    { mode: 0o644 },
  )
  return file
}
