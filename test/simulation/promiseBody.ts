/**
 * Runs programs as workflows of the promise API, watched.
 */
import type { WorkflowContext } from "../../src/promise/context.ts"
import type { StepInfo, TryInfo } from "../../src/promise/step.ts"
import { type AnyWorkflow, defineWorkflow } from "../../src/promise/workflow.ts"
import type { SinkClient, SinkRow } from "./ledger.ts"
import type { Block, Command, Given, Program } from "./program.ts"
import {
  type Answer,
  canary,
  Keys,
  looksOf,
  poison,
  stepKeyOf,
  type Watch,
  type Watched,
} from "./watched.ts"

/** How a transactional step writes through the client that it is handed. */
export type WriteIn = (client: unknown, row: SinkRow) => Promise<unknown> | void

const writeToSink: WriteIn = (client, row) => (client as SinkClient).write(row)

interface Scene {
  readonly watched: Watched
  readonly program: Program
  readonly ctx: WorkflowContext
  /** Its own, or that of its parent that it was told of. */
  readonly runAttempt: number
  readonly keys: Keys
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
  watch: Watch,
  writeIn: WriteIn = writeToSink,
): ReadonlyArray<AnyWorkflow> =>
  program.workflows.map(({ name, block }) =>
    defineWorkflow<Given, string>(name, (ctx, given) => {
      if (given?.secret !== canary) throw new Error("the input is not what was given")
      const watched = watch(ctx)
      const runAttempt = Math.max(ctx.attempt, given.attempt ?? 1)
      const scene = { watched, program, ctx, runAttempt, keys: new Keys(), writeIn }
      return runBlock(scene, block, "").finally(watched.ended)
    }),
  )

const runBlock = async (scene: Scene, block: Block, site: string): Promise<string> => {
  const parts: Array<string> = []
  for (const [index, command] of block.entries()) {
    parts.push(await runCommand(scene, command, `${site}/${index}`))
  }
  return parts.join(" ")
}

/** Asks for an operation, and sees its outcome. */
const see = <T>({ keys, watched }: Scene, name: string, ask: () => Promise<T>): Promise<T> => {
  const key = keys.use(name)
  const heard = ask().then(
    (got) => {
      watched.saw(key, "completed")
      return got
    },
    (error: unknown) => {
      watched.saw(key, "failed")
      throw error
    },
  )
  heard.catch(() => undefined)
  return heard
}

/** One try, watched from its beginning to its end. */
const attempt = async <T>(
  { watched }: Scene,
  what: "step" | "undo",
  info: StepInfo | TryInfo,
  body: (nonce: string) => Promise<T> | T,
): Promise<T> => {
  const { nonce, ended } = await watched.begins(what, info)
  try {
    const got = await body(nonce)
    const told = ended("completed")
    // an undo that is recorded as done must be known to have been
    if (what === "undo") await told
    return got
  } catch (error) {
    void ended("failed")
    throw error
  }
}

/** An error that a store cannot keep whole: what a body sees of it must be the same on replay. */
class StepBroke extends Error {
  readonly site: string
  readonly helper = () => this.site

  constructor(site: string) {
    super(`${site} failed`)
    this.site = site
  }
}

const failed = (name: string) => new StepBroke(name)

/** The workflow of a child, and what it is given. */
const callOf = (
  { program, runAttempt }: Scene,
  { of, again }: { readonly of: number; readonly again?: boolean },
) => {
  const { name = "" } = program.workflows[of] ?? {}
  const given = { secret: canary, ...(again === true ? { attempt: runAttempt } : {}) }
  return [defineWorkflow<Given, string>(name, () => ""), given] as const
}

const runCommand = async (scene: Scene, command: Command, site: string): Promise<string> => {
  const { ctx, keys, watched } = scene
  const named = (answer: Answer): string => {
    watched.note(site, answer.nonce)
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
              if (scene.runAttempt === 1) throw failed(name)
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
      watched.asksSleep(keys.next(name), ms)
      await see(scene, name, () => ctx.sleep(name, ms))
      return name
    }
    case "effect": {
      const { name } = command
      watched.note(site, await see(scene, name, () => ctx.sideEffect(name, () => Math.random())))
      return name
    }
    case "emit":
      await see(scene, command.name, () => ctx.emit(command.name, site))
      return command.name
    case "values": {
      watched.note(`${site} values`, [ctx.now().getTime(), ctx.random(), ctx.uuid()].join())
      const { name } = command
      await see(scene, name, () => ctx.sideEffect(name, () => name))
      return name
    }
    case "event": {
      const { name, ms } = command
      const heard = await see(scene, name, () => ctx.waitForEvent(name, { timeout: ms }))
      watched.note(site, heard.timedOut)
      if (!heard.timedOut) watched.note(`heard ${site}`, heard.payload)
      return `${name}:${heard.timedOut ? "silence" : "heard"}`
    }
    case "child": {
      const { name } = command
      const [called, given] = callOf(scene, command)
      return `[${await see(scene, name, () => ctx.workflow(called, given, { name }))}]`
    }
    case "all": {
      const arms = command.arms.map((arm, i) => runBlock(scene, arm, `${site}|${i}`))
      return `(${(await Promise.all(arms)).join(" & ")})`
    }
    case "race": {
      const arms = command.arms.map((arm, i) =>
        runBlock(scene, arm, `${site}|${i}`).then((got) => `${i}:${got}`),
      )
      watched.note(site, await Promise.race(arms))
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
        watched.note(site, looksOf(error, StepBroke))
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
                  info.heartbeat(watched.beat(info))
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
      const key = keys.next(name)
      const token = await see(scene, name, () => ctx.token(name))
      watched.note(`${site} token`, token)
      if (sent) watched.holdsToken(token)
      const heard = await see(scene, `${key}:answer`, () =>
        ctx.waitForToken(token, { timeout: ms }),
      )
      if (!heard.timedOut && heard.payload !== token) throw new Error("an answer to another token")
      watched.note(site, heard.timedOut)
      return `${name}:${heard.timedOut ? "silence" : "heard"}`
    }
    case "spawn": {
      const { name, abandons, between } = command
      const [called, given] = callOf(scene, command)
      const key = keys.next(name)
      const options = { name, onParentClose: abandons ? "abandon" : "cancel" } as const
      const child = await see(scene, name, () => ctx.startChild(called, given, options))
      watched.note(`${site} child`, child.workflowRunId)
      const meanwhile = await runBlock(scene, between, `${site}b`)
      return `[${meanwhile} ${await see(scene, `${key}.result`, () => child.result())}]`
    }
    case "noReturn":
      await see(scene, command.name, () => ctx.pointOfNoReturn(command.name))
      return command.name
  }
}
