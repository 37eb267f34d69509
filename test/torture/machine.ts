/**
 * What the machine owes the processes: how long each was ready to run and was given no processor. The
 * kernel counts it (`schedstat`, of the main thread); it is read from outside, so that the processes
 * are not made any slower by being watched. Those of the server count as well, one for each session.
 * Where it cannot be read, the machine owes nothing.
 */
import { readdirSync, readFileSync } from "node:fs"

interface Sample {
  readonly at: number
  readonly waitedMs: number
}

export interface Machine {
  /** How long a process of the fleet waited for a processor between two instants. */
  readonly waited: (name: string, from: number, to: number) => number
  /** How long the server's process for a session did. */
  readonly sessionWaited: (pid: number, from: number, to: number) => number
  /** Those of the fleet that were watched throughout. */
  readonly watched: (from: number, to: number) => ReadonlyArray<string>
  readonly stop: () => void
}

const everyMs = 25
/** New sessions are looked for so often. */
const sessionsMs = 300

const read = (file: string): string | null => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return null
  }
}

const waitedOf = (pid: number): number | null => {
  const text = read(`/proc/${pid}/schedstat`)
  return text === null ? null : Number(text.split(" ")[1]) / 1e6
}

/** How much of it had been by then: as if it grew evenly between two samples. */
const byThen = (samples: ReadonlyArray<Sample>, at: number): number => {
  // the first that is not before it
  let [next, end] = [0, samples.length]
  while (next < end) {
    const middle = (next + end) >> 1
    if ((samples[middle]?.at ?? 0) < at) next = middle + 1
    else end = middle
  }
  const [before, after] = [samples[next - 1], samples[next]]
  if (after === undefined) return samples.at(-1)?.waitedMs ?? 0
  if (before === undefined) return after.waitedMs
  const share = (at - before.at) / Math.max(1, after.at - before.at)
  return before.waitedMs + share * (after.waitedMs - before.waitedMs)
}

/** Processes of the server for sessions of roles with this prefix, on this machine. */
const makeSessions = (prefix: string) => {
  const known = new Map<number, boolean>()
  const look = (): void => {
    const all = new Set(readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [+name] : [])))
    for (const pid of known.keys()) if (!all.has(pid)) known.delete(pid)
    for (const pid of all) {
      if (known.get(pid) === true) continue
      const title = read(`/proc/${pid}/cmdline`) ?? ""
      // one that is being started has no title yet
      if (title.startsWith(`postgres: ${prefix}_`)) known.set(pid, true)
      else if (title !== "" && !title.includes("postgres")) known.set(pid, false)
    }
  }
  return { look, pids: () => [...known].flatMap(([pid, isOne]) => (isOne ? [pid] : [])) }
}

/** Watches a fleet, whose roles at the server have this prefix. */
export const watchMachine = (
  processes: () => ReadonlyArray<{ readonly name: string; readonly pid: number }>,
  prefix: string,
): Machine => {
  const series = new Map<string, Array<Sample>>()
  const sessions = makeSessions(prefix)
  const isReadable = waitedOf(process.pid) !== null
  let looked = -Infinity
  const note = (key: string, pid: number) => {
    const waitedMs = waitedOf(pid)
    if (waitedMs === null) return
    const known = series.get(key)
    const sample = { at: Date.now(), waitedMs }
    if (known === undefined) series.set(key, [sample])
    else known.push(sample)
  }
  const sessionKey = (pid: number) => `session ${pid}`
  const look = () => {
    for (const { name, pid } of processes()) note(name, pid)
    if (performance.now() - looked > sessionsMs) {
      looked = performance.now()
      sessions.look()
    }
    for (const pid of sessions.pids()) note(sessionKey(pid), pid)
  }
  const timer = isReadable ? setInterval(look, everyMs) : undefined
  const waited = (key: string, from: number, to: number) => {
    const samples = series.get(key) ?? []
    return Math.max(0, byThen(samples, to) - byThen(samples, from))
  }
  return {
    waited,
    sessionWaited: (pid, from, to) => waited(sessionKey(pid), from, to),
    watched: (from, to) =>
      [...series].flatMap(([name, samples]) => {
        if (name.startsWith("session ")) return []
        const [first, last] = [samples[0], samples.at(-1)]
        const throughout = first !== undefined && last !== undefined && first.at <= from
        return throughout && last.at >= to ? [name] : []
      }),
    stop: () => clearInterval(timer),
  }
}
