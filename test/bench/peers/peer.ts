/** What is asked of each system: runs of three steps, a latency, a long run. */

export interface Options {
  readonly url: string
  readonly concurrency: number
}

export interface Peer {
  /** SQL of the number of runs (or jobs) that are not finished. */
  readonly remaining: string
  /** A process that only enqueues. */
  readonly client: (options: Options) => Promise<Client>
  /** A process that works. */
  readonly worker: (options: Options) => Promise<WorkerSide>
}

export interface Client {
  readonly enqueue: (runs: number) => Promise<void>
  readonly close: () => Promise<void>
}

export interface WorkerSide {
  /** Begins to work on what is enqueued. */
  readonly start: () => Promise<void>
  /** From the start of a run of one step, in this process, to its result. */
  readonly latency: (n: number) => Promise<void>
  /** One run of so many sequential steps; not for systems without steps. */
  readonly sequence?: (steps: number) => Promise<void>
  readonly close: () => Promise<void>
}

/** In portions: no system is asked for ten thousand things at once. */
export const inPortions = async (
  count: number,
  size: number,
  start: (n: number) => Promise<unknown>,
): Promise<void> => {
  for (let from = 0; from < count; from += size) {
    const length = Math.min(size, count - from)
    await Promise.all(Array.from({ length }, (_, at) => start(from + at)))
  }
}
