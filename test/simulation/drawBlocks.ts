/** Draws what a workflow does: blocks of commands, by the dice of a seed. */
import type { Dice } from "../support/dice.ts"
import { type Block, type Command, undoTries } from "./program.ts"
import type { Favourite, ProgramOptions } from "./programOptions.ts"

/** Where a command is to stand. */
export interface Place {
  readonly depth: number
  readonly arm: boolean
  /** So many workflows may be children there. */
  readonly children: number
  /** In an arm of a race: what fails here might end the race, or might not. */
  readonly racing: boolean
  /** What fails here may be caught. */
  readonly rescued: boolean
}

export interface Blocks {
  /** The workflows that complete in their first attempt: told by whoever draws them. */
  readonly reliable: Array<number>
  /** A new name. */
  readonly site: () => string
  /** Something that fails. */
  readonly failure: (place: Place) => Command
  /** A block of so many commands, and at most so many in all. */
  readonly block: (place: Place, size: () => number, most: number) => Block
}

/** Draws from these dice. */
export const makeBlocks = (dice: Dice, options: ProgramOptions): Blocks => {
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

  /** A failure that is caught stands also in the next attempt, whatever that would come to. */
  const again = (place: Place): boolean => !place.racing && !place.rescued && dice.chance(0.6)

  const has = (feature: "retries" | "undos" | "failures" | "emits") => options[feature] !== false

  const step = (place: Place, slow = false): Command => {
    const undo = has("undos") && dice.chance(0.5)
    return {
      is: "step",
      name: site(),
      ms: slow ? dice.whole(1000, Math.min(options.slowMs, 4000)) : stepMs(),
      undoFails: undo ? (dice.chance(0.2) && !place.arm ? dice.pick([1, 1, undoTries]) : 0) : null,
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
      add("child", () => ({
        is: "child",
        name: site(),
        of: dice.pick(callable(place)),
        again: again(place),
      }))
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
      add("noReturn", () => ({ is: "noReturn", name: site() }))
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
      const deadline = (): Command => ({
        is: "deadline",
        name: site(),
        deadlineMs: dice.pick([200, 3000, 9000]),
        waitMs: dice.pick([50, 1500]),
      })
      if (options.deadlines === true && dice.chance(0.7)) return deadline()
      kinds.push(() => {
        const tries = dice.whole(1, 2)
        return limited(tries, tries, place)
      }, deadline)
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
        block: [...block({ ...inside, rescued: true }, dice.whole(0, 2)), failure(inside)],
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
        again: again(place),
        abandons: dice.chance(0.3),
        between: block(inside, dice.whole(0, 2)),
      }))
    }
    if (options.wide === true && dice.chance(0.5)) return (kinds[0] as () => Command)()
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

  return {
    reliable,
    site,
    failure,
    block: (place, size, most) => {
      budget = most
      return block(place, size())
    },
  }
}
