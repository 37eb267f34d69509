/**
 * Programs: what a workflow does, as data. Each site has a name of its own, so that step keys, results
 * and undos can be predicted before anything runs (predict.ts). Dice make them (drawProgram.ts), and
 * bodies of both APIs run them (promiseBody.ts, effectBody.ts).
 */

/** One command. Times are milliseconds. */
export type Command =
  /**
   * `undoFails`: so many tries of its undo fail, of three; `null`: it has none. `heeds`: it ends when
   * its signal aborts.
   */
  | {
      readonly is: "step"
      readonly name: string
      readonly ms: number
      readonly undoFails: number | null
      readonly undoMs: number
      readonly heeds: boolean
    }
  /** Fails the first `fails` of `tries`. */
  | {
      readonly is: "flaky"
      readonly name: string
      readonly fails: number
      readonly tries: number
      readonly waitMs: number
    }
  /** Fails in the first attempt of the whole run, and of those that it is a child of `again`. */
  | { readonly is: "shaky"; readonly name: string }
  /** Its result is one that the store refuses. */
  | { readonly is: "refused"; readonly name: string }
  | { readonly is: "sleep"; readonly name: string; readonly ms: number }
  | { readonly is: "effect"; readonly name: string }
  | { readonly is: "emit"; readonly name: string }
  /** What `now`, `random` and `uuid` say must be the same for ever. */
  | { readonly is: "values"; readonly name: string }
  /** `sent`: whether somebody sends it; else it times out after `ms`. */
  | { readonly is: "event"; readonly name: string; readonly ms: number; readonly sent: boolean }
  /** `again`: it is told of which attempt of its parent it is, and fails no longer than that does. */
  | {
      readonly is: "child"
      readonly name: string
      readonly of: number
      readonly again?: boolean
    }
  | { readonly is: "all"; readonly arms: ReadonlyArray<Block> }
  | { readonly is: "race"; readonly name: string; readonly arms: ReadonlyArray<Block> }
  | { readonly is: "loop"; readonly times: number; readonly block: Block }
  | { readonly is: "try"; readonly block: Block; readonly rescue: Block }
  | { readonly is: "throw"; readonly message: string }
  /**
   * A time limit on each try; the first `late` of `tries` take longer. `undo`: none, of what completed,
   * or also of what is unknown (`compensateOnUnknown`).
   */
  | {
      readonly is: "limited"
      readonly name: string
      readonly timeoutMs: number
      readonly late: number
      readonly tries: number
      readonly heeds: boolean
      readonly undo: "none" | "known" | "unknown"
    }
  /** Fails, and is tried again until its deadline. */
  | {
      readonly is: "deadline"
      readonly name: string
      readonly deadlineMs: number
      readonly waitMs: number
    }
  /** Tells that it is alive, so many times; its first `stalls` tries fall silent. */
  | {
      readonly is: "beats"
      readonly name: string
      readonly beats: number
      readonly everyMs: number
      readonly stalls: number
    }
  /** In a transaction that records the step, too. Fails the first `fails` of `tries`. */
  | {
      readonly is: "transaction"
      readonly name: string
      readonly ms: number
      readonly fails: number
      readonly tries: number
    }
  /** A token, and a wait for its answer. */
  | { readonly is: "token"; readonly name: string; readonly ms: number; readonly sent: boolean }
  /** A child that is started, and waited for behind the block. */
  | {
      readonly is: "spawn"
      readonly name: string
      readonly of: number
      readonly again?: boolean
      readonly abandons: boolean
      readonly between: Block
    }
  /** What completed before it is no longer undone. */
  | { readonly is: "noReturn"; readonly name: string }

export type Block = ReadonlyArray<Command>

/** The blocks that are parts of a command. */
export const blocksOf = (command: Command): ReadonlyArray<Block> => {
  switch (command.is) {
    case "all":
    case "race":
      return command.arms
    case "loop":
      return [command.block]
    case "try":
      return [command.block, command.rescue]
    case "spawn":
      return [command.between]
    default:
      return []
  }
}

/** Every command of a block, those inside of others too. */
export const commandsOf = (block: Block): ReadonlyArray<Command> =>
  block.flatMap((command) => [command, ...blocksOf(command).flatMap(commandsOf)])

/** A workflow: children come before those that start them. */
export interface ProgramWorkflow {
  readonly name: string
  readonly block: Block
  /** Which API its body is written in; by default, promises. */
  readonly api?: "promise" | "effect"
}

/** One run that is started from outside. */
export interface Start {
  readonly key: string
  readonly workflow: number
  readonly atMs: number
  readonly maxAttempts: number | null
  readonly timeoutMs: number | null
  readonly cancel: { readonly afterMs: number; readonly compensate: boolean } | null
  /** Paused, and resumed so long after. */
  readonly pause: { readonly afterMs: number; readonly forMs: number } | null
  readonly terminateAfterMs: number | null
  /** If it has failed by then, it is given another attempt. */
  readonly retryAfterMs: number | null
  /** How often it is triggered, by whom it may be. */
  readonly triggers: number
  /** Scheduled for so long after. */
  readonly delayMs?: number | null
  /** Somebody waits for its outcome. */
  readonly watched?: boolean
  /** Forked so long after, from this place in the order of completion; `null`: from its end. */
  readonly fork?: { readonly afterMs: number; readonly position: number | null } | null
  /** Triggered together with all of this number. */
  readonly batch?: number | null
}

/** What an operator asks of all runs of a workflow at once. */
export interface Bulk {
  readonly atMs: number
  readonly verb: "cancel" | "pause" | "resume" | "retry"
  readonly workflow: number
}

/** A workflow that is started every so many minutes. */
export interface ProgramSchedule {
  readonly key: string
  readonly workflow: number
  readonly everyMin: number
  readonly atMs: number
  readonly untilMs: number
  /** When it is said again, once more. */
  readonly againMs: number | null
}

export interface Program {
  readonly workflows: ReadonlyArray<ProgramWorkflow>
  readonly starts: ReadonlyArray<Start>
  readonly bulk?: ReadonlyArray<Bulk>
  readonly schedules?: ReadonlyArray<ProgramSchedule>
}

/** Whether a later attempt of the workflow may come to something else than the first. */
export const hasAttempts = (workflows: ReadonlyArray<ProgramWorkflow>, workflow: number): boolean =>
  commandsOf(workflows[workflow]?.block ?? []).some((command) => {
    if (command.is !== "child" && command.is !== "spawn") return command.is === "shaky"
    return command.again === true && hasAttempts(workflows, command.of)
  })

/** What a run is given: a child that is told so, of which attempt it is. */
export interface Given {
  readonly secret: string
  readonly attempt?: number
}

/** The tries of an undo: as many as the engine makes of one that says nothing else. */
export const undoTries = 3
