/**
 * Those outside: they trigger, cancel, send events and resume, from any process that is there, and
 * ask again until they have an answer.
 */
import { v4 as uuidv4 } from "uuid"
import { FlowlyError } from "../../src/promise/FlowlyError.ts"
import { isTerminal } from "../../src/Run.ts"
import type { RunRow } from "../../src/WorkflowStore.ts"
import type { Dice } from "../support/dice.ts"
import type { Ledger } from "./ledger.ts"
import { epoch, type Machine, type Process } from "./machine.ts"
import {
  type Block,
  blocksOf,
  type Bulk,
  type Program,
  type ProgramSchedule,
  type Start,
} from "./program.ts"
import type { Acknowledged, AskedSchedule, Heard } from "./scene.ts"
import type { Timeline } from "./timeline.ts"
import { canary } from "./watched.ts"
import type { Node, Workers } from "./workers.ts"

export interface Client {
  readonly acknowledged: ReadonlyArray<Acknowledged>
  readonly cancelled: ReadonlySet<string>
  readonly heard: ReadonlyArray<Heard>
  readonly schedules: ReadonlyMap<string, AskedSchedule>
  /** Every start was confirmed. */
  readonly done: () => boolean
  /** A run that nobody has seen before, or that was revived. */
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
  readonly rows: () => ReadonlyArray<RunRow>
}): Client => {
  const { machine, program, workers, timeline, ledger, rows } = given
  const dice: Dice = machine.dice.fork()
  const acknowledged: Array<Acknowledged> = []
  const cancelled = new Set<string>()
  const confirmed = new Map<string, number>()
  const heard: Array<Heard> = []
  const schedules = new Map<string, AskedSchedule>()
  /** What somebody still waits for. */
  let waits = 0
  const { starts, bulk = [] } = program

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

  const itemOf = ({ key, atMs, maxAttempts, timeoutMs, delayMs = null }: Start) => ({
    input: { secret: canary },
    idempotencyKey: key,
    ...(maxAttempts === null ? {} : { maxAttempts }),
    ...(timeoutMs === null ? {} : { timeoutMs }),
    ...(delayMs === null ? {} : { scheduledFor: new Date(epoch + atMs + delayMs) }),
  })

  const confirm = (start: Start, workflowRunId: string, process: Process): void => {
    timeline.add(process, `${start.key} is ${timeline.name(workflowRunId)}`)
    acknowledged.push({ start, workflowRunId })
  }

  const confirmOnce = (start: Start, workflowRunId: string): void => {
    confirmed.set(start.key, (confirmed.get(start.key) ?? 0) + 1)
    steer(start, workflowRunId)
  }

  const trigger = (start: Start): void => {
    let confirmedHere = false
    untilOver(
      async (node) => {
        const workflowRunId = await node.trigger(start.workflow, {
          ...itemOf(start),
          deadline: 8000,
        })
        confirm(start, workflowRunId, node.process)
        if (confirmedHere) return
        confirmedHere = true
        confirmOnce(start, workflowRunId)
      },
      () => confirmedHere,
    )
  }

  const triggerMany = (batch: ReadonlyArray<Start>): void => {
    const open = new Set(batch)
    untilOver(
      async (node) => {
        const [first] = batch
        if (first === undefined) return
        const ids = await node.triggerMany(first.workflow, batch.map(itemOf), 8000)
        for (const [i, start] of batch.entries()) {
          const workflowRunId = ids[i] as string
          confirm(start, workflowRunId, node.process)
          if (open.delete(start)) confirmOnce(start, workflowRunId)
        }
      },
      () => open.size === 0,
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
      later(retryAfterMs, () => askOf(id, "retries", (engine) => engine.retryDeadLetter(id)))
    }
    const { fork = null } = start
    if (fork !== null) {
      const newRunId = uuidv4()
      const { position } = fork
      const from = position === null ? {} : { from: { position } }
      waits++
      later(fork.afterMs, () =>
        askOf(id, `forks ${timeline.name(newRunId)} from`, async (engine) => {
          await engine.fork(id, { ...from, newRunId })
          if (newRunId === waiting.get(newRunId)) waits--
          waiting.delete(newRunId)
        }),
      )
      waiting.set(newRunId, newRunId)
    }
    if (start.watched === true) watch(start, id)
  }

  const waiting = new Map<string, string>()

  /** One process waits, as long as it takes. */
  const watch = (start: Start, workflowRunId: string): void => {
    const { process, result } = workers.client
    waits++
    const ask = () =>
      machine.task(process, () => {
        result(start.workflow, workflowRunId).then(
          ({ status, value }) => {
            waits--
            timeline.add(process, `hears that ${timeline.name(workflowRunId)} is ${status}`)
            return heard.push({ workflowRunId, status, result: value })
          },
          () => machine.after(machine.nature, 200, ask),
        )
      })
    ask()
  }

  const askAll = ({ verb, workflow }: Bulk): void => {
    const name = program.workflows[workflow]?.name ?? ""
    const filter = { workflow: name }
    if (verb === "cancel") {
      cancelledWorkflows.add(name)
      for (const one of rows()) if (one.workflow === name) cancelled.add(one.workflowRunId)
    }
    let answered = false
    untilOver(
      async ({ engine, process }) => {
        timeline.add(process, `asks all of ${name} to ${verb}`)
        await {
          cancel: () => engine.cancelMany(filter),
          pause: () => engine.pauseMany(filter),
          resume: () => engine.resumeMany(filter),
          retry: () => engine.retryMany(filter),
        }[verb]()
        answered = true
      },
      () => answered,
    )
  }

  const cancelledWorkflows = new Set<string>()

  const say = (schedule: ProgramSchedule, asked: AskedSchedule): void => {
    const { key, workflow, everyMin } = schedule
    let answered = false
    untilOver(
      async (node) => {
        if (machine.now >= schedule.untilMs) return void (answered = true)
        await node.schedule(workflow, { cron: `*/${everyMin} * * * *`, key })
        asked.sinceMs ??= epoch + machine.now
        answered = true
      },
      () => answered,
    )
  }

  const unsay = ({ key }: ProgramSchedule, asked: AskedSchedule): void => {
    asked.untilMs = epoch + machine.now
    let answered = false
    waits++
    untilOver(
      async ({ engine }) => {
        await engine.unschedule(key)
        if (!answered) waits--
        answered = true
      },
      () => answered,
    )
  }

  const send = (workflowRunId: string, name: string, id: string): void => {
    let answered = false
    untilOver(
      async ({ engine }) => {
        await engine.sendEvent(workflowRunId, name, id, { id }).catch(isAnswer)
        answered = true
      },
      () => answered || isOver(workflowRunId),
    )
  }

  const isOver = (workflowRunId: string): boolean => {
    const status = rows().find((row) => row.workflowRunId === workflowRunId)?.status
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

  for (const schedule of program.schedules ?? []) {
    const { key, everyMin, atMs, againMs, untilMs } = schedule
    const asked: AskedSchedule = { everyMs: everyMin * 60_000, sinceMs: null, untilMs: null }
    schedules.set(key, asked)
    for (const at of againMs === null ? [atMs] : [atMs, againMs]) {
      machine.after(machine.nature, at, () => say(schedule, asked))
    }
    // what was said to the store before is answered, or lost, by then
    machine.after(machine.nature, untilMs, () => unsay(schedule, asked))
  }
  for (const one of bulk) machine.after(machine.nature, one.atMs, () => askAll(one))
  const batches = new Map<number, Array<Start>>()
  for (const start of starts) {
    if (start.batch == null) continue
    batches.set(start.batch, [...(batches.get(start.batch) ?? []), start])
  }
  for (const batch of batches.values()) {
    const times = Math.max(...batch.map(({ triggers }) => triggers))
    for (let i = 0; i < times; i++) {
      const some = batch.filter(({ triggers }) => triggers > i)
      machine.after(machine.nature, (batch[0] as Start).atMs + i, () => triggerMany(some))
    }
  }
  for (const start of starts) {
    if (start.batch != null) continue
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
    heard,
    schedules,
    done: () => waits === 0 && starts.every(({ key, triggers }) => confirmed.get(key) === triggers),
    onNewRun: (row) => {
      if (cancelledWorkflows.has(row.workflow)) cancelled.add(row.workflowRunId)
      sendEventsTo(row)
    },
  }
}

/** Events that a block waits for, and how often at most. */
const eventsOf = (block: Block, times: number): ReadonlyArray<readonly [string, number]> =>
  block.flatMap((command): ReadonlyArray<readonly [string, number]> => {
    if (command.is === "event") return command.sent ? [[command.name, times]] : []
    const often = command.is === "loop" ? times * command.times : times
    return blocksOf(command).flatMap((inside) => eventsOf(inside, often))
  })
