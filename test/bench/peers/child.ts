/** A process of one system: it enqueues, or it works, as it is told. */
import type { Client, Options, Peer, WorkerSide } from "./peer.ts"

export const peerNames = ["dbos", "openworkflow", "pgBoss", "graphileWorker"] as const
export type PeerName = (typeof peerNames)[number]

export type Order =
  | { readonly say: "client" | "worker"; readonly peer: PeerName; readonly options: Options }
  | { readonly say: "enqueue" | "latency" | "sequence"; readonly count: number }
  | { readonly say: "start" | "cpu" | "close" }

/** The pause before each latency sample, and how many are not counted. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 10))
const warmUps = 30

const load = async (name: PeerName): Promise<Peer> => {
  switch (name) {
    case "dbos":
      return (await import("./dbos.ts")).dbos
    case "openworkflow":
      return (await import("./openworkflow.ts")).openworkflow
    case "pgBoss":
      return (await import("./pgBoss.ts")).pgBoss
    case "graphileWorker":
      return (await import("./graphileWorker.ts")).graphileWorker
  }
}

let client: Client | undefined
let worker: WorkerSide | undefined

const latencies = async (count: number): Promise<ReadonlyArray<number>> => {
  const taken: Array<number> = []
  // a system that takes a second for each is believed sooner
  let warm = warmUps
  for (let n = 0; taken.length < count; n++) {
    await pause()
    const before = performance.now()
    await worker?.latency(n)
    const milliseconds = performance.now() - before
    if (milliseconds > 300) warm = Math.min(warm, 2)
    if (n >= warm) taken.push(milliseconds)
    if (milliseconds > 300 && taken.length >= 20) break
  }
  return taken
}

const obey = async (order: Order): Promise<unknown> => {
  switch (order.say) {
    case "client":
      client = await (await load(order.peer)).client(order.options)
      return undefined
    case "worker": {
      const peer = await load(order.peer)
      worker = await peer.worker(order.options)
      return peer.remaining
    }
    case "enqueue":
      return client?.enqueue(order.count)
    case "start":
      return worker?.start()
    case "latency":
      return latencies(order.count)
    case "sequence": {
      const before = performance.now()
      await worker?.sequence?.(order.count)
      return order.count / ((performance.now() - before) / 1000)
    }
    case "cpu": {
      const { user, system } = process.cpuUsage()
      return user + system
    }
    case "close":
      await client?.close()
      await worker?.close()
      return undefined
  }
}

process.on("message", (order: Order) => {
  obey(order).then(
    (value) => process.send?.({ value }),
    (error: unknown) =>
      process.send?.({ error: error instanceof Error ? error.stack : `${error}` }),
  )
})
process.on("disconnect", () => process.exit())
