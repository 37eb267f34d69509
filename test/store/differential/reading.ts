/**
 * Generators for the verbs that read, for schedules, and for hints.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type { Hint } from "../../../src/WorkflowStore.ts"
import { json } from "../conformanceFixture.ts"
import { refs, short, someNewRun, someRun, someRuns } from "./things.ts"
import { at, type Generator, type Dice, type Side, sorted, type World } from "./world.ts"

const selection = (world: World, dice: Dice) => ({
  statuses: dice.pick([
    null,
    ["pending"],
    ["running", "failed"],
    ["completed", "cancelled"],
  ] as const),
  workflow: dice.pick([null, "w"]),
  parentRunId: dice.oneIn(4) ? someRun(world, dice) : null,
  idempotencyKey: dice.pick([null, null, "k1"]),
  concurrencyKey: dice.pick([null, null, "c1"]),
  attributes: dice.pick([null, null, { tier: "gold" }, { tier: "iron", n: 1.5 }]),
  createdFrom: dice.pick([null, null, world.now - 1000]),
  createdBefore: dice.pick([null, null, world.now]),
})

const someSchedule = (world: World, dice: Dice) => {
  const ref = dice.pick(refs)
  return {
    key: dice.pick(["s1", "s2"]),
    workflow: ref.name,
    version: ref.version,
    cron: dice.pick(["* * * * *", "0 9 * * *"]),
    timeZone: dice.pick(["UTC", "Europe/Berlin"]),
    input: json(dice.int(3)),
    enabled: !dice.oneIn(5),
    nextTick: world.now + dice.pick([0, 1000, -1000]),
  }
}

/** What is asked for, one after the other, until the store gives no more. */
const drain = (side: Side, limit: number, wanted: number) =>
  Effect.gen(function* () {
    const found: Array<unknown> = []
    // another database's transaction may hold events back for a moment
    for (let rounds = 0; rounds < 2000 && found.length < wanted; rounds++) {
      const { events, cursor } = yield* side.store.tailEvents({ cursor: side.cursor, limit })
      side.cursor = cursor
      found.push(...events)
      if (events.length === 0)
        yield* Effect.promise(() => new Promise((done) => setTimeout(done, 5)))
    }
    return found
  })

export const readingVerbs = {
  getControls: (world, dice) => {
    const run = someRun(world, dice)
    return at(`getControls ${short(run)}`, ({ store }) => store.getControls(run))
  },

  getRuns: (world, dice) => {
    const ids = someRuns(world, dice)
    // named twice: told once
    return at("getRuns", ({ store }) => Effect.map(store.getRuns([...ids, ...ids]), sorted))
  },

  listRuns: (world, dice) => {
    const before = dice.oneIn(3) ? someRun(world, dice) : null
    const options = { ...selection(world, dice), before, limit: dice.pick([100, 1, 3]) }
    return at(`listRuns ${JSON.stringify(options)}`, ({ store }) => store.listRuns(options))
  },

  countRuns: (world, dice) => {
    const options = selection(world, dice)
    return at(`countRuns ${JSON.stringify(options)}`, ({ store }) => store.countRuns(options))
  },

  getSituation: (world, dice) => {
    const run = someRun(world, dice)
    return at(`getSituation ${short(run)}`, ({ store }) =>
      Effect.map(
        store.getSituation(run),
        (situation) =>
          situation && {
            ...situation,
            workers: situation.workers.map((worker) => worker.workerId).toSorted(),
          },
      ),
    )
  },

  getSteps: (world, dice) => {
    const run = someRun(world, dice)
    return at(`getSteps ${short(run)}`, ({ store }) => store.getSteps(run))
  },

  getEvents: (world, dice) => {
    const run = someRun(world, dice)
    return at(`getEvents ${short(run)}`, ({ store }) => store.getEvents(run))
  },

  tailEvents: (_, dice) => {
    const limit = dice.pick([100, 1, 2])
    // the memory store comes first, and says how many there are
    let wanted: number | null = null
    return at(`tailEvents ${limit}`, (side) =>
      Effect.gen(function* () {
        if (side.cursor === null) {
          const { events, cursor } = yield* side.store.tailEvents({ cursor: null, limit })
          side.cursor = cursor
          return events
        }
        if (wanted !== null) return yield* drain(side, limit, wanted)
        const { events, cursor } = yield* side.store.tailEvents({ cursor: side.cursor, limit })
        side.cursor = cursor
        wanted = events.length
        return events
      }),
    )
  },
} satisfies Record<string, Generator>

export const scheduleVerbs = {
  upsertSchedule: (world, dice) => {
    const schedule = someSchedule(world, dice)
    const text = `upsertSchedule ${schedule.key} ${schedule.cron} ${schedule.enabled}`
    return at(text, ({ store }) => store.upsertSchedule(schedule))
  },

  removeSchedule: (_, dice) => {
    const key = dice.pick(["s1", "s2"])
    return at(`removeSchedule ${key}`, ({ store }) => store.removeSchedule(key))
  },

  listSchedules: () => at("listSchedules", ({ store }) => store.listSchedules),

  dueSchedules: (_, dice) => {
    const limit = dice.pick([10, 1])
    return at(`dueSchedules ${limit}`, ({ store }) => store.dueSchedules({ limit }))
  },

  fireTick: (world, dice) => {
    const schedule = dice.pick(world.schedules)
    if (schedule === undefined) return null
    const { key, nextTick } = schedule
    const expectedNextTick = dice.oneIn(5) ? nextTick - 1000 : nextTick
    const tick = dice.pick([nextTick, nextTick, nextTick - 1000])
    const run = someNewRun(world, dice)
    // as the ticker makes them
    const plain = { idempotencyKey: null, scheduledFor: null, attributes: null }
    const fresh = { ...run, parent: null, ...plain }
    const options = { key, expectedNextTick, tick, nextTick: tick + 1000, run: fresh }
    const text = `fireTick ${key} ${tick - world.now} if ${expectedNextTick - world.now}`
    return at(text, ({ store }) => store.fireTick(options))
  },

  notify: (_, dice) => {
    const hint = dice.pick(["work", "settled", "signal", "wakes"] as const)
    return at(`notify ${hint}`, ({ store }) => store.notify([hint]))
  },

  listen: (_, dice) => {
    const hint = dice.pick(["work", "settled", "signal", "wakes"] as const)
    // a hint may get lost while the subscription begins, so it is given again
    return at(`listen for ${hint}`, ({ store }) =>
      Effect.scoped(
        Effect.gen(function* () {
          const hints = yield* store.listen
          for (let rounds = 0; rounds < 400; rounds++) {
            yield* store.notify([hint])
            yield* Effect.promise(() => new Promise((done) => setTimeout(done, 25)))
            const heard: ReadonlyArray<Hint> = Result.getOrElse(
              yield* Effect.result(Queue.clear(hints)),
              () => [],
            )
            if (heard.includes(hint)) return "heard"
          }
          return "not heard"
        }),
      ),
    )
  },
} satisfies Record<string, Generator>
