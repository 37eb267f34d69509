/**
 * The oracle: what a program must come to, computed from its text alone, before it runs.
 *
 * Crashes, frozen processes and lost answers must not show in it. What the order of arrival decides
 * (arms of a race) is "maybe". A cancel or a deadline allows more endings, never other values.
 */
import * as Payload from "../../src/Payload.ts"
import type { RunStatus } from "../../src/Run.ts"
import type { RunRow } from "../../src/WorkflowStore.ts"
import {
  type Block,
  type Command,
  type Given,
  type Program,
  type ProgramWorkflow,
  undoTries,
} from "./program.ts"

/** What one run must come to. */
export interface Prediction {
  readonly statuses: ReadonlySet<RunStatus>
  /** Of a run that completes. */
  readonly result: string | null
  /** Keys of records that a run which is not cancelled has at its end; whether each completed. */
  readonly sure: ReadonlyMap<string, "completed" | "failed">
  /** Names whose records may be there. */
  readonly maybe: ReadonlySet<string>
  /** Keys of what is undone when the run ends as `compensated`, at least. */
  readonly undone: ReadonlySet<string>
  /** Those of them whose undo gives up: the run ends as `failed`. */
  readonly stuck: ReadonlySet<string>
}

interface Thrown {
  readonly _tag: "Thrown"
  readonly message: string
}

type Outcome = { readonly _tag: "Value"; readonly value: string } | Thrown

const value = (text: string): Outcome => ({ _tag: "Value", value: text })
const thrown = (message: string): Outcome => ({ _tag: "Thrown", message })

/** Plays one attempt of a workflow. */
class Play {
  readonly sure = new Map<string, "completed" | "failed">()
  readonly maybe = new Set<string>()
  readonly undone = new Set<string>()
  readonly stuck = new Set<string>()
  maybeUndone = false
  readonly #uses = new Map<string, number>()
  readonly #program: Program
  readonly #attempt: number
  #unsure = 0

  constructor(program: Program, attempt: number) {
    this.#program = program
    this.#attempt = attempt
  }

  block(block: Block): Outcome {
    const parts: Array<string> = []
    for (const command of block) {
      const outcome = this.command(command)
      if (outcome._tag === "Thrown") return outcome
      parts.push(outcome.value)
    }
    return value(parts.join(" "))
  }

  #record(name: string, status: "completed" | "failed", undo: "gives up" | boolean = false): void {
    if (this.#unsure > 0) {
      this.maybe.add(name)
      if (undo !== false) this.maybeUndone = true
      return
    }
    const used = (this.#uses.get(name) ?? 0) + 1
    this.#uses.set(name, used)
    const key = used === 1 ? name : `${name}#${used}`
    this.sure.set(key, status)
    if (undo !== false) this.undone.add(key)
    if (undo === "gives up") this.stuck.add(key)
  }

  /** The key that the next use of the name has. */
  #keyOf(name: string): string {
    const used = this.#uses.get(name) ?? 0
    return used === 0 ? name : `${name}#${used + 1}`
  }

  #child(again = false): Play {
    return new Play(this.#program, again ? this.#attempt : 1)
  }

  command(command: Command): Outcome {
    switch (command.is) {
      case "step": {
        const { name, undoFails } = command
        const givesUp = (undoFails ?? 0) >= undoTries
        this.#record(name, "completed", givesUp ? "gives up" : undoFails !== null)
        return value(name)
      }
      case "flaky": {
        const fails = command.fails >= command.tries
        this.#record(command.name, fails ? "failed" : "completed")
        return fails ? thrown(`${command.name} failed`) : value(command.name)
      }
      case "shaky": {
        const fails = this.#attempt === 1
        this.#record(command.name, fails ? "failed" : "completed")
        return fails ? thrown(`${command.name} failed`) : value(command.name)
      }
      case "refused":
        this.#record(command.name, "failed")
        return thrown("refused")
      case "sleep":
      case "effect":
      case "emit":
      case "values":
        this.#record(command.name, "completed")
        return value(command.name)
      case "event":
        this.#record(command.name, "completed")
        return value(`${command.name}:${command.sent ? "heard" : "silence"}`)
      case "child": {
        const child = this.#program.workflows[command.of] as ProgramWorkflow
        const outcome = this.#child(command.again).block(child.block)
        this.#record(command.name, outcome._tag === "Value" ? "completed" : "failed")
        return outcome._tag === "Value" ? value(`[${outcome.value}]`) : thrown("child")
      }
      case "all": {
        // where one arm fails, the others are given up, wherever they are
        const trial = new Play(this.#program, this.#attempt)
        const fails = command.arms.some((arm) => trial.block(arm)._tag === "Thrown")
        if (fails) this.#unsure++
        const outcomes = command.arms.map((arm) => this.block(arm))
        if (fails) this.#unsure--
        const failed = outcomes.find((one) => one._tag === "Thrown")
        if (failed !== undefined) return failed
        return value(`(${outcomes.map((one) => (one as { value: string }).value).join(" & ")})`)
      }
      case "race":
        this.#unsure++
        for (const arm of command.arms) this.block(arm)
        this.#unsure--
        return value(`<${command.name}>`)
      case "loop": {
        const rounds: Array<string> = []
        for (let i = 0; i < command.times; i++) {
          const outcome = this.block(command.block)
          if (outcome._tag === "Thrown") return outcome
          rounds.push(outcome.value)
        }
        return value(`{${rounds.join(", ")}}`)
      }
      case "try": {
        const outcome = this.block(command.block)
        if (outcome._tag === "Value") return outcome
        const rescued = this.block(command.rescue)
        return rescued._tag === "Thrown" ? rescued : value(`caught ${rescued.value}`)
      }
      case "throw":
        return thrown(command.message)
      case "limited": {
        const { name, late, tries, undo } = command
        const fails = late >= tries
        this.#record(
          name,
          fails ? "failed" : "completed",
          undo === "unknown" || (undo === "known" && !fails),
        )
        return fails ? thrown(`${name} took too long`) : value(name)
      }
      case "deadline":
        this.#record(command.name, "failed")
        return thrown(`${command.name} failed`)
      case "beats":
        this.#record(command.name, "completed")
        return value(command.name)
      case "transaction": {
        const fails = command.fails >= command.tries
        this.#record(command.name, fails ? "failed" : "completed")
        return fails ? thrown(`${command.name} failed`) : value(command.name)
      }
      case "token": {
        const key = this.#keyOf(command.name)
        this.#record(command.name, "completed")
        this.#record(`${key}:answer`, "completed")
        return value(`${command.name}:${command.sent ? "heard" : "silence"}`)
      }
      case "spawn": {
        const child = this.#program.workflows[command.of] as ProgramWorkflow
        const outcome = this.#child(command.again).block(child.block)
        const key = this.#keyOf(command.name)
        this.#record(command.name, "completed")
        const between = this.block(command.between)
        if (between._tag === "Thrown") return between
        this.#record(`${key}.result`, outcome._tag === "Value" ? "completed" : "failed")
        if (outcome._tag === "Thrown") return thrown("child")
        return value(`[${between.value} ${outcome.value}]`)
      }
      case "noReturn":
        this.#record(command.name, "completed")
        if (this.#unsure === 0) {
          this.undone.clear()
          this.stuck.clear()
        }
        return value(command.name)
    }
  }
}

/** Which attempt a run is in: its own, or that of its parent that it was told of. */
export const attemptOf = ({ attempt, input }: Pick<RunRow, "attempt" | "input">): number =>
  Math.max(attempt, (Payload.decode(input) as Given).attempt ?? 1)

/**
 * What this attempt of a run of this workflow comes to, with so many attempts (`null`: one, and no
 * dead letter). No statuses: there must be another attempt.
 */
export const predict = (
  program: Program,
  workflow: number,
  attempt: number,
  maxAttempts: number | null,
): Prediction => {
  const { block } = program.workflows[workflow] as ProgramWorkflow
  const play = new Play(program, attempt)
  const outcome = play.block(block)
  const { sure, maybe, undone, stuck } = play
  const statuses = (): Array<RunStatus> => {
    if (outcome._tag === "Value") return ["completed"]
    if (attempt < (maxAttempts ?? 1)) return []
    const gaveUp: RunStatus = maxAttempts === null ? "failed" : "dead_letter"
    if (undone.size > 0) return [stuck.size > 0 ? "failed" : "compensated"]
    return play.maybeUndone ? [gaveUp, "compensated"] : [gaveUp]
  }
  const result = outcome._tag === "Value" ? outcome.value : null
  return { statuses: new Set(statuses()), result, sure, maybe, undone, stuck }
}
