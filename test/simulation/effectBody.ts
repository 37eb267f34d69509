/**
 * Runs programs as workflows of the Effect API, watched. What a promise goes on with when nobody
 * waits for it any more (a loser of a race, an arm beside one that failed), a fiber is interrupted in.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Child from "../../src/Child.ts"
import * as Compensation from "../../src/Compensation.ts"
import type { Engine } from "../../src/Engine.ts"
import * as Event from "../../src/Event.ts"
import type { DuplicateWorkflow, InvalidInput } from "../../src/FlowlyError.ts"
import * as Sleep from "../../src/Sleep.ts"
import * as Step from "../../src/Step.ts"
import * as Token from "../../src/Token.ts"
import * as Workflow from "../../src/Workflow.ts"
import type { WorkflowRun } from "../../src/WorkflowRun.ts"
import type { SinkClient } from "./ledger.ts"
import type { Block, Command, Given, Program } from "./program.ts"
import {
  type Answer,
  canary,
  type Info,
  Keys,
  looksOf,
  poison,
  stepKeyOf,
  type Watch,
  type Watched,
} from "./watched.ts"

/** The typed failure of everything here. */
class Broke extends Schema.TaggedError<Broke>("test/Broke")("Broke", { site: Schema.String }) {
  readonly helper = () => this.site

  override get message(): string {
    return `${this.site} failed`
  }
}

const failed = (site: string) => Effect.fail(new Broke({ site }))

const definitionOf = (name: string) =>
  Workflow.make(name, {
    payload: { secret: Schema.String, attempt: Schema.optionalKey(Schema.Number) },
    success: Schema.String,
    error: Broke,
  })

type Definition = ReturnType<typeof definitionOf>

interface Scene {
  readonly watched: Watched
  readonly definitions: ReadonlyArray<Definition>
  /** Its own, or that of its parent that it was told of. */
  readonly runAttempt: number
  readonly keys: Keys
}

/** What bodies fail with: `Broke`, and what the engine's own errors are. */
type Body<A> = Effect.Effect<A, any, WorkflowRun>

/** The workflows of a program whose bodies are effects, by name, to be registered. */
export const effectWorkflows = (
  program: Program,
  watch: Watch,
): ReadonlyMap<string, Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine>> => {
  const definitions = program.workflows.map(({ name }) => definitionOf(name))
  const layers = program.workflows.flatMap(({ name, block, api }, i) => {
    if (api !== "effect") return []
    const body = ({ secret, attempt: told = 1 }: Given) =>
      Effect.gen(function* () {
        if (secret !== canary) throw new Error("the input is not what was given")
        const run = yield* Workflow.current
        const watched = watch(run)
        const runAttempt = Math.max(run.attempt, told)
        const scene = { watched, definitions, runAttempt, keys: new Keys() }
        return yield* Effect.onExit(runBlock(scene, block, ""), (exit) =>
          Effect.sync(() => {
            // one that is parked, or handed back, has not ended
            if (Exit.isSuccess(exit) || !Cause.hasInterruptsOnly(exit.cause)) watched.ended()
          }),
        )
      })
    return [[name, (definitions[i] as Definition).toLayer(body)] as const]
  })
  return new Map(layers)
}

const runBlock = (scene: Scene, block: Block, site: string): Body<string> =>
  Effect.gen(function* () {
    const parts: Array<string> = []
    for (const [index, command] of block.entries()) {
      parts.push(yield* runCommand(scene, command, `${site}/${index}`))
    }
    return parts.join(" ")
  })

/** Asks for an operation, and sees its outcome. */
const see = <A>({ keys, watched }: Scene, name: string, ask: Body<A>): Body<A> =>
  Effect.suspend(() => {
    const key = keys.use(name)
    return Effect.onExit(ask, (exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) watched.saw(key, "completed")
        else if (!Cause.hasInterruptsOnly(exit.cause)) watched.saw(key, "failed")
      }),
    )
  })

/** One try, watched from its beginning to its end. */
const attempt = <A, R>(
  { watched }: Scene,
  what: "step" | "undo",
  info: Info,
  body: (nonce: string) => Effect.Effect<A, Broke, R>,
): Effect.Effect<A, Broke, R> =>
  Effect.suspend(() => {
    const trial = watched.begins(what, info)
    if (trial instanceof Promise) throw new Error("who watches effects answers at once")
    return Effect.onExit(body(trial.nonce), (exit) =>
      Effect.sync(() => void trial.ended(Exit.isSuccess(exit) ? "completed" : "failed")),
    )
  })

/** Work of so long, which ends when it is told to, or does not heed that. */
const work = (ms: number, heeds: boolean): Effect.Effect<void> =>
  heeds ? Effect.sleep(ms) : Effect.uninterruptible(Effect.sleep(ms))

const fixed = (maxAttempts: number, initialDelayMs: number) =>
  ({ maxAttempts, initialDelayMs, backoff: "fixed" }) as const

const runCommand = (scene: Scene, command: Command, site: string): Body<string> => {
  const { definitions, keys, watched, runAttempt } = scene
  /** A step that answers with its try. */
  const step = (
    name: string,
    body: (info: Step.Info) => Effect.Effect<unknown, Broke>,
    options: Omit<Step.Options<Answer, Broke, never, never, any, any, any>, "run" | "error"> = {},
  ): Body<string> => {
    const run = (info: Step.Info) =>
      attempt(scene, "step", info, (nonce) => Effect.as(body(info), { name, nonce }))
    const made: Body<Answer> = Step.make<Answer, Broke>(name, { ...options, error: Broke, run })
    return Effect.map(see(scene, name, made), (answer) => {
      watched.note(site, answer.nonce)
      return answer.name
    })
  }
  const givenTo = ({ again }: { readonly again?: boolean }): Given => ({
    secret: canary,
    ...(again === true ? { attempt: runAttempt } : {}),
  })
  switch (command.is) {
    case "step": {
      const { name, ms, undoFails, undoMs, heeds } = command
      const compensate = (answer: Answer, info: Info) =>
        attempt(scene, "undo", info, () =>
          Effect.gen(function* () {
            yield* Effect.sleep(undoMs)
            if (answer.name !== name) throw new Error(`the undo of ${name} got ${answer.name}`)
            if (info.attempt <= (undoFails ?? 0)) yield* failed(`undo of ${name}`)
          }),
        )
      const body = () => (ms > 0 ? work(ms, heeds) : Effect.void)
      return step(name, body, undoFails === null ? {} : { compensate })
    }
    case "flaky": {
      const { name, fails, tries, waitMs } = command
      const body = (info: Info) => (info.attempt <= fails ? failed(name) : Effect.void)
      return step(name, body, { retry: fixed(tries, waitMs) })
    }
    case "shaky": {
      const { name } = command
      return step(name, () => (runAttempt === 1 ? failed(name) : Effect.void))
    }
    case "refused": {
      const { name } = command
      const run = (info: Step.Info) =>
        attempt(scene, "step", info, (nonce) => Effect.succeed({ name: poison, nonce }))
      return Effect.as(see(scene, name, Step.make(name, { run, error: Broke })), name)
    }
    case "sleep": {
      const { name, ms } = command
      return Effect.suspend(() => {
        watched.asksSleep(keys.next(name), ms)
        return Effect.as(see(scene, name, Sleep.make(name, ms)), name)
      })
    }
    case "effect":
      return step(command.name, () => Effect.void)
    case "emit":
      return Effect.as(see(scene, command.name, Event.emit(command.name, site)), command.name)
    case "values":
      return Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const dice = yield* Random.next
        const uuid = yield* Workflow.uuid
        watched.note(`${site} values`, [now, dice, uuid].join())
        return yield* step(command.name, () => Effect.void)
      })
    case "event": {
      const { name, ms } = command
      return Effect.map(see(scene, name, Event.wait(name, { timeout: ms })), (heard) => {
        watched.note(site, Option.isNone(heard))
        if (Option.isSome(heard)) watched.note(`heard ${site}`, heard.value)
        return `${name}:${Option.isNone(heard) ? "silence" : "heard"}`
      })
    }
    case "child": {
      const { name, of } = command
      const child = Child.run(definitions[of] as Definition, givenTo(command), { name })
      return Effect.map(see(scene, name, child), (result) => `[${result}]`)
    }
    case "all": {
      const arms = command.arms.map((arm, i) => runBlock(scene, arm, `${site}|${i}`))
      const all = Effect.all(arms, { concurrency: "unbounded" })
      return Effect.map(all, (results) => `(${results.join(" & ")})`)
    }
    case "race": {
      const arms = command.arms.map((arm, i) =>
        Effect.map(runBlock(scene, arm, `${site}|${i}`), (got) => `${i}:${got}`),
      )
      return Effect.map(Effect.raceAllFirst(arms), (winner) => {
        watched.note(site, winner)
        return `<${command.name}>`
      })
    }
    case "loop": {
      const rounds = Array.from({ length: command.times }, (_, i) =>
        runBlock(scene, command.block, `${site}@${i}`),
      )
      return Effect.map(Effect.all(rounds), (results) => `{${results.join(", ")}}`)
    }
    case "try":
      return Effect.catchCause(runBlock(scene, command.block, `${site}t`), (cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
        watched.note(site, looksOf(Cause.squash(cause), Broke))
        const rescue = runBlock(scene, command.rescue, `${site}c`)
        return Effect.map(rescue, (rescued) => `caught ${rescued}`)
      })
    case "throw":
      return failed(command.message)
    case "limited": {
      const { name, timeoutMs, late, tries, heeds, undo } = command
      const compensate = (_: Answer, info: Info) =>
        attempt(scene, "undo", info, () => Effect.sleep(1))
      const body = (info: Info) => work(info.attempt <= late ? timeoutMs * 4 : 1, heeds)
      return step(name, body, {
        timeout: timeoutMs,
        retry: fixed(tries, 20),
        ...(undo === "none" ? {} : { compensate }),
        ...(undo === "unknown" ? { compensateOnUnknown: true } : {}),
      })
    }
    case "deadline": {
      const { name, deadlineMs, waitMs } = command
      return step(name, () => failed(name), { deadline: deadlineMs, retry: fixed(10_000, waitMs) })
    }
    case "beats": {
      const { name, beats, everyMs, stalls } = command
      const body = (info: Step.Info) =>
        Effect.gen(function* () {
          for (let i = 0; i < beats; i++) {
            yield* info.heartbeat(watched.beat(info))
            yield* Effect.sleep(everyMs)
          }
          if (info.attempt <= stalls) yield* Effect.sleep(600_000)
        })
      return step(name, body, { heartbeatTimeout: everyMs * 3 + 100, retry: fixed(60, 20) })
    }
    case "transaction": {
      const { name, ms, fails, tries } = command
      const run = (info: Step.Info) =>
        attempt(scene, "step", info, (nonce) =>
          Effect.gen(function* () {
            const { workflowRunId } = info
            const client = (yield* SqlClient.SqlClient) as unknown as SinkClient
            client.write({ workflowRunId, stepKey: stepKeyOf(info), nonce })
            if (ms > 0) yield* Effect.sleep(ms)
            if (info.attempt <= fails) yield* failed(name)
            return { name, nonce }
          }),
        )
      const transaction = Step.transaction(name, { error: Broke, run, retry: fixed(tries, 20) })
      return Effect.map(see(scene, name, transaction), (answer) => {
        watched.note(site, answer.nonce)
        return answer.name
      })
    }
    case "token": {
      const { name, ms, sent } = command
      return Effect.gen(function* () {
        const key = keys.next(name)
        const token = yield* see(scene, name, Token.make(name))
        watched.note(`${site} token`, token)
        if (sent) watched.holdsToken(token)
        const answer = Token.wait(token, { timeout: ms })
        const heard = yield* see(scene, `${key}:answer`, answer)
        if (Option.isSome(heard) && heard.value !== token) {
          throw new Error("an answer to another token")
        }
        watched.note(site, Option.isNone(heard))
        return `${name}:${Option.isNone(heard) ? "silence" : "heard"}`
      })
    }
    case "spawn": {
      const { name, of, abandons, between } = command
      const onParentClose = abandons ? "abandon" : "cancel"
      return Effect.gen(function* () {
        const key = keys.next(name)
        const given = givenTo(command)
        const start = Child.start(definitions[of] as Definition, given, { name, onParentClose })
        const child = yield* see(scene, name, start)
        watched.note(`${site} child`, child.workflowRunId)
        const meanwhile = yield* runBlock(scene, between, `${site}b`)
        return `[${meanwhile} ${yield* see(scene, `${key}.result`, child.result)}]`
      })
    }
    case "noReturn":
      return Effect.as(
        see(scene, command.name, Compensation.pointOfNoReturn(command.name)),
        command.name,
      )
  }
}
