/**
 * Runs programs as workflows of the promise API, watched by the ledger.
 */
import type { WorkflowContext } from "../../src/promise/context.ts"
import type { StepInfo, TryInfo } from "../../src/promise/step.ts"
import { type AnyWorkflow, defineWorkflow } from "../../src/promise/workflow.ts"
import type { BodyExecution, Ledger, SinkClient, SinkRow } from "./ledger.ts"
import type { Machine } from "./machine.ts"
import type { Block, Command, Program } from "./program.ts"

/** A secret in every input: it must not show where people look. */
export const canary = "canary-7f3a"

/** What the store refuses, wherever it stands in a batch. */
export const poison = "a value that the store refuses"

/** How a transactional step writes through the client that it is handed. */
export type WriteIn = (client: unknown, row: SinkRow) => Promise<void> | void

const writeToSink: WriteIn = (client, row) => (client as SinkClient).write(row)

interface Scene {
  readonly machine: Machine
  readonly ledger: Ledger
  readonly program: Program
  readonly ctx: WorkflowContext
  readonly execution: BodyExecution
  readonly uses: Map<string, number>
  readonly writeIn: WriteIn
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const untilAborted = (signal: AbortSignal, ms: number): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new Error("aborted"))
    const timer = setTimeout(resolve, ms)
    signal.addEventListener("abort", () => {
      clearTimeout(timer)
      reject(new Error("aborted"))
    })
  })

/** The workflows of a program. */
export const promiseWorkflows = (
  program: Program,
  machine: Machine,
  ledger: Ledger,
  writeIn: WriteIn = writeToSink,
): ReadonlyArray<AnyWorkflow> =>
  program.workflows.map(({ name, block }) =>
    defineWorkflow<any, string>(name, (ctx, given) => {
      const execution: BodyExecution = {
        workflowRunId: ctx.workflowRunId,
        attempt: ctx.attempt,
        process: machine.current,
        seen: [],
        notes: new Map(),
        ended: false,
      }
      if (given?.secret !== canary) throw new Error("the input is not what was given")
      ledger.executions.push(execution)
      const scene = { machine, ledger, program, ctx, execution, uses: new Map(), writeIn }
      return runBlock(scene, block, "").finally(() => {
        execution.ended = true
      })
    }),
  )

const runBlock = async (scene: Scene, block: Block, site: string): Promise<string> => {
  const parts: Array<string> = []
  for (const [index, command] of block.entries()) {
    parts.push(await runCommand(scene, command, `${site}/${index}`))
  }
  return parts.join(" ")
}

/** The key that the next use of the name has. */
const keyOf = (scene: Scene, name: string): string => {
  const used = (scene.uses.get(name) ?? 0) + 1
  return used === 1 ? name : `${name}#${used}`
}

/** Asks for an operation, and sees its outcome. */
const see = <T>(scene: Scene, name: string, ask: () => Promise<T>): Promise<T> => {
  const key = keyOf(scene, name)
  scene.uses.set(name, (scene.uses.get(name) ?? 0) + 1)
  const heard = ask().then(
    (got) => {
      scene.execution.seen.push(`${key} completed`)
      return got
    },
    (error: unknown) => {
      scene.execution.seen.push(`${key} failed`)
      throw error
    },
  )
  heard.catch(() => undefined)
  return heard
}

const note = (scene: Scene, site: string, what: unknown) =>
  scene.execution.notes.set(site, String(what))

const stepKeyOf = ({ workflowRunId, idempotencyKey }: StepInfo): string =>
  idempotencyKey.slice(workflowRunId.length + 1).replace(/:compensate$/, "")

/** One try, in the ledger from its beginning to its end. */
const attempt = async <T>(
  scene: Scene,
  what: "step" | "undo",
  info: StepInfo | TryInfo,
  body: (nonce: string) => Promise<T> | T,
): Promise<T> => {
  const { ledger, machine, ctx } = scene
  const one = ledger.begin({
    what,
    workflowRunId: info.workflowRunId,
    stepKey: stepKeyOf(info),
    attempt: info.attempt,
    runAttempt: ctx.attempt,
    process: machine.current,
    beganAt: machine.now,
    ...("lastHeartbeat" in info ? { lastHeartbeat: info.lastHeartbeat } : {}),
  })
  try {
    const got = await body(one.nonce)
    one.end = "completed"
    return got
  } catch (error) {
    one.end = "failed"
    throw error
  } finally {
    one.endedAt = machine.now
  }
}

/** An error that a store cannot keep whole: what a body sees of it must be the same on replay. */
export class StepBroke extends Error {
  readonly site: string
  readonly helper = () => this.site

  constructor(site: string) {
    super(`${site} failed`)
    this.site = site
  }
}

const failed = (name: string) => new StepBroke(name)

/** All that a body could tell of an error. */
const looksOf = (error: unknown): string => {
  const { message, name, cause } = error as Error
  const { helper } = error as Partial<StepBroke>
  const looks = [error instanceof StepBroke, typeof helper, name, message, cause !== undefined]
  return looks.join().replaceAll(/[0-9a-f-]{36}/g, "(id)")
}

/** What steps answer with: the try that it came from can be told. */
interface Answer {
  readonly name: string
  readonly nonce: string
}

const runCommand = async (scene: Scene, command: Command, site: string): Promise<string> => {
  const { ctx, ledger, machine } = scene
  const named = (answer: Answer): string => {
    note(scene, site, answer.nonce)
    return answer.name
  }
  switch (command.is) {
    case "step": {
      const { name, ms, undoFails, undoMs, heeds } = command
      const compensate = (answer: Answer, info: StepInfo) =>
        attempt(scene, "undo", info, async () => {
          await pause(undoMs)
          if (answer.name !== name) throw new Error(`the undo of ${name} got ${answer.name}`)
          if (info.attempt <= (undoFails ?? 0)) throw failed(`undo of ${name}`)
        })
      return named(
        await see(scene, name, () =>
          ctx.step(name, {
            run: (info) =>
              attempt(scene, "step", info, async (nonce): Promise<Answer> => {
                if (ms > 0) await (heeds ? untilAborted(info.signal, ms) : pause(ms))
                return { name, nonce }
              }),
            ...(undoFails === null ? {} : { compensate }),
          }),
        ),
      )
    }
    case "flaky": {
      const { name, fails, tries, waitMs } = command
      return named(
        await see(scene, name, () =>
          ctx.step(name, {
            run: (info) =>
              attempt(scene, "step", info, (nonce): Answer => {
                if (info.attempt <= fails) throw failed(name)
                return { name, nonce }
              }),
            retry: { maxAttempts: tries, initialDelayMs: waitMs, backoff: "fixed" },
          }),
        ),
      )
    }
    case "shaky": {
      const { name } = command
      return named(
        await see(scene, name, () =>
          ctx.step(name, (info) =>
            attempt(scene, "step", info, (nonce): Answer => {
              if (ctx.attempt === 1) throw failed(name)
              return { name, nonce }
            }),
          ),
        ),
      )
    }
    case "refused": {
      const { name } = command
      await see(scene, name, () =>
        ctx.step(name, (info) =>
          attempt(scene, "step", info, (nonce) => ({ name: poison, nonce })),
        ),
      )
      return name
    }
    case "sleep": {
      const { name, ms } = command
      const stepKey = keyOf(scene, name)
      const { workflowRunId } = ctx
      ledger.askSleep({ workflowRunId, stepKey, at: machine.now, ms, process: machine.current })
      await see(scene, name, () => ctx.sleep(name, ms))
      return name
    }
    case "effect": {
      const { name } = command
      note(scene, site, await see(scene, name, () => ctx.sideEffect(name, () => Math.random())))
      return name
    }
    case "emit":
      await see(scene, command.name, () => ctx.emit(command.name, site))
      return command.name
    case "values": {
      note(scene, `${site} values`, [ctx.now().getTime(), ctx.random(), ctx.uuid()].join())
      const { name } = command
      await see(scene, name, () => ctx.sideEffect(name, () => name))
      return name
    }
    case "event": {
      const { name, ms } = command
      const heard = await see(scene, name, () => ctx.waitForEvent(name, { timeout: ms }))
      note(scene, site, heard.timedOut)
      if (!heard.timedOut) note(scene, `heard ${site}`, heard.payload)
      return `${name}:${heard.timedOut ? "silence" : "heard"}`
    }
    case "child": {
      const of = scene.program.workflows[command.of]?.name ?? ""
      const called = defineWorkflow<any, string>(of, () => "")
      const { name } = command
      return `[${await see(scene, name, () => ctx.workflow(called, { secret: canary }, { name }))}]`
    }
    case "all": {
      const arms = command.arms.map((arm, i) => runBlock(scene, arm, `${site}|${i}`))
      return `(${(await Promise.all(arms)).join(" & ")})`
    }
    case "race": {
      const arms = command.arms.map((arm, i) =>
        runBlock(scene, arm, `${site}|${i}`).then((got) => `${i}:${got}`),
      )
      note(scene, site, await Promise.race(arms))
      return `<${command.name}>`
    }
    case "loop": {
      const rounds: Array<string> = []
      for (let i = 0; i < command.times; i++) {
        rounds.push(await runBlock(scene, command.block, `${site}@${i}`))
      }
      return `{${rounds.join(", ")}}`
    }
    case "try":
      try {
        return await runBlock(scene, command.block, `${site}t`)
      } catch (error) {
        note(scene, site, looksOf(error))
        return `caught ${await runBlock(scene, command.rescue, `${site}c`)}`
      }
    case "throw":
      throw new Error(command.message)
    case "limited": {
      const { name, timeoutMs, late, tries, heeds, undo } = command
      const compensate = (_: Answer | undefined, info: StepInfo) =>
        attempt(scene, "undo", info, () => pause(1))
      return named(
        await see(scene, name, () =>
          ctx.step(name, {
            run: (info) =>
              attempt(scene, "step", info, async (nonce): Promise<Answer> => {
                const ms = info.attempt <= late ? timeoutMs * 4 : 1
                await (heeds ? untilAborted(info.signal, ms) : pause(ms))
                return { name, nonce }
              }),
            timeoutMs,
            retry: { maxAttempts: tries, initialDelayMs: 20, backoff: "fixed" },
            ...(undo === "none" ? {} : { compensate }),
            ...(undo === "unknown" ? { compensateOnUnknown: true } : {}),
          }),
        ),
      )
    }
    case "deadline": {
      const { name, deadlineMs, waitMs } = command
      return named(
        await see(scene, name, () =>
          ctx.step(name, {
            run: (info): Promise<Answer> =>
              attempt(scene, "step", info, () => {
                throw failed(name)
              }),
            deadlineMs,
            retry: { maxAttempts: 10_000, initialDelayMs: waitMs, backoff: "fixed" },
          }),
        ),
      )
    }
    case "beats": {
      const { name, beats, everyMs, stalls } = command
      return named(
        await see(scene, name, () =>
          ctx.step(name, {
            run: (info) =>
              attempt(scene, "step", info, async (nonce): Promise<Answer> => {
                for (let i = 0; i < beats; i++) {
                  info.heartbeat(ledger.beat(info.workflowRunId, stepKeyOf(info)))
                  await pause(everyMs)
                }
                if (info.attempt <= stalls) await untilAborted(info.signal, 600_000)
                return { name, nonce }
              }),
            heartbeatTimeoutMs: everyMs * 3 + 100,
            retry: { maxAttempts: 60, initialDelayMs: 20, backoff: "fixed" },
          }),
        ),
      )
    }
    case "transaction": {
      const { name, ms, fails, tries } = command
      return named(
        await see(scene, name, () =>
          ctx.transaction<Answer, unknown>(
            name,
            (client, info) =>
              attempt(scene, "step", info, async (nonce) => {
                const { workflowRunId } = info
                await scene.writeIn(client, { workflowRunId, stepKey: stepKeyOf(info), nonce })
                if (ms > 0) await pause(ms)
                if (info.attempt <= fails) throw failed(name)
                return { name, nonce }
              }),
            { retry: { maxAttempts: tries, initialDelayMs: 20, backoff: "fixed" } },
          ),
        ),
      )
    }
    case "token": {
      const { name, ms, sent } = command
      const key = keyOf(scene, name)
      const token = await see(scene, name, () => ctx.token(name))
      note(scene, `${site} token`, token)
      const { workflowRunId } = ctx
      if (sent) ledger.issueToken({ workflowRunId, token })
      const heard = await see(scene, `${key}:answer`, () =>
        ctx.waitForToken(token, { timeout: ms }),
      )
      if (!heard.timedOut && heard.payload !== token) throw new Error("an answer to another token")
      note(scene, site, heard.timedOut)
      return `${name}:${heard.timedOut ? "silence" : "heard"}`
    }
    case "spawn": {
      const of = scene.program.workflows[command.of]?.name ?? ""
      const called = defineWorkflow<any, string>(of, () => "")
      const { name, abandons, between } = command
      const key = keyOf(scene, name)
      const options = { name, onParentClose: abandons ? "abandon" : "cancel" } as const
      const child = await see(scene, name, () =>
        ctx.startChild(called, { secret: canary }, options),
      )
      note(scene, `${site} child`, child.workflowRunId)
      const meanwhile = await runBlock(scene, between, `${site}b`)
      return `[${meanwhile} ${await see(scene, `${key}.result`, () => child.result())}]`
    }
    case "noReturn":
      await see(scene, command.name, () => ctx.pointOfNoReturn(command.name))
      return command.name
  }
}
