/**
 * Those outside: they start runs, as many as are wanted at once, cancel, pause and retry some, and send
 * the events that programs wait for; and they ask again until they are answered.
 */
import { DurableEngine, FlowlyError } from "../../src/index.ts"
import { commandsOf, type Program, type Start } from "../simulation/program.ts"
import type { Dice } from "../support/dice.ts"
import { canary } from "../simulation/watched.ts"
import { workflowsOf } from "./body.ts"

/** A start that was confirmed. */
export interface Acknowledged {
  readonly start: Start
  readonly workflowRunId: string
}

export interface Client {
  readonly acknowledged: ReadonlyArray<Acknowledged>
  /** Runs that somebody asked to cancel, or may have. */
  readonly cancelled: ReadonlySet<string>
  /** Starts whose triggering has begun. */
  readonly begun: () => number
  /** Starts that were confirmed at least once. */
  readonly confirmed: () => number
  /** Begins another start. */
  readonly start: () => void
  /** Every start was confirmed, every request answered. */
  readonly settled: () => boolean
  /** Sends what runs that were not seen before wait for. */
  readonly serve: (runs: ReadonlyArray<{ readonly id: string; readonly workflow: string }>) => void
  /** Lifts pauses that nobody else will. */
  readonly resume: (runs: ReadonlyArray<string>) => Promise<void>
  readonly stop: () => Promise<void>
}

export const makeClient = (given: {
  readonly url: string
  readonly workload: Program
  readonly dice: Dice
  readonly tell: (who: string, what: string) => void
}): Client => {
  const { url, workload, dice, tell } = given
  const quiet = () => undefined
  const workflows = workflowsOf(workload, null)
  const engine = new DurableEngine({
    url,
    workflows,
    worker: { pollIntervalMs: 200 },
    logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
  })
  const acknowledged: Array<Acknowledged> = []
  const cancelled = new Set<string>()
  const confirmed = new Set<string>()
  const served = new Set<string>()
  const lifted = new Set<string>()
  const timers = new Set<NodeJS.Timeout>()
  let open = 0
  let next = 0
  const state = { stopped: false }

  const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

  /** Until there is an answer; a refusal is one, too. */
  const ask = async (what: () => Promise<unknown>): Promise<void> => {
    open++
    try {
      while (!state.stopped) {
        try {
          await what()
          return
        } catch (error) {
          const isAnswer =
            error instanceof FlowlyError && !error.retryable && error.code === "RunStateConflict"
          if (isAnswer) return
          await pause(100)
        }
      }
    } finally {
      open--
    }
  }

  const later = (ms: number, act: () => void) => {
    open++
    const timer = setTimeout(() => {
      timers.delete(timer)
      open--
      act()
    }, ms)
    timers.add(timer)
  }

  const workloadNameOf = ({ workflow }: Start) => workload.workflows[workflow]?.name ?? ""

  const steer = (start: Start, id: string): void => {
    const { cancel, pause: pauses, terminateAfterMs, retryAfterMs } = start
    const askOf = (what: string, verb: () => Promise<unknown>) => {
      tell("client", `${what} ${id}`)
      void ask(verb)
    }
    // what the simulation does within seconds of its own
    const soon = (ms: number) => ms / 3
    if (cancel !== null) {
      const { compensate } = cancel
      later(soon(cancel.afterMs), () => {
        cancelled.add(id)
        askOf("cancels", () => engine.cancel(id, { compensate }))
      })
    }
    if (terminateAfterMs !== null) {
      later(soon(terminateAfterMs), () => {
        cancelled.add(id)
        askOf("terminates", () => engine.terminate(id))
      })
    }
    if (pauses !== null) {
      later(soon(pauses.afterMs), () => askOf("pauses", () => engine.pause(id)))
      later(soon(pauses.afterMs + pauses.forMs), () => askOf("resumes", () => engine.resume(id)))
    }
    if (retryAfterMs !== null) {
      later(soon(retryAfterMs), () =>
        askOf("retries", async () => {
          await engine.retryDeadLetter(id)
          // events that found the run ended were refused
          served.delete(id)
          serve([{ id, workflow: workloadNameOf(start) }])
        }),
      )
    }
  }

  const trigger = (start: Start): void => {
    const workflow = workflows[start.workflow]
    if (workflow === undefined) return
    let steered = false
    for (let i = 0; i < start.triggers; i++) {
      void ask(async () => {
        const { workflowRunId } = await engine.trigger(workflow, {
          input: { secret: canary },
          idempotencyKey: start.key,
          ...(start.maxAttempts === null ? {} : { maxAttempts: start.maxAttempts }),
          ...(start.timeoutMs === null ? {} : { timeoutMs: start.timeoutMs }),
          deadline: 8000,
        })
        acknowledged.push({ start, workflowRunId })
        confirmed.add(start.key)
        if (steered) return
        steered = true
        steer(start, workflowRunId)
      })
    }
  }

  const serve: Client["serve"] = (runs) => {
    for (const { id, workflow } of runs) {
      if (served.has(id)) continue
      served.add(id)
      const block = workload.workflows.find(({ name }) => name === workflow)?.block ?? []
      for (const [name, times] of eventsOf(block)) {
        for (let i = 0; i < times; i++) {
          later(dice.chance(0.3) ? 0 : dice.whole(0, 3000), () => {
            const send = () => engine.sendEvent(id, name, `${name}:${i}`, { id: `${name}:${i}` })
            void ask(send)
          })
        }
      }
    }
  }

  return {
    acknowledged,
    cancelled,
    begun: () => next,
    confirmed: () => confirmed.size,
    start: () => {
      const start = workload.starts[next]
      if (start === undefined) return
      next++
      trigger(start)
    },
    settled: () => open === 0,
    serve,
    resume: async (runs) => {
      for (const id of runs) {
        if (lifted.has(id) || open > 0) continue
        lifted.add(id)
        tell("client", `resumes ${id}`)
        void ask(() => engine.resume(id))
      }
    },
    stop: async () => {
      state.stopped = true
      for (const timer of timers) clearTimeout(timer)
      await engine.stop()
    },
  }
}

/** Events that a block waits for, and how often at most: each site is in at most three loops. */
const eventsOf = (
  block: Program["workflows"][number]["block"],
): ReadonlyArray<readonly [string, number]> =>
  commandsOf(block).flatMap((command) =>
    command.is === "event" && command.sent ? [[command.name, mostUses(block, command.name)]] : [],
  )

const mostUses = (block: Program["workflows"][number]["block"], name: string): number => {
  let most = 0
  for (const command of block) {
    if (command.is === "event" && command.name === name) most = Math.max(most, 1)
    if (command.is === "loop") most = Math.max(most, command.times * mostUses(command.block, name))
    if (command.is === "all" || command.is === "race") {
      for (const arm of command.arms) most = Math.max(most, mostUses(arm, name))
    }
    if (command.is === "try") {
      most = Math.max(most, mostUses(command.block, name), mostUses(command.rescue, name))
    }
  }
  return most
}
