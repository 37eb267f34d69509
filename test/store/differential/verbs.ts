/**
 * A generator for each verb of the contract. The type makes a new verb without one an error.
 *
 * What is made is what a correct caller may send at that moment, or might have sent earlier: stale
 * tokens, copies of earlier writes, ids that are known already or that nobody knows. What no correct
 * caller sends (the memory store refuses it as a defect) is not made.
 */
import * as Effect from "effect/Effect"
import { isTerminal } from "../../../src/Run.ts"
import type { Claim, RunWrite, WorkflowRef } from "../../../src/WorkflowStore.ts"
import { error, json, leaseMs, record, workerId } from "../conformanceFixture.ts"
import { readingVerbs, scheduleVerbs } from "./reading.ts"
import { at, type Dice, type Generator, type Side, sorted, type Verb, type World } from "./world.ts"
import {
  byOneKey,
  freshId,
  keyOf,
  refs,
  short,
  someClaim,
  someNewRun,
  someReason,
  someRun,
  someRuns,
  someWorker,
} from "./things.ts"
import { someWrite } from "./writes.ts"

// -----------------------------------------------------------------------------
// Verbs
// -----------------------------------------------------------------------------

const registration = (worker: string, dice: Dice) => ({
  workerId: worker,
  label: dice.pick(["worker", "other"]),
  leaseMs: dice.pick([100 * leaseMs, 100 * leaseMs, leaseMs, 1000]),
  workflows: dice.pick([refs, [refs[0]]]),
  capacity: dice.pick([10, 1]),
})

/**
 * Not a run beside its child: of two that end in one call, whether the parent counts the wake from the
 * child depends on which is looked at first. Its counter means nothing any more.
 */
const unrelated = (world: World, ids: ReadonlyArray<string>): ReadonlyArray<string> =>
  ids.filter((one) => !ids.includes(world.rows.get(one)?.parent?.workflowRunId ?? ""))

const withError = (world: World, dice: Dice, message: string) =>
  unrelated(world, someRuns(world, dice)).map((workflowRunId) => ({
    workflowRunId,
    error: error(message),
    reason: someReason(dice),
  }))

/** Of equals that are due, which one is taken first is not promised: take all, or a clear best. */
const someLimit = (world: World, dice: Dice, workflows: ReadonlyArray<WorkflowRef>): number => {
  const limit = dice.pick([100, 1, 2])
  const places = [...world.rows.values()]
    .filter((row) => row.workerId === null && row.dueAt !== null && row.dueAt <= world.now)
    .filter(({ workflow, version }) =>
      workflows.some((ref) => ref.name === workflow && ref.version === version),
    )
    .map((row) => `${row.priority} ${row.dueAt}`)
  return new Set(places).size === places.length ? limit : 100
}

export const generators: Readonly<Record<Verb, Generator>> = {
  migrate: () => at("migrate", ({ store }) => store.migrate),

  verify: (_, dice) => {
    const options = { worker: dice.oneIn(2), listen: dice.oneIn(2) }
    return at(`verify ${JSON.stringify(options)}`, ({ store }) => store.verify(options))
  },

  now: () => at("now", ({ store }) => store.now),

  callersTransaction: () => at("callersTransaction", ({ store }) => store.callersTransaction),

  joinTransaction: (world, dice) => {
    const runs = [someNewRun(world, dice)]
    const event = {
      workflowRunId: someRun(world, dice),
      name: "go",
      payload: json(dice.int(3)),
      id: dice.pick([null, "joined"]),
    }
    const bound = dice.oneIn(3) ? { maxPending: 1 } : undefined
    // the wakes of events that are sent so are applied by a sweep
    return at(`joinTransaction: insert ${short(runs[0]!.workflowRunId)}, event`, (side) =>
      Effect.gen(function* () {
        const { store } = side
        const { client, commit } = yield* side.begin
        const { run } = yield* store.joinTransaction(client)
        const answers = yield* run(
          Effect.all([
            store.insertRuns({ runs, claimFor: null }),
            store.sendEvents([event], bound),
          ]),
        )
        yield* commit
        return [answers, yield* store.sweep({ limit: 100 })]
      }),
    )
  },

  registerWorker: (world, dice) => {
    const slot = dice.int(3)
    const incarnations = world.workers[slot]!
    const known = dice.oneIn(12) ? incarnations.at(-1) : undefined
    const worker = known ?? workerId(100 * (slot + 1) + incarnations.length)
    if (known === undefined) incarnations.push(worker)
    const options = registration(worker, dice)
    const text = `registerWorker ${slot} ${options.leaseMs}${known ? " again" : ""}`
    return at(text, ({ store }) => store.registerWorker(options))
  },

  renewLease: (world, dice) => {
    const worker = someWorker(world, dice)
    if (worker === null) return null
    const options = registration(worker, dice)
    return at(`renewLease ${worker.slice(-3)} ${options.leaseMs}`, ({ store }) =>
      Effect.map(store.renewLease(options), ({ renewed, claims }) => [renewed, sorted(claims)]),
    )
  },

  retireWorker: (world, dice) => {
    const worker = someWorker(world, dice)
    if (worker === null) return null
    return at(`retireWorker ${worker.slice(-3)}`, ({ store }) => store.retireWorker(worker))
  },

  refundCrashes: (world, dice) => {
    const worker = dice.pick(world.workers.flat())
    if (worker === undefined) return null
    return at(`refundCrashes ${worker.slice(-3)}`, ({ store }) => store.refundCrashes(worker))
  },

  sweep: () => at("sweep", ({ store }) => store.sweep({ limit: 100 })),

  deadLetterPoison: (_, dice) => {
    const maxCrashes = dice.pick([1, 2, 3])
    return at(`deadLetterPoison ${maxCrashes}`, ({ store }) =>
      Effect.map(store.deadLetterPoison({ maxCrashes, limit: 100 }), (ids) => ids.toSorted()),
    )
  },

  cancelOrphans: () => at("cancelOrphans", ({ store }) => store.cancelOrphans({ limit: 100 })),

  claimRuns: (world, dice) => {
    const worker = someWorker(world, dice)
    if (worker === null) return null
    const workflows = dice.pick<ReadonlyArray<WorkflowRef>>([refs, refs.slice(0, 1), refs.slice(1)])
    const suspects = dice.oneIn(5)
    const limit = someLimit(world, dice, workflows)
    const options = { workerId: worker, workflows, limit, suspects }
    const names = workflows.map((ref) => `${ref.name}${ref.version ?? ""}`).join()
    const text = `claimRuns ${worker.slice(-3)} ${limit} of ${names}${suspects ? ", suspects" : ""}`
    return at(text, ({ store }) => Effect.map(store.claimRuns(options), sorted))
  },

  loadHistory: (world, dice) => {
    const ids = someRuns(world, dice)
    return at("loadHistory", ({ store }) =>
      Effect.map(store.loadHistory(ids), (all) => sorted(all).map((one) => one.records)),
    )
  },

  loadSources: (world, dice) => {
    const ids = someRuns(world, dice)
    return at("loadSources", ({ store }) => Effect.map(store.loadSources(ids), sorted))
  },

  readSignals: (world, dice) => {
    const claims = [someClaim(world, dice), someClaim(world, dice)].filter((one) => one !== null)
    return at("readSignals", ({ store }) => Effect.map(store.readSignals(claims), sorted))
  },

  releaseClaims: (world, dice) => {
    const claim = someClaim(world, dice)
    if (claim === null) return null
    return at(`releaseClaims ${short(claim.workflowRunId)} (${claim.token})`, ({ store }) =>
      store.releaseClaims([claim]),
    )
  },

  insertRuns: (world, dice) => {
    const count = dice.pick([1, 1, 2, 3])
    const runs = Array.from({ length: count }, () => {
      const known = dice.oneIn(8) ? dice.pick(world.inserted) : undefined
      return known ?? someNewRun(world, dice)
    })
    const distinct = byOneKey(
      [...new Map(runs.map((run) => [run.workflowRunId, run])).values()],
      dice,
    )
    world.inserted.push(...distinct)
    const claimFor = dice.pick([true, false]) ? someWorker(world, dice) : null
    const described = distinct.map(
      (run) =>
        `${short(run.workflowRunId)} of ${run.workflow}${run.version ?? ""}` +
        `${run.parent ? ` child of ${short(run.parent.workflowRunId)}` : ""}` +
        `${run.idempotencyKey ? ` ${run.idempotencyKey}` : ""}` +
        `${run.concurrencyKey ? ` ${run.concurrencyKey}` : ""}` +
        `${run.scheduledFor ? ` at ${run.scheduledFor - world.now}` : ""}` +
        `${run.timeoutMs ? ` within ${run.timeoutMs}` : ""}`,
    )
    const text = `insertRuns ${described.join("; ")} for ${claimFor?.slice(-3) ?? "nobody"}`
    return at(text, ({ store }) => store.insertRuns({ runs: distinct, claimFor }))
  },

  releaseIdempotencyKey: (world, dice) => {
    const run = someRun(world, dice)
    return at(`releaseIdempotencyKey ${short(run)}`, ({ store }) =>
      store.releaseIdempotencyKey(run),
    )
  },

  commit: (world, dice) => {
    const again = dice.oneIn(6) ? dice.pick(world.sent.toReversed()) : undefined
    if (again !== undefined) {
      return at(`again: ${again.text}`, (side) => send(side, [again.of(side)]))
    }
    const claims = [someClaim(world, dice), ...(dice.oneIn(3) ? [someClaim(world, dice)] : [])]
    const byRun = new Map(
      claims.flatMap((one) =>
        one === null || world.letGo.has(keyOf(one)) ? [] : [[one.workflowRunId, one]],
      ),
    )
    if (byRun.size === 0) return null
    const ids = unrelated(world, [...byRun.keys()])
    const writes = ids.map((one) => someWrite(world, dice, byRun.get(one)!, () => freshId(world)))
    world.sent.push(...writes)
    for (const { releases } of writes) if (releases !== null) world.letGo.add(keyOf(releases))
    const text = writes.map((one) => one.text).join("; and ")
    return at(text, (side) =>
      send(
        side,
        writes.map((one) => one.of(side)),
      ),
    )
  },

  transact: (world, dice) => {
    const claim = someClaim(world, dice)
    if (claim === null) return null
    const stepKey = dice.pick(["t1", "t2"])
    const position = nextPosition(world, claim)
    const fails = dice.oneIn(5)
    const options = {
      claim,
      isolation: dice.pick([null, "repeatable read", "serializable"] as const),
      use: () =>
        fails
          ? Effect.fail({ _tag: "Refused", by: "the step" })
          : Effect.succeed(record(stepKey, position, { hasCompensate: true })),
    }
    const text = `transact ${stepKey}${fails ? " in vain" : ""} ${short(claim.workflowRunId)}`
    return at(text, ({ store }) => store.transact(options))
  },

  transactionOutcome: (world, dice) => {
    const claim = someClaim(world, dice)
    if (claim === null) return null
    const stepKey = dice.pick(["t1", "t2", "a"])
    const asked = { claim, record: record(stepKey, nextPosition(world, claim)) }
    return at(`transactionOutcome ${stepKey} ${short(claim.workflowRunId)}`, ({ store }) =>
      store.transactionOutcome(asked),
    )
  },

  requestCancel: (world, dice) => {
    const run = someRun(world, dice)
    const compensate = dice.pick([null, true, false])
    const options = { workflowRunId: run, compensate, reason: someReason(dice) }
    return at(`requestCancel ${short(run)} ${compensate}`, ({ store }) =>
      store.requestCancel(options),
    )
  },

  resumeRun: (world, dice) => {
    const [run, reason] = [someRun(world, dice), someReason(dice)]
    return at(`resumeRun ${short(run)}`, ({ store }) => store.resumeRun(run, reason))
  },

  retryRun: (world, dice) => {
    const run = ended(world, dice) ?? someRun(world, dice)
    const reason = someReason(dice)
    return at(`retryRun ${short(run)}`, ({ store }) => store.retryRun(run, reason))
  },

  reviseCompensation: (world, dice) => {
    const undoing = [...world.rows.values()].filter((row) => row.compensating)
    const run = dice.pick(undoing)?.workflowRunId ?? someRun(world, dice)
    const keys = world.histories.get(run)?.records.map((one) => one.stepKey) ?? []
    const stepKey = dice.pick([...keys, null]) ?? null
    const verb = dice.pick(["retry", "skip"] as const)
    return at(`reviseCompensation ${verb} ${stepKey} ${short(run)}`, ({ store }) =>
      store.reviseCompensation({ workflowRunId: run, stepKey, verb }),
    )
  },

  sendEvents: (world, dice) => {
    const events = Array.from({ length: dice.pick([1, 1, 2, 3]) }, () => ({
      workflowRunId: someRun(world, dice),
      name: dice.pick(["go", "other"]),
      payload: json(dice.int(5)),
      id: dice.pick([null, null, "one", "two"]),
    }))
    const maxPending = dice.pick([null, 2, 1])
    const text = events.map((event) => `${event.name} ${event.id} to ${short(event.workflowRunId)}`)
    return at(`sendEvents ${text.join("; ")} up to ${maxPending}`, ({ store }) =>
      store.sendEvents(events, maxPending === null ? undefined : { maxPending }),
    )
  },

  findToken: (world, dice) => {
    const options = { workflowRunId: someRun(world, dice), token: dice.pick(["tok", "none"]) }
    return at("findToken", ({ store }) => store.findToken(options))
  },

  terminateRuns: (world, dice) => {
    const runs = withError(world, dice, "terminated")
    const text = runs.map((one) => short(one.workflowRunId)).join()
    return at(`terminateRuns ${text}`, ({ store }) => store.terminateRuns(runs))
  },

  pauseRuns: (world, dice) => {
    const runs = withError(world, dice, "paused")
    const text = runs.map((one) => short(one.workflowRunId)).join()
    return at(`pauseRuns ${text}`, ({ store }) => store.pauseRuns(runs))
  },

  wakeRuns: (world, dice) => {
    const workflowRunIds = someRuns(world, dice)
    const options = { workflowRunIds, endSleeps: dice.oneIn(2), reason: someReason(dice) }
    const text = `wakeRuns ${workflowRunIds.map(short).join()} ${options.endSleeps}`
    return at(text, ({ store }) => store.wakeRuns(options))
  },

  rescheduleRuns: (world, dice) => {
    const workflowRunIds = someRuns(world, dice)
    const to = world.now + dice.pick([5000, 0, -1000, 60_000])
    const sleep = dice.pick([null, null, "nap", "nap2"])
    const options = { workflowRunIds, at: to, sleep, reason: someReason(dice) }
    const text = `rescheduleRuns ${workflowRunIds.map(short).join()} to ${to - world.now} ${sleep}`
    return at(text, ({ store }) => store.rescheduleRuns(options))
  },

  forkRuns: (world, dice) => {
    const run = someRun(world, dice)
    const records = world.histories.get(run)?.records ?? []
    const key = dice.pick(records)?.stepKey ?? "a"
    const from = dice.pick([null, { stepKey: key }, { position: 1 + dice.int(4) }] as const)
    const newRunId = dice.oneIn(8) ? someRun(world, dice) : freshId(world)
    const input = dice.pick([null, json("forked")])
    const forks = [{ workflowRunId: run, from, newRunId, input, reason: someReason(dice) }]
    const text = `forkRuns ${short(run)} from ${JSON.stringify(from)} to ${short(newRunId)}`
    return at(text, ({ store }) => store.forkRuns(forks))
  },

  ...readingVerbs,
  ...scheduleVerbs,
}

/** Signals are the holder's: of a claim that the write released they mean nothing. */
const send = ({ store }: Side, writes: ReadonlyArray<RunWrite>) =>
  Effect.map(store.commit(writes), (answers) =>
    answers.map((given, index) => {
      if (given._tag !== "committed") return given
      const byKey = <A extends { readonly stepKey: string }>(list: ReadonlyArray<A>) =>
        list.toSorted((a, b) => (a.stepKey < b.stepKey ? -1 : 1))
      const answer = {
        ...given,
        timers: byKey(given.timers),
        refusedSleeps: byKey(given.refusedSleeps),
        children: byKey(given.children),
      }
      const { transition } = writes[index]!
      if (transition === null || transition._tag === "Compensate") return answer
      const { wakeCounter: _1, cancelRequest: _2, pauseRequest: _3, ...rest } = answer
      return { ...rest, deadlinePassed: null }
    }),
  )

const ended = (world: World, dice: Dice): string | undefined =>
  dice.pick([...world.rows.values()].filter((row) => isTerminal(row.status)))?.workflowRunId

export const nextPosition = (world: World, { workflowRunId }: Claim): number => {
  const records = world.histories.get(workflowRunId)?.records ?? []
  return 1 + Math.max(0, ...records.map((one) => one.position ?? 0))
}

/** How often each verb comes, beside the others. */
export const weights: Readonly<Record<Verb, number>> = {
  commit: 90,
  claimRuns: 24,
  insertRuns: 16,
  registerWorker: 6,
  sweep: 6,
  sendEvents: 7,
  requestCancel: 5,
  pauseRuns: 5,
  resumeRun: 5,
  retryRun: 5,
  terminateRuns: 3,
  wakeRuns: 4,
  rescheduleRuns: 4,
  forkRuns: 4,
  reviseCompensation: 5,
  retireWorker: 5,
  renewLease: 3,
  refundCrashes: 3,
  deadLetterPoison: 3,
  cancelOrphans: 3,
  releaseClaims: 3,
  transact: 4,
  transactionOutcome: 3,
  releaseIdempotencyKey: 3,
  upsertSchedule: 3,
  fireTick: 5,
  removeSchedule: 1,
  joinTransaction: 2,
  readSignals: 2,
  tailEvents: 3,
  listRuns: 3,
  countRuns: 2,
  dueSchedules: 1,
  findToken: 1,
  loadHistory: 1,
  loadSources: 2,
  getRuns: 1,
  getSituation: 2,
  getSteps: 1,
  getEvents: 1,
  getControls: 1,
  listSchedules: 1,
  now: 1,
  callersTransaction: 1,
  migrate: 1,
  verify: 1,
  notify: 1,
  listen: 1,
}
