/** Runs programs as workflows of the promise API, watched by the witness. */
import { randomBytes } from "node:crypto"
import { type AnyWorkflow, defineWorkflow, type WorkflowContext } from "../../src/index.ts"
import type { Block, Command, Program } from "../simulation/program.ts"
import { canary } from "../simulation/promiseBody.ts"
import type { Told, Witness } from "./witness.ts"

/** What is common to a body's information about its try. */
interface Info {
  readonly workflowRunId: string
  readonly idempotencyKey: string
  readonly attempt: number
  readonly signal: AbortSignal
}

interface Scene {
  readonly witness: Witness
  readonly program: Program
  readonly ctx: WorkflowContext
  readonly execution: string
  readonly uses: Map<string, number>
}

/** What steps answer with: the try that it came from can be told. */
interface Answer {
  readonly name: string
  readonly nonce: string
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const untilAborted = (signal: AbortSignal, ms: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener("abort", () => {
      clearTimeout(timer)
      reject(new Error("aborted"))
    })
  })

/** The workflows of a program. Without a witness they can be triggered, and no more. */
export const workflowsOf = (
  program: Program,
  witness: Witness | null,
): ReadonlyArray<AnyWorkflow> =>
  program.workflows.map(({ name, block }) =>
    defineWorkflow<any, string>(name, async (ctx, given) => {
      if (witness === null) throw new Error("this process executes nothing")
      if (given?.secret !== canary) throw new Error("the input is not what was given")
      const execution = randomBytes(6).toString("base64url")
      const scene = { witness, program, ctx, execution, uses: new Map() }
      tell(scene, "begun", "", "")
      return runBlock(scene, block, "")
    }),
  )

const tell = (scene: Scene, kind: Told["kind"], site: string, value: string): void => {
  const { ctx, execution, witness } = scene
  witness.tell({ execution, run: ctx.workflowRunId, attempt: ctx.attempt, kind, site, value })
}

const note = (scene: Scene, site: string, what: unknown) => tell(scene, "note", site, String(what))

const runBlock = async (scene: Scene, block: Block, site: string): Promise<string> => {
  const parts: Array<string> = []
  for (const [index, command] of block.entries()) {
    parts.push(await runCommand(scene, command, `${site}/${index}`))
  }
  return parts.join(" ")
}

const useOf = (scene: Scene, name: string): string => {
  const used = (scene.uses.get(name) ?? 0) + 1
  return used === 1 ? name : `${name}#${used}`
}

/** Asks for an operation, and sees its outcome. */
const see = <T>(scene: Scene, name: string, ask: () => Promise<T>): Promise<T> => {
  const key = useOf(scene, name)
  scene.uses.set(name, (scene.uses.get(name) ?? 0) + 1)
  const heard = ask().then(
    (got) => {
      tell(scene, "seen", "", `${key} completed`)
      return got
    },
    (error: unknown) => {
      tell(scene, "seen", "", `${key} failed`)
      throw error
    },
  )
  heard.catch(() => undefined)
  return heard
}

/** One try, in the ledger before it does anything. */
const attempt = async <T>(
  { witness, ctx }: Scene,
  what: "step" | "undo",
  info: Info,
  body: (nonce: string) => Promise<T> | T,
): Promise<T> => {
  const { workflowRunId: run, idempotencyKey: key } = info
  const nonce = await witness.begin({
    what,
    run,
    key,
    step: key.slice(run.length + 1).replace(/:compensate$/, ""),
    attempt: info.attempt,
    runAttempt: ctx.attempt,
  })
  try {
    const got = await body(nonce)
    const told = witness.end(nonce, "completed")
    // an undo that is recorded as done must be known to have been
    if (what === "undo") await told
    return got
  } catch (error) {
    void witness.end(nonce, "failed")
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

/** All that a body could tell of an error. */
const looksOf = (error: unknown): string => {
  const { message, name, cause } = error as Error
  const { helper } = error as Partial<StepBroke>
  const looks = [error instanceof StepBroke, typeof helper, name, message, cause !== undefined]
  return looks.join().replaceAll(/[0-9a-f-]{36}/g, "(id)")
}

const transaction = (scene: Scene, command: Extract<Command, { readonly is: "transaction" }>) => {
  const { ctx, witness } = scene
  const { name, ms, fails, tries } = command
  return ctx.transaction(
    name,
    (client, info) =>
      attempt(scene, "step", info, async (nonce): Promise<Answer> => {
        await client.query(
          "insert into torture.transfers (run, step, nonce, worker) values ($1, $2, $3, $4)",
          [ctx.workflowRunId, info.idempotencyKey.slice(37), nonce, witness.worker],
        )
        await pause(Math.min(ms, 300))
        if (info.attempt <= fails) throw new StepBroke(name)
        return { name, nonce }
      }),
    { retry: { maxAttempts: tries, initialDelayMs: 10, backoff: "fixed" } },
  )
}

const step = (scene: Scene, command: Extract<Command, { readonly is: "step" }>) => {
  const { ctx } = scene
  const { name, ms, undoFails, undoMs, heeds } = command
  const compensate = (answer: Answer, info: Info) =>
    attempt(scene, "undo", info, async () => {
      await pause(undoMs)
      if (answer.name !== name) throw new Error(`the undo of ${name} got ${answer.name}`)
      if (info.attempt <= (undoFails ?? 0)) throw new StepBroke(`undo of ${name}`)
    })
  return ctx.step(name, {
    run: (info) =>
      attempt(scene, "step", info, async (nonce): Promise<Answer> => {
        if (ms > 0) await (heeds ? untilAborted(info.signal, ms) : pause(ms))
        return { name, nonce }
      }),
    ...(undoFails === null ? {} : { compensate }),
  })
}

const runCommand = async (scene: Scene, command: Command, site: string): Promise<string> => {
  const { ctx } = scene
  const named = (answer: Answer): string => {
    note(scene, site, answer.nonce)
    return answer.name
  }
  switch (command.is) {
    case "step":
      return named(await see(scene, command.name, () => step(scene, command)))
    case "flaky": {
      const { name, fails, tries, waitMs } = command
      const ask = () =>
        ctx.step(name, {
          run: (info) =>
            attempt(scene, "step", info, (nonce): Answer => {
              if (info.attempt <= fails) throw new StepBroke(name)
              return { name, nonce }
            }),
          retry: { maxAttempts: tries, initialDelayMs: waitMs, backoff: "fixed" },
        })
      return named(await see(scene, name, ask))
    }
    case "shaky": {
      const { name } = command
      const ask = () =>
        ctx.step(name, (info) =>
          attempt(scene, "step", info, (nonce): Answer => {
            if (ctx.attempt === 1) throw new StepBroke(name)
            return { name, nonce }
          }),
        )
      return named(await see(scene, name, ask))
    }
    case "transaction":
      return named(await see(scene, command.name, () => transaction(scene, command)))
    case "sleep": {
      const { name, ms } = command
      tell(scene, "sleep", useOf(scene, name), String(ms))
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
    default:
      throw new Error(`no program of this suite has "${command.is}"`)
  }
}
