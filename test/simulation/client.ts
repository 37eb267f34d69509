/**
 * Those outside: they trigger, cancel, send events and resume, from any process that is there, and
 * ask again until they have an answer.
 */
import { FlowlyError } from "../../src/promise/FlowlyError.ts"
import { isTerminal } from "../../src/Run.ts"
import type { RunRow } from "../../src/WorkflowStore.ts"
import type { Dice } from "../support/dice.ts"
import type { Ledger } from "./ledger.ts"
import type { Machine } from "./machine.ts"
import { type Block, blocksOf, type Program, type Start } from "./program.ts"
import { canary } from "./promiseBody.ts"
import type { Acknowledged } from "./scene.ts"
import type { Timeline } from "./timeline.ts"
import type { Node, Workers } from "./workers.ts"

export interface Client {
  readonly acknowledged: ReadonlyArray<Acknowledged>
  readonly cancelled: ReadonlySet<string>
  /** Every start was confirmed. */
  readonly done: () => boolean
  /** A run that nobody has seen before. */
  readonly onNewRun: (row: RunRow) => void
}

/** How long one waits before one asks somebody else. */
const patienceMs = 9000

export const makeClient = (given: {
  readonly machine: Machine
  readonly program: Program
  readonly workers: Workers
  readonly timeline: Timeline
  readonly ledger: Ledger
  readonly row: (workflowRunId: string) => RunRow | null
}): Client => {
  const { machine, program, workers, timeline, ledger, row } = given
  const dice: Dice = machine.dice.fork()
  const acknowledged: Array<Acknowledged> = []
  const cancelled = new Set<string>()
  const confirmed = new Map<string, number>()
  const { starts } = program

  const somebody = (): Node => {
    const started = workers.alive().filter(({ started: is }) => is)
    return dice.pick([workers.client, ...started])
  }

  /** Asks one process after the other, until `over`. */
  const untilOver = (ask: (node: Node) => Promise<unknown>, over: () => boolean): void => {
    if (over()) return
    const node = somebody()
    let again = machine.after(machine.nature, patienceMs, () => untilOver(ask, over))
    const sooner = () => {
      again()
      again = machine.after(machine.nature, dice.whole(50, 500), () => untilOver(ask, over))
    }
    machine.task(node.process, () => {
      ask(node).then(
        () => (over() ? again() : undefined),
        () => sooner(),
      )
    })
  }

  const trigger = (start: Start): void => {
    let confirmedHere = false
    untilOver(
      async (node) => {
        const workflow = node.workflows[start.workflow]
        if (workflow === undefined) throw new Error("no such workflow")
        const handle = await node.engine.trigger(workflow, {
          input: { secret: canary },
          idempotencyKey: start.key,
          ...(start.maxAttempts === null ? {} : { maxAttempts: start.maxAttempts }),
          ...(start.timeoutMs === null ? {} : { timeoutMs: start.timeoutMs }),
          deadline: 8000,
        })
        const { workflowRunId } = handle
        timeline.add(node.process, `${start.key} is ${timeline.name(workflowRunId)}`)
        acknowledged.push({ start, workflowRunId })
        if (confirmedHere) return
        confirmedHere = true
        confirmed.set(start.key, (confirmed.get(start.key) ?? 0) + 1)
        steer(start, workflowRunId)
      },
      () => confirmedHere,
    )
  }

  /** Answers whether a refusal is an answer, too. */
  const isAnswer = (error: unknown): boolean => {
    if (error instanceof FlowlyError && !error.retryable && error.code === "RunStateConflict") {
      return true
    }
    throw error
  }

  /** Asks one thing of a run, until it is answered. */
  const askOf = (
    workflowRunId: string,
    what: string,
    ask: (engine: Node["engine"]) => Promise<unknown>,
  ): void => {
    let answered = false
    untilOver(
      async ({ engine, process }) => {
        timeline.add(process, `${what} ${timeline.name(workflowRunId)}`)
        await ask(engine).catch(isAnswer)
        answered = true
      },
      () => answered,
    )
  }

  const steer = (start: Start, id: string): void => {
    const { cancel, pause, terminateAfterMs, retryAfterMs } = start
    const later = (ms: number, f: () => void) => machine.after(machine.nature, ms, f)
    if (cancel !== null) {
      const { compensate } = cancel
      later(cancel.afterMs, () => {
        cancelled.add(id)
        askOf(id, "cancels", (engine) => engine.cancel(id, { compensate }))
      })
    }
    if (terminateAfterMs !== null) {
      later(terminateAfterMs, () => {
        cancelled.add(id)
        askOf(id, "terminates", (engine) => engine.terminate(id))
      })
    }
    if (pause !== null) {
      later(pause.afterMs, () => askOf(id, "pauses", (engine) => engine.pause(id)))
      later(pause.afterMs + pause.forMs, () => askOf(id, "resumes", (engine) => engine.resume(id)))
    }
    if (retryAfterMs !== null) {
      later(retryAfterMs, () =>
        askOf(id, "retries", async (engine) => {
          await engine.retryDeadLetter(id)
          const revived = row(id)
          // events that found the run ended were refused
          if (revived !== null) sendEventsTo(revived)
        }),
      )
    }
  }

  const send = (workflowRunId: string, name: string, id: string): void => {
    let answered = false
    untilOver(
      async ({ engine }) => {
        await engine.sendEvent(workflowRunId, name, name, { id }).catch(isAnswer)
        answered = true
      },
      () => answered || isOver(workflowRunId),
    )
  }

  const isOver = (workflowRunId: string): boolean => {
    const status = row(workflowRunId)?.status
    return status !== undefined && isTerminal(status)
  }

  const sendEventsTo = ({ workflowRunId, workflow }: RunRow): void => {
    const block = program.workflows.find(({ name }) => name === workflow)?.block ?? []
    // all about at once, or each when it comes
    const burstMs = dice.chance(0.5) ? dice.whole(0, 10_000) : null
    for (const [name, times] of eventsOf(block, 1)) {
      for (let i = 0; i < times; i++) {
        const soon = dice.chance(0.3) ? 0 : dice.whole(0, 10_000)
        const ms = burstMs === null ? soon : burstMs + dice.whole(0, 100)
        machine.after(machine.nature, ms, () => send(workflowRunId, name, `${name}:${i}`))
      }
    }
  }

  for (const start of starts) {
    for (let i = 0; i < start.triggers; i++) {
      machine.after(machine.nature, start.atMs + i * dice.whole(0, 3), () => trigger(start))
    }
  }

  // somebody reads of it, and answers: soon, or when the run has long gone to sleep
  ledger.tokenListeners.push(({ workflowRunId, token }) => {
    const ms = dice.chance(0.3) ? 0 : dice.whole(0, 10_000)
    machine.after(machine.nature, ms, () => {
      let answered = false
      untilOver(
        async ({ engine }) => {
          await engine.resolveToken(token, token).catch(isAnswer)
          answered = true
        },
        () => answered || isOver(workflowRunId),
      )
    })
  })

  return {
    acknowledged,
    cancelled,
    done: () => starts.every(({ key, triggers }) => confirmed.get(key) === triggers),
    onNewRun: sendEventsTo,
  }
}

/** Events that a block waits for, and how often at most. */
const eventsOf = (block: Block, times: number): ReadonlyArray<readonly [string, number]> =>
  block.flatMap((command): ReadonlyArray<readonly [string, number]> => {
    if (command.is === "event") return command.sent ? [[command.name, times]] : []
    const often = command.is === "loop" ? times * command.times : times
    return blocksOf(command).flatMap((inside) => eventsOf(inside, often))
  })
