/** Counts what a working process completes: when, and with how much CPU so far. */

export interface Meter {
  readonly done: () => void
  readonly fail: (error: unknown) => void
}

/** Something that works, in a process that does nothing else. */
export interface Working {
  readonly start: () => Promise<void>
  readonly close: () => Promise<void>
}

/** What a process has done. Times are milliseconds since the epoch, comparable between processes. */
export interface Report {
  readonly startedAt: number
  readonly times: ReadonlyArray<number>
  /** Process CPU in microseconds, after every 16th completion. */
  readonly cpu: ReadonlyArray<readonly [completed: number, microseconds: number]>
}

export const now = (): number => performance.timeOrigin + performance.now()

const cpuMicroseconds = (): number => {
  const { user, system } = process.cpuUsage()
  return user + system
}

export const makeMeter = (onFail: (error: unknown) => void) => {
  const times: Array<number> = []
  const cpu: Array<readonly [number, number]> = []
  let startedAt = 0
  return {
    meter: {
      done: () => {
        times.push(now())
        if (times.length % 16 === 0) cpu.push([times.length, cpuMicroseconds()])
      },
      fail: onFail,
    } satisfies Meter,
    begin: () => {
      startedAt = now()
    },
    count: () => times.length,
    report: (): Report => ({ startedAt, times, cpu }),
  }
}
