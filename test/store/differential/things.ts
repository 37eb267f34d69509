/**
 * What operations name: runs, workers, claims, new runs; mostly those that are there, now and then those
 * that were, or that nobody knows.
 */
import type { Claim, NewRun, WorkflowRef } from "../../../src/WorkflowStore.ts"
import { id, json, newRun } from "../conformanceFixture.ts"
import type { Dice, World } from "./world.ts"

export const short = (workflowRunId: string): string =>
  `run ${Number.parseInt(workflowRunId.slice(24), 16)}`

export const refs: readonly [WorkflowRef, ...ReadonlyArray<WorkflowRef>] = [
  { name: "w", version: null },
  { name: "x", version: null },
  { name: "w", version: "2" },
]

export const unknownRun = id(0xffffff)

/** A run: the newest first; now and then one that nobody knows. */
export const someRun = (world: World, dice: Dice): string =>
  dice.oneIn(40) ? unknownRun : (dice.pick([...world.rows.keys()].toReversed()) ?? unknownRun)

export const someRuns = (world: World, dice: Dice): ReadonlyArray<string> => [
  ...new Set([someRun(world, dice), ...(dice.oneIn(3) ? [someRun(world, dice)] : [])]),
]

export const someReason = (dice: Dice): string | null => dice.pick([null, "why"])

export const freshId = (world: World): string => {
  const fresh = id(world.ids.length + 1)
  world.ids.push(fresh)
  return fresh
}

/** The present incarnation of some worker; an earlier one now and then. */
export const someWorker = (world: World, dice: Dice): string | null => {
  const incarnations = world.workers[dice.int(3)] ?? []
  return dice.oneIn(10) ? (dice.pick(incarnations) ?? null) : (incarnations.at(-1) ?? null)
}

export const keyOf = ({ workflowRunId, token }: Claim): string => `${workflowRunId} ${token}`

/** A claim that somebody was given, or token 0, which nobody was. */
export const someClaim = (world: World, dice: Dice): Claim | null => {
  const row =
    dice.oneIn(8) || world.held.length === 0
      ? dice.pick([...world.rows.values()])
      : dice.pick(world.held)
  if (row === undefined) return null
  const granted = world.granted.get(row.workflowRunId) ?? []
  const token = dice.oneIn(10) ? dice.pick([...granted, 0]) : granted.at(-1)
  return { workflowRunId: row.workflowRunId, token: token ?? 0 }
}

/** Of runs of one call that stand in each other's way by several keys, any may come first. */
export const byOneKey = (runs: ReadonlyArray<NewRun>, dice: Dice): ReadonlyArray<NewRun> => {
  if (runs.length === 1) return runs
  const key = dice.pick(["idempotencyKey", "concurrencyKey", "parent"] as const)
  return runs.map((run) => ({
    ...run,
    workflow: runs[0]!.workflow,
    idempotencyKey: null,
    concurrencyKey: null,
    parent: null,
    [key]: run[key],
  }))
}

export const someNewRun = (world: World, dice: Dice, workflowRunId = freshId(world)): NewRun => {
  const ref = dice.pick(refs)
  const { now } = world
  const run = newRun(world.ids.length, {
    workflowRunId,
    workflow: ref.name,
    version: ref.version,
    input: json(dice.pick([1, null, { b: 1, a: [2] }, "text"])),
    priority: dice.pick([0, 1, -1]),
    scheduledFor: dice.pick([null, null, null, now + 500, now - 1000, now + 60_000]),
    timeoutMs: dice.pick([null, null, 1000, 60_000]),
    maxAttempts: dice.pick([null, 2]),
    idempotencyKey: dice.pick([null, null, null, "k1", "k2"]),
    concurrencyKey: dice.pick([null, null, null, "c1"]),
    attributes: dice.pick([null, null, { tier: "gold" }, { n: 1.5, tier: "iron" }]),
  })
  const retention = dice.pick([null, 1000, 0])
  const parent = dice.oneIn(8) ? world.rows.get(someRun(world, dice)) : undefined
  const keyed = run.idempotencyKey === null ? run : { ...run, idempotencyRetentionMs: retention }
  if (parent === undefined) return keyed
  const place = { workflowRunId: parent.workflowRunId, stepKey: dice.pick(["kid", "kid2"]) }
  const onParentClose = dice.pick(["cancel", "abandon"] as const)
  return { ...keyed, parent: { ...place, attempt: parent.attempt }, onParentClose }
}
