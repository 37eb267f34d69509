/**
 * Histories of every released version go on under the code of today: to the same end, without a pause,
 * and no step runs again. And the same histories find the code that is not theirs.
 */
import { isDeepStrictEqual } from "node:util"
import { describe, expect, it } from "vitest"
import * as Payload from "../../src/Payload.ts"
import type { StepRecord } from "../../src/WorkflowStore.ts"
import { reverseOfCompletion } from "../engine/prefixes.ts"
import { goOn, type Program, recordsOf } from "../engine/replay.ts"
import type { World } from "../engine/world.ts"
import { breaking, harmless } from "./edits.ts"
import { goldens } from "./files.ts"
import { essence, type Golden, restore, stored, type StoredMoment } from "./golden.ts"
import { programOf } from "./programs.ts"

const goOnFrom = (golden: Golden, code: Program["code"], world: World) =>
  goOn(
    { handle: world.handle, world, executions: [], undone: [], parkedTooSoon: new Set() },
    golden.workflowRunId,
    code,
    // of real time: an edit is told from a body that is at rest for this long
    { divergenceGraceMs: 300 },
  )

const resultOf = ({ end }: Golden): unknown =>
  end.result === null ? null : Payload.decode(end.result as Payload.Encoded)

const faultsOf = async (golden: Golden, moment: StoredMoment): Promise<ReadonlyArray<string>> => {
  const program = programOf(golden)
  if (program === undefined) return ["its program is gone"]
  const world = restore(moment)
  const [told, wanted] = [essence(stored(world.handle, moment.at)), essence(moment.runs)]
  if (!isDeepStrictEqual(told, wanted)) return ["it cannot be restored"]
  const end = await goOnFrom(golden, program.code, world)
  if (end.status === "paused") return [`paused: ${end.row.pauseReason?.message}`]
  const faults = [...world.violations]
  const same = isDeepStrictEqual(
    [end.status, end.result, end.error],
    [golden.end.status, resultOf(golden), golden.end.error],
  )
  if (!same && !program.anyEnd) faults.push(`ended as ${end.status}, ${end.error}`)
  if (end.status === "compensated") faults.push(...wronglyUndone(golden, moment, world))
  return faults
}

/** What was open to be undone at the moment is undone in reverse of completion, and nothing else. */
const wronglyUndone = (
  { workflowRunId }: Golden,
  { runs }: StoredMoment,
  world: World,
): ReadonlyArray<string> => {
  const records = recordsOf(world.handle, workflowRunId)
  const ended = new Set(
    runs
      .filter(({ row }) => row.workflowRunId === workflowRunId)
      .flatMap((run) => run.records)
      .filter(({ compensation }) => compensation !== null && compensation.status !== "retrying")
      .map(({ stepKey }) => stepKey),
  )
  const expected = reverseOfCompletion(records).filter((key) => !ended.has(key))
  const undone = world.undone.filter((key) => records.some((one) => one.stepKey === key))
  const known = undone.filter((key) => !isUnknown(records, key))
  return isDeepStrictEqual(known, expected) ? [] : [`undone [${known}], not [${expected}]`]
}

/** A step of which nobody knew what it did: it is undone first, and has no place in the order. */
const isUnknown = (records: ReadonlyArray<StepRecord>, key: string): boolean =>
  records.some((one) => one.stepKey === key && one.status !== "completed")

it("goldens name no folder of the machine that recorded them", () => {
  for (const golden of goldens) {
    const places = JSON.stringify(golden).match(/file:\/\/[^\s):"\\]*/g) ?? []
    expect(places.filter((place) => !place.startsWith("file:///flowly/"))).toEqual([])
  }
})

const named = goldens.map(
  (golden) => [`${golden.version} ${golden.api} ${golden.program}`, golden] as const,
)

describe("a history of an earlier day goes on to its end", { timeout: 120_000 }, () => {
  it.concurrent.each(named)("%s", async (_, golden) => {
    const faults: Array<string> = []
    for (const [index, moment] of golden.moments.entries()) {
      const found = await faultsOf(golden, moment).catch((error: unknown) => [String(error)])
      faults.push(...found.map((fault) => `moment ${index + 1}: ${fault}`))
    }
    expect(faults).toEqual([])
  })
})

/** Of steps one after another: which step has which number is plain. */
const edited = [
  "steps one after another",
  "steps of the same name in a loop",
  "names that look like keys",
  "long retries, which park",
  "a step in a finally",
]

const firstVersion = (program: string) =>
  goldens.find((one) => one.api === "promise" && one.program === program)!

const endOfEdit = async (name: string, edit: NonNullable<World["edit"]>) => {
  const golden = firstVersion(name)
  const world = restore(golden.moments.at(-1)!)
  world.edit = edit
  return { golden, world, end: await goOnFrom(golden, programOf(golden)!.code, world) }
}

describe("the first step of a recorded run", { timeout: 120_000 }, () => {
  const cases = edited.flatMap((name) => Object.keys(breaking).map((edit) => [edit, name] as const))

  it("has thirty edits", () => {
    expect(cases.length).toBe(30)
  })

  it.concurrent.each(cases)("%s is found in: %s", async (edit, name) => {
    const { end, world } = await endOfEdit(name, breaking[edit]!(0))
    expect(end.status).toBe("paused")
    expect(end.row.pauseReason?.tag).toBe("StepMismatch")
    // before any side effect
    expect(world.ran).toEqual([])
  })
})

describe("an edit that changes no operation is none", { timeout: 120_000 }, () => {
  const cases = edited.flatMap((name) => Object.keys(harmless).map((edit) => [edit, name] as const))

  it.concurrent.each(cases)("%s: %s", async (edit, name) => {
    const { golden, world, end } = await endOfEdit(name, harmless[edit]!)
    expect([end.status, end.result]).toEqual([golden.end.status, resultOf(golden)])
    expect(world.violations).toEqual([])
  })
})
