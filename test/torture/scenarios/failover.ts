/**
 * S9, second half: the primary dies, its standby is promoted, and the address leads there from then on.
 * Replication is synchronous, so no run that was acknowledged is lost, and no transaction counts twice.
 *
 * Needs `pg_basebackup`, which the embedded server does not bring: with a Postgres of the system.
 */
import * as path from "node:path"
import pg from "pg"
import { Place, quick } from "../../processes/harness.ts"
import { withClient } from "../../support/provision.ts"
import {
  eventually,
  findProgram,
  freePort,
  openSwitch,
  ownFolder,
  startProgram,
} from "../programs.ts"
import type { Context, Scenario } from "../scenario.ts"
import { openServer, systemBinaries } from "../server.ts"
import { Traffic } from "../traffic.ts"

export const failover: Scenario = {
  id: "S9b",
  title: "Failover to a promoted standby, under load",
  tiers: ["T1", "T2"],
  run: async (context) => {
    const binaries = await systemBinaries()
    const bin = binaries === null ? undefined : path.dirname(binaries.postgres)
    const backup = bin && (await findProgram([path.join(bin, "pg_basebackup")]))
    if (!binaries || !backup) {
      context.say("skipped: pg_basebackup is not installed")
      context.count("skipped scenarios")
      return
    }
    const rounds = context.sized({ T0: 1, T1: 1, T2: 10 })
    for (let round = 1; round <= rounds; round++) {
      await play(context, backup, binaries.postgres)
      context.say(`round ${round} of ${rounds}`)
    }
  },
}

const standbyName = "standby1"

const play = async (context: Context, backup: string, postgres: string): Promise<void> => {
  const { dice, count, sized, say, measure } = context
  const primary = await openServer("system", { wal_level: "replica", max_wal_senders: "8" })
  context.atEnd(primary.stop)
  const address = new URL(primary.url)
  const folder = path.join(await ownFolder(), "standby")
  const from = `host=127.0.0.1 port=${address.port} user=postgres password=${address.password} application_name=${standbyName}`
  const copy = await startProgram(backup, [
    "-d",
    from,
    "-D",
    folder,
    "-R",
    "-X",
    "stream",
    "-c",
    "fast",
  ])
  if ((await copy.exited) !== 0) throw new Error(`pg_basebackup failed: ${copy.said()}`)
  const port = await freePort()
  const settings = {
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    fsync: "off",
    max_connections: 200,
  }
  const standby = await startProgram(
    postgres,
    ["-D", folder].concat(
      Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ),
  )
  context.atEnd(async () => {
    standby.child.kill("SIGQUIT")
    await standby.exited
  })
  const standbyUrl = new URL(primary.url)
  standbyUrl.port = String(port)
  await withClient(primary.url, async (client) => {
    await client.query(`alter system set synchronous_standby_names = '${standbyName}'`)
    await client.query("alter system set synchronous_commit = 'on'")
    await client.query("select pg_reload_conf()")
    await eventually("the standby is synchronous", async () => {
      const { rows } = await client.query("select sync_state from pg_stat_replication")
      return rows.some(({ sync_state }) => sync_state === "sync")
    })
    await client.query("create database app")
  })
  const way = await openSwitch()
  context.atEnd(way.close)
  way.lead(Number(address.port))
  const proxied = new URL(primary.url)
  proxied.port = String(way.port)
  proxied.pathname = "/app"

  // the witness is on another server, which nobody harms
  const witnessUrl = await context.database()
  await using place = await Place.on({ url: witnessUrl, drop: async () => undefined }, proxied.href)
  await withClient(proxied.href, (client) =>
    client.query("create table public.counted (run uuid, step text, result int)"),
  )
  const worker = { ...quick, maxConcurrent: 10 }
  const workers = await Promise.all([1, 2, 3].map(() => place.spawn({ worker, quiet: true })))
  await Promise.all(workers.map((one) => one.call("start")))
  const traffic = new Traffic(place)
  traffic.begin(25)
  const loadMs = sized({ T0: 1000, T1: 4000, T2: 6000 })
  await wait(loadMs + dice.whole(0, 1000))

  const before = traffic.acknowledged.size
  say(`${before} runs acknowledged; the primary dies`)
  await primary.crash()
  way.lead(null)
  const died = performance.now()
  await wait(dice.whole(0, 1500))
  await withClient(standbyUrl.href, async (client) => {
    const { rows } = await client.query<{ done: boolean }>("select pg_promote(true, 60) as done")
    if (rows[0]?.done !== true) throw new Error(`it was not promoted: ${standby.said()}`)
  })
  way.lead(port)
  count("failovers")
  standbyUrl.pathname = "/app"
  const look = new pg.Pool({ connectionString: standbyUrl.href, max: 2 })
  context.atEnd(() => look.end())
  const query = async <Row>(text: string, values: ReadonlyArray<unknown> = []) =>
    (await look.query(text, [...values])).rows as ReadonlyArray<Row>
  await eventually("something is written to the new primary", async () => {
    const rows = await query(
      `select 1 from durable_workflow.workflow_steps
      where completed_at > clock_timestamp() - interval '300 milliseconds' limit 1`,
    )
    return rows.length > 0
  })
  measure("from the primary's death to the next step", performance.now() - died)
  await wait(loadMs)
  await traffic.end()
  await traffic.judge(context, "S9b", query)
  await Promise.all(workers.map((one) => one.call("stop")))
}

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
