/**
 * Programs: what a workflow does, as data, made by dice. Each site has a name of its own, so that
 * step keys, results and undos can be predicted before anything runs (predict.ts).
 */
import type { Dice } from "../support/dice.ts"
import { predict } from "./predict.ts"

/** One command. Times are milliseconds. */
export type Command =
  /**
   * `undoFails`: so many tries of its undo fail; `null`: it has none. `heeds`: it ends when its signal
   * aborts.
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
  /** Fails in the first attempt of the whole run. */
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
  | { readonly is: "child"; readonly name: string; readonly of: number }
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

/** Commands that a program may have more of than of others, if it has them at all. */
export const favourites = [
  "sleep",
  "flaky",
  "emit",
  "child",
  "event",
  "limited",
  "beats",
  "transaction",
  "token",
  "refused",
] as const

/** `slow`: steps of seconds; then arms of parallel blocks fail oftener, too. */
export type Favourite = (typeof favourites)[number] | "slow"

/** What the program may do, and how much of it. */
export interface ProgramOptions {
  readonly runs: number
  readonly commands: number
  readonly withinMs: number
  readonly slowMs: number
  readonly races: boolean
  readonly cancels: boolean
  readonly refusals: boolean
  readonly events: boolean
  /** Pauses, terminations, explicit retries. */
  readonly controls: boolean
  /** Time limits, deadlines and heartbeats of steps. */
  readonly limits?: boolean
  readonly transactions?: boolean
  /** Tokens and their answers. */
  readonly tokens?: boolean
  /** Children that are started and waited for later; points of no return. */
  readonly spawns?: boolean
  /** Starts of many, starts for later, forks, verbs by filter, outcomes that somebody waits for. */
  readonly operators?: boolean
  readonly cron?: boolean
  /** Steps that fail and are tried again; runs that are. */
  readonly retries?: boolean
  readonly undos?: boolean
  /** Bodies that throw, and that catch. */
  readonly failures?: boolean
  /** Emits, effects, and values of the body. */
  readonly emits?: boolean
  readonly favourite?: Favourite | null
  readonly together?: boolean
}

interface Place {
  readonly depth: number
  readonly arm: boolean
  readonly children: number
  /** In an arm of a race: what fails here might end the race, or might not. */
  readonly racing: boolean
}

/** The program of these dice. */
export const makeProgram = (dice: Dice, options: ProgramOptions): Program => {
  const workflows: Array<ProgramWorkflow> = []
  /** Those that complete in their first attempt. */
  const reliable: Array<number> = []
  let sites = 0
  let budget = 0
  const site = () => `s${++sites}`
  const shortMs = () => dice.pick([0, 1, 5, 40])
  const stepMs = () => (dice.chance(0.2) ? dice.whole(1000, options.slowMs) : shortMs())

  /** The workflows that may be children there. */
  const callable = (place: Place): ReadonlyArray<number> => {
    if (place.children === 0) return []
    return place.racing ? reliable : Array.from({ length: place.children }, (_, i) => i)
  }

  const has = (feature: "retries" | "undos" | "failures" | "emits") => options[feature] !== false

  const step = (place: Place, slow = false): Command => {
    const undo = has("undos") && dice.chance(0.5)
    return {
      is: "step",
      name: site(),
      ms: slow ? dice.whole(1000, Math.min(options.slowMs, 4000)) : stepMs(),
      undoFails: undo ? (dice.chance(0.2) && !place.arm ? 1 : 0) : null,
      undoMs: dice.pick([1, 30, 1500]),
      heeds: dice.chance(0.4),
    }
  }

  const leaf = (place: Place): Command => {
    const kinds: Array<() => Command> = [() => step(place), () => step(place)]
    const wanted: Partial<Record<Favourite, () => Command>> = {}
    const add = (kind: Favourite, make: () => Command) => {
      wanted[kind] = make
      kinds.push(make)
    }
    wanted.slow = () => step(place, true)
    add("sleep", () => ({ is: "sleep", name: site(), ms: dice.pick([0, 20, 700, 3000, 12_000]) }))
    if (has("retries")) {
      add("flaky", () => {
        const fails = dice.whole(1, 4)
        return { is: "flaky", name: site(), fails, tries: 5, waitMs: dice.pick([10, 300, 2500]) }
      })
    }
    if (has("emits")) {
      add("emit", () => ({ is: "emit", name: site() }))
      kinds.push(
        () => ({ is: "effect", name: site() }),
        () => ({ is: "values", name: site() }),
      )
    }
    if (callable(place).length > 0) {
      add("child", () => ({ is: "child", name: site(), of: dice.pick(callable(place)) }))
    }
    if (options.refusals) {
      add("refused", () => ({ is: "try", block: [{ is: "refused", name: site() }], rescue: [] }))
    }
    if (options.events) {
      const sent = dice.chance(0.7)
      const ms = sent ? 10_000_000 : dice.pick([500, 4000])
      add("event", () => ({ is: "event", name: site(), ms, sent }))
    }
    if (options.limits === true) {
      const tries = 60
      add("limited", () => limited(dice.whole(0, 2), tries, place))
      add("beats", () => ({
        is: "beats",
        name: site(),
        beats: dice.whole(1, 6),
        everyMs: dice.pick([5, 80, 700]),
        stalls: dice.whole(0, 2),
      }))
    }
    if (options.transactions === true) {
      add("transaction", () => {
        const fails = dice.chance(0.3) ? dice.whole(1, 2) : 0
        return { is: "transaction", name: site(), ms: shortMs(), fails, tries: 3 }
      })
    }
    if (options.tokens === true) {
      const sent = dice.chance(0.8)
      const ms = sent ? 10_000_000 : dice.pick([500, 4000])
      add("token", () => ({ is: "token", name: site(), ms, sent }))
    }
    if (options.spawns === true && !place.arm) {
      kinds.push(() => ({ is: "noReturn", name: site() }))
    }
    const favourite = options.favourite == null ? undefined : wanted[options.favourite]
    return favourite !== undefined && dice.chance(0.5) ? favourite() : dice.pick(kinds)()
  }

  const limited = (late: number, tries: number, place: Place): Command => ({
    is: "limited",
    name: site(),
    timeoutMs: dice.pick([50, 300, 1500]),
    late,
    tries,
    heeds: dice.chance(0.5),
    undo: place.racing ? "none" : dice.pick(["none", "known", "unknown"]),
  })

  const failure = (place: Place): Command => {
    const kinds: Array<() => Command> = [
      () => ({ is: "throw", message: site() }),
      () => ({ is: "flaky", name: site(), fails: 2, tries: 2, waitMs: dice.pick([10, 2500]) }),
    ]
    if (options.refusals) kinds.push(() => ({ is: "refused", name: site() }))
    if (options.limits === true) {
      kinds.push(
        () => {
          const tries = dice.whole(1, 2)
          return limited(tries, tries, place)
        },
        () => ({
          is: "deadline",
          name: site(),
          deadlineMs: dice.pick([200, 3000, 9000]),
          waitMs: dice.pick([50, 1500]),
        }),
      )
    }
    if (options.transactions === true) {
      kinds.push(() => ({ is: "transaction", name: site(), ms: 1, fails: 2, tries: 2 }))
    }
    return dice.pick(kinds)()
  }

  const armFails = options.favourite === "slow" ? 0.4 : 0.1
  const branch = (place: Place): Command => {
    const inside = { ...place, depth: place.depth + 1 }
    const size = () => dice.whole(1, 2)
    const arms = (racing: boolean, mayFail: boolean) =>
      Array.from({ length: dice.whole(2, 3) }, () => {
        const arm = block({ ...inside, arm: true, racing }, size())
        return mayFail && has("failures") && dice.chance(armFails) ? [...arm, failure(inside)] : arm
      })
    const kinds: Array<() => Command> = [
      () => ({ is: "all", arms: arms(place.racing, !place.racing) }),
      () => ({ is: "loop", times: dice.whole(2, 3), block: block(inside, size()) }),
    ]
    if (has("failures")) {
      kinds.push(() => ({
        is: "try",
        block: [...block(inside, dice.whole(0, 2)), failure(inside)],
        rescue: block(inside, size()),
      }))
    }
    if (options.events) {
      // many waits at once, and work beside them
      const wait = (): Block => [
        { is: "event", name: site(), ms: 10_000_000, sent: true },
        ...(dice.chance(0.5) ? [step({ ...inside, arm: true })] : []),
      ]
      kinds.push(() => ({ is: "all", arms: Array.from({ length: dice.whole(2, 4) }, wait) }))
    }
    if (options.spawns === true && callable(place).length > 0) {
      kinds.push(() => ({
        is: "spawn",
        name: site(),
        of: dice.pick(callable(place)),
        abandons: dice.chance(0.3),
        between: block(inside, dice.whole(0, 2)),
      }))
    }
    if (options.races) kinds.push(() => ({ is: "race", name: site(), arms: arms(true, false) }))
    return dice.pick(kinds)()
  }

  const block = (place: Place, size: number): Block => {
    const commands: Array<Command> = []
    for (let i = 0; i < size && budget > 0; i++) {
      budget--
      commands.push(place.depth < 3 && dice.chance(0.3) ? branch(place) : leaf(place))
    }
    return commands
  }

  const count = dice.whole(3, 5)
  for (let i = 0; i < count; i++) {
    budget = dice.whole(2, options.commands)
    const place = { depth: 0, arm: false, children: i, racing: false }
    const body = [...block(place, dice.whole(2, 6))]
    if (has("retries") && dice.chance(0.4)) {
      body.splice(dice.whole(0, body.length), 0, { is: "shaky", name: site() })
    }
    if ((has("failures") || has("undos")) && dice.chance(0.3)) body.push(failure(place))
    workflows.push({ name: `w${i}`, block: body })
    const alone = predict({ workflows, starts: [] }, i, 1, null)
    if (alone.statuses.has("completed")) reliable.push(i)
  }
  const forkable = (workflow: number): boolean =>
    !commandsOf(workflows[workflow]?.block ?? []).some(({ is }) => is === "shaky" || is === "token")
  const operated = (workflow: number, alone: boolean): Partial<Start> => ({
    delayMs: dice.chance(0.2) ? dice.whole(1, 10_000) : null,
    watched: dice.chance(0.5),
    batch: dice.chance(0.3) ? workflow : null,
    fork:
      alone && dice.chance(0.3) && forkable(workflow)
        ? {
            afterMs: dice.whole(0, 15_000),
            position: dice.chance(0.7) ? dice.whole(1, 8) : null,
          }
        : null,
  })
  const starts = Array.from({ length: options.runs }, (_, i): Start => {
    const workflow = dice.whole(0, count - 1)
    const cancels = options.cancels && dice.chance(0.15)
    const start: Start = {
      key: `k${i}`,
      workflow,
      atMs:
        options.together === true || dice.chance(0.5)
          ? dice.whole(0, 200)
          : dice.whole(0, options.withinMs),
      maxAttempts: has("retries") && dice.chance(0.4) ? dice.whole(1, 3) : null,
      timeoutMs: options.cancels && dice.chance(0.05) ? dice.whole(1, 20_000) : null,
      cancel: cancels ? { afterMs: dice.whole(0, 15_000), compensate: dice.chance(0.7) } : null,
      pause:
        options.controls && dice.chance(0.15)
          ? { afterMs: dice.whole(0, 10_000), forMs: dice.whole(0, 10_000) }
          : null,
      terminateAfterMs: options.controls && dice.chance(0.03) ? dice.whole(0, 15_000) : null,
      retryAfterMs: options.controls && dice.chance(0.1) ? dice.whole(0, 20_000) : null,
      triggers: dice.chance(0.2) ? 2 : 1,
    }
    if (options.operators !== true) return start
    const alone = !cancels && start.timeoutMs === null && start.terminateAfterMs === null
    return { ...start, ...operated(workflow, alone) }
  })
  // children stay out of it: their parents could not be predicted
  const last = count - 1
  const bulk: Array<Bulk> = []
  if (options.operators === true) {
    const at = () => dice.whole(0, options.withinMs)
    if (options.cancels && dice.chance(0.3)) {
      bulk.push({ atMs: at(), verb: "cancel", workflow: last })
    }
    if (dice.chance(0.4)) bulk.push({ atMs: at(), verb: "retry", workflow: last })
    if (dice.chance(0.4)) {
      const [workflow, atMs] = [dice.whole(0, last), at()]
      bulk.push({ atMs, verb: "pause", workflow })
      bulk.push({ atMs: atMs + dice.whole(0, 8000), verb: "resume", workflow })
    }
  }
  const schedules =
    options.cron === true
      ? Array.from({ length: dice.whole(1, 3) }, (_, i): ProgramSchedule => {
          const atMs = dice.whole(0, 60_000)
          const untilMs = dice.whole(atMs + 60_000, options.withinMs)
          return {
            key: `c${i}`,
            workflow: last,
            everyMin: dice.pick([1, 1, 2]),
            atMs,
            untilMs,
            againMs: dice.chance(0.5) ? dice.whole(atMs, untilMs) : null,
          }
        })
      : []
  return { workflows, starts, bulk, schedules }
}

/** A block as text, a command a line. */
export const printBlock = (block: Block, indent = "    "): string =>
  block
    .map((command) => {
      const { is, ...rest } = command
      const values: Array<string> = []
      const parts: Array<string> = []
      for (const [key, value] of Object.entries(rest)) {
        if (key === "arms") {
          for (const arm of value as ReadonlyArray<Block>) {
            parts.push(`${indent}  arm:`, printBlock(arm, `${indent}    `))
          }
        } else if (Array.isArray(value)) {
          parts.push(`${indent}  ${key}:`, printBlock(value as Block, `${indent}    `))
        } else values.push(`${key}=${String(value)}`)
      }
      return [`${indent}${is} ${values.join(" ")}`, ...parts].join("\n")
    })
    .join("\n")

export const printProgram = ({ workflows, starts, bulk = [], schedules = [] }: Program): string =>
  [
    ...workflows.map(({ name, block }) => `  ${name}:\n${printBlock(block)}`),
    ...starts.map(
      (start) =>
        `  ${start.key}: w${start.workflow} at ${start.atMs} ms` +
        (start.maxAttempts === null ? "" : `, ${start.maxAttempts} attempts`) +
        (start.timeoutMs === null ? "" : `, within ${start.timeoutMs} ms`) +
        (start.triggers === 1 ? "" : `, triggered ${start.triggers} times`) +
        (start.cancel === null ? "" : `, cancelled after ${start.cancel.afterMs} ms`) +
        (start.cancel?.compensate === false ? " without undoing" : "") +
        (start.pause === null
          ? ""
          : `, paused after ${start.pause.afterMs} ms for ${start.pause.forMs} ms`) +
        (start.terminateAfterMs === null ? "" : `, terminated after ${start.terminateAfterMs} ms`) +
        (start.retryAfterMs === null ? "" : `, retried after ${start.retryAfterMs} ms`) +
        (start.delayMs == null ? "" : `, for ${start.delayMs} ms later`) +
        (start.batch == null ? "" : `, with all of batch ${start.batch}`) +
        (start.fork == null
          ? ""
          : `, forked from ${start.fork.position ?? "its end"} after ${start.fork.afterMs} ms`),
    ),
    ...bulk.map(({ atMs, verb, workflow }) => `  all of w${workflow}: ${verb} at ${atMs} ms`),
    ...schedules.map(
      ({ key, workflow, everyMin, atMs, untilMs, againMs }) =>
        `  ${key}: w${workflow} every ${everyMin} minutes, ${atMs} to ${untilMs} ms` +
        (againMs === null ? "" : `, again at ${againMs} ms`),
    ),
  ].join("\n")
