/** The parent's side of the processes that only work. */
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import type { Job } from "./child.ts"
import type { Report } from "./meter.ts"

/** Memory in bytes, CPU in microseconds since the start of the process. */
export interface Usage {
  readonly rss: number
  readonly heapUsed: number
  readonly cpu: number
}

interface Message {
  readonly ready?: boolean
  readonly started?: boolean
  readonly count?: number
  readonly usage?: Usage
  readonly report?: Report
  readonly failed?: string
}

export interface WorkerProcess {
  readonly start: () => Promise<void>
  readonly count: () => number
  readonly usage: () => Promise<Usage>
  /** The collection is paid before the CPU is read. */
  readonly usageAfterCollection: () => Promise<Usage>
  readonly stop: () => Promise<Report>
  readonly kill: () => void
  /** Rejects when the process fails. */
  readonly failure: Promise<never>
}

/** A process that is ready to begin its job. */
export const openWorker = async (job: Job): Promise<WorkerProcess> => {
  const child = fork(join(import.meta.dirname, "child.ts"), {
    execArgv: ["--expose-gc", "--disable-warning=ExperimentalWarning"],
    serialization: "advanced",
  })
  let count = 0
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => undefined)
  child.on("message", (message: Message) => {
    if (message.count !== undefined) count = message.count
    if (message.failed !== undefined) failed.reject(new Error(message.failed))
  })
  child.on("exit", (code) => failed.reject(new Error(`a worker ended with ${code}`)))
  const answer = <K extends keyof Message>(key: K) =>
    Promise.race([next(child, key), failed.promise])

  const ready = answer("ready")
  child.send({ job })
  try {
    await ready
  } catch (error) {
    child.kill()
    throw error
  }
  const ask = <K extends keyof Message>(say: string, key: K) => {
    const answered = answer(key)
    child.send({ say })
    return answered
  }
  return {
    start: async () => void (await ask("start", "started")),
    count: () => count,
    usage: () => ask("usage", "usage"),
    usageAfterCollection: () => ask("usage after collection", "usage"),
    stop: () => ask("stop", "report"),
    kill: () => void child.kill("SIGKILL"),
    failure: failed.promise,
  }
}

const next = <K extends keyof Message>(child: ChildProcess, key: K) =>
  new Promise<NonNullable<Message[K]>>((resolve) => {
    const listen = (message: Message) => {
      const value = message[key]
      if (value === undefined) return
      child.off("message", listen)
      resolve(value)
    }
    child.on("message", listen)
  })

/** What the processes did together, from the end of the warm-up to the end of the last run. */
export interface Throughput {
  readonly perSecond: number
  readonly cpuMsPerRun: number
  /** From the start of the first process to the end of the last run, all of them. */
  readonly wholeSeconds: number
}

/** Lets the jobs' processes work until `runs` and the `warm` ones before them are done. */
export const throughput = async (options: {
  readonly jobs: ReadonlyArray<Job>
  readonly runs: number
  readonly warm: number
}): Promise<Throughput> => {
  const { jobs, runs, warm } = options
  const workers = await Promise.all(jobs.map(openWorker))
  try {
    await Promise.all(workers.map((worker) => worker.start()))
    await until(
      () => workers.reduce((sum, worker) => sum + worker.count(), 0) >= warm + runs,
      workers,
    )
    const reports = await Promise.all(workers.map((worker) => worker.stop()))
    const times = reports.flatMap((report) => report.times).toSorted((a, b) => a - b)
    const first = times[warm - 1] ?? Math.min(...reports.map((report) => report.startedAt))
    const last = times.at(-1) ?? Number.NaN
    return {
      perSecond: ((times.length - warm) / (last - first)) * 1000,
      cpuMsPerRun: cpuOf(reports, first),
      wholeSeconds: (last - Math.min(...reports.map((report) => report.startedAt))) / 1000,
    }
  } finally {
    for (const worker of workers) worker.kill()
  }
}

/** Milliseconds of CPU for each run, of what each process did after the warm-up. */
const cpuOf = (reports: ReadonlyArray<Report>, from: number): number => {
  let completed = 0
  let microseconds = 0
  for (const { cpu, times } of reports) {
    const first = cpu.find(([count]) => (times[count - 1] ?? 0) >= from)
    const last = cpu.at(-1)
    if (first === undefined || last === undefined) continue
    completed += last[0] - first[0]
    microseconds += last[1] - first[1]
  }
  return microseconds / 1000 / completed
}

/** Waits for the processes; says so when nothing has been completed for a minute. */
export const until = async (
  done: () => boolean,
  workers: ReadonlyArray<WorkerProcess>,
  idleSeconds = 60,
): Promise<void> => {
  let last = -1
  let since = performance.now()
  while (!done()) {
    const total = workers.reduce((sum, worker) => sum + worker.count(), 0)
    if (total !== last) since = performance.now()
    last = total
    if (performance.now() - since > idleSeconds * 1000) {
      throw new Error(`nothing was completed for ${idleSeconds} s; ${total} so far`)
    }
    const tick = new Promise<void>((resolve) => setTimeout(resolve, 5))
    await Promise.race([tick, ...workers.map((worker) => worker.failure)])
  }
}
