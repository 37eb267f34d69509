/** A process that only works: it is told what, says when it is ready, and counts. */
import { effectWorker, type EffectJob } from "../flowly/effectWorker.ts"
import { flowlyWorker, type FlowlyJob } from "../flowly/worker.ts"
import { groupCommit, type GroupCommitJob } from "../raw/groupCommit.ts"
import { notified, type NotifiedJob } from "../raw/notified.ts"
import { promises, type PromisesJob } from "../raw/promises.ts"
import { makeMeter, type Meter, type Working } from "./meter.ts"
import { serveProxy, type ProxyJob } from "./proxy.ts"

export type Job = FlowlyJob | EffectJob | GroupCommitJob | NotifiedJob | PromisesJob | ProxyJob

const send = (message: object) =>
  new Promise<void>((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
    else resolve()
  })

const counting = makeMeter((error) => {
  void send({ failed: error instanceof Error ? error.stack : String(error) })
})
const { begin, count, report } = counting

let ticking: NodeJS.Timeout | undefined

/** No timer stands where nothing happens: the processor time of idle workers is measured, too. */
const tellSoon = () => {
  ticking ??= setTimeout(() => {
    ticking = undefined
    void send({ count: count() })
  }, 20)
}

const meter: Meter = {
  done: () => {
    counting.meter.done()
    tellSoon()
  },
  fail: counting.meter.fail,
}

const open = (job: Job): Promise<Working> => {
  switch (job.kind) {
    case "flowly":
      return flowlyWorker(job, meter)
    case "effect":
      return effectWorker(job, meter)
    case "group-commit":
      return groupCommit(job, meter)
    case "notified":
      return notified(job, meter)
    case "promises":
      return promises(job, meter)
    case "proxy":
      return serveProxy(job)
  }
}

let working: Working | null = null

const obey = async (message: { readonly job?: Job; readonly say?: string }) => {
  if (message.job !== undefined) {
    working = await open(message.job)
    await send({ ready: true })
  } else if (message.say === "start") {
    begin()
    await working?.start()
    await send({ started: true })
  } else if (message.say === "usage" || message.say === "usage after collection") {
    if (message.say === "usage after collection") globalThis.gc?.()
    const { rss, heapUsed } = process.memoryUsage()
    const { user, system } = process.cpuUsage()
    await send({ usage: { rss, heapUsed, cpu: user + system } })
  } else if (message.say === "stop") {
    clearTimeout(ticking)
    await working?.close()
    await send({ report: report() })
    process.disconnect()
  }
}

process.on("message", (message: { readonly job?: Job; readonly say?: string }) => {
  obey(message).catch(meter.fail)
})
// the parent is gone: nobody is left to work for
process.on("disconnect", () => setTimeout(() => process.exit(), 5000).unref())
