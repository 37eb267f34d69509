/**
 * What the holder of a claim may write at this moment: records under numbers that follow those that
 * stand, timers beside sleeps, children of its own, undos of what asked for one, one transition.
 */
import { isTerminal } from "../../../src/Run.ts"
import type {
  Claim,
  CompensationWrite,
  NewRun,
  OperationKind,
  ParkedWait,
  RecordWrite,
  RunRow,
  RunWrite,
  StepRecord,
  TimerWrite,
  Transition,
} from "../../../src/WorkflowStore.ts"
import { error, json, newRun, record, settle, write } from "../conformanceFixture.ts"
import type { Dice, Side, World } from "./world.ts"

interface SomeWrite {
  readonly text: string
  readonly of: (side: Side) => RunWrite
  /** The claim that it lets go. */
  readonly releases: Claim | null
}

/** The parts of a write as they are made, one after the other. */
interface Making {
  readonly world: World
  readonly dice: Dice
  readonly row: RunRow
  readonly standing: ReadonlyMap<string, StepRecord>
  position: number
  readonly timers: Array<TimerWrite>
  readonly records: Array<RecordWrite & { readonly eventAt?: number | undefined }>
  readonly children: Array<NewRun>
  readonly emitted: Array<RunWrite["emitted"][number]>
}

type Part = (making: Making, freshId: () => string) => void

const has = ({ records }: Making, stepKey: string) => records.some((one) => one.stepKey === stepKey)

const put = (
  making: Making,
  stepKey: string,
  options: Partial<Making["records"][number]>,
): void => {
  if (!has(making, stepKey))
    making.records.push({ ...record(stepKey, making.position++), ...options })
}

const fix = (making: Making, timer: TimerWrite): void => {
  if (!making.timers.some((one) => one.stepKey === timer.stepKey)) making.timers.push(timer)
}

const outcome = (dice: Dice) =>
  dice.oneIn(3)
    ? { status: "failed" as const, result: null, error: error("no") }
    : { result: json(dice.pick([1, null, { deep: [true] }])) }

const step: Part = (making) => {
  const { dice, standing } = making
  const stepKey = dice.pick(["a", "b", "c", "d"])
  const options = {
    ...outcome(dice),
    hasCompensate: stepKey < "c",
    issuedAfter: dice.int(3),
    elapsedMs: dice.pick([0, 250]),
    attempts: 1 + dice.int(2),
    heartbeat: dice.pick([undefined, json("beat"), null]),
  }
  const before = standing.get(stepKey)
  // nobody notes a try of what has ended: when such a write was committed, the stores tell differently
  const hasEnded = before !== undefined && before.status !== "retrying"
  if (!dice.oneIn(3) || hasEnded) return put(making, stepKey, options)
  put(making, stepKey, {
    ...options,
    position: null,
    status: "retrying",
    result: null,
    error: dice.pick([null, error("a try")]),
    attempts: (before?.attempts ?? 0) + dice.int(2),
    revision: dice.int(3),
    retryDelayMs: dice.pick([null, 1000, 60_000]),
  })
  // a deadline over all its tries, fixed beside the note
  if (dice.oneIn(3)) fix(making, { stepKey, delayMs: dice.pick([60_000, 500]) })
}

const sleep: Part = (making) => {
  const { dice, row, world } = making
  const stepKey = dice.pick(["nap", "nap2"])
  const timers = world.histories.get(row.workflowRunId)?.timers ?? []
  const begun = timers.some((one) => one.stepKey === stepKey)
  if (!begun || dice.oneIn(4)) {
    const until = { stepKey, wakeAt: world.now + 2000 }
    fix(making, dice.pick([{ stepKey, delayMs: 500 }, { stepKey, delayMs: 0 }, until]))
    if (!dice.oneIn(3)) return
  }
  put(making, stepKey, { kind: "sleep", result: null })
}

const event: Part = (making) => {
  const { dice, row, world } = making
  const stepKey = dice.pick(["go", "go#2"])
  const history = world.histories.get(row.workflowRunId)
  const count = history?.events.length ?? 0
  const isTaken = making.records.some((one) => one.eventAt !== undefined)
  if (count > 0 && !isTaken && !dice.oneIn(4)) {
    return put(making, stepKey, { kind: "event", eventAt: dice.int(count), result: json("come") })
  }
  const begun = history?.timers.some((one) => one.stepKey === stepKey)
  if (!begun) fix(making, { stepKey, delayMs: dice.pick([500, 0]) })
  if (begun || dice.oneIn(2)) put(making, stepKey, { kind: "event", result: null })
}

const child: Part = (making, freshId) => {
  const { dice, row } = making
  const stepKey = dice.pick(["kid", "kid2"])
  if (making.children.some((one) => one.parent?.stepKey === stepKey)) return
  const kid = newRun(0, {
    workflowRunId: freshId(),
    workflow: dice.pick(["x", "w"]),
    parent: { workflowRunId: row.workflowRunId, stepKey, attempt: row.attempt },
    onParentClose: dice.pick(["cancel", "abandon"] as const),
    timeoutMs: dice.pick([null, 1000]),
  })
  making.children.push(kid)
  if (dice.oneIn(2)) put(making, `start ${stepKey}`, { kind: "child_start" })
}

const childEnd: Part = (making) => {
  const { dice } = making
  put(making, dice.pick(["kid", "kid2"]), { kind: "child", ...outcome(dice) })
}

const emit: Part = (making) => {
  const { dice } = making
  const name = dice.pick(["e1", "e2"])
  const stepKey = `emit:${name}`
  if (has(making, stepKey)) return
  put(making, stepKey, { kind: "emit", result: null })
  making.emitted.push({ stepKey, name, payload: json(dice.int(4)) })
}

const rest: Part = (making) => {
  const [stepKey, kind, result] = making.dice.pick<readonly [string, OperationKind, unknown]>([
    ["fx", "side_effect", 4],
    ["tok", "token", "tok"],
    ["ret", "no_return", null],
    ["pat", "patch", true],
  ])
  put(making, stepKey, { kind, result: json(result) })
}

const parts: readonly [Part, ...ReadonlyArray<Part>] = [
  step,
  step,
  step,
  sleep,
  event,
  child,
  childEnd,
  emit,
  rest,
]

/** Of what stands and asked for it. */
const someUndos = ({ dice, standing }: Making): ReadonlyArray<CompensationWrite> => {
  const open = [...standing.values()].filter((one) => one.hasCompensate)
  const count = dice.pick([1, 2, 0])
  const undos = Array.from({ length: count }, () => dice.pick(open))
  return [...new Set(undos)].flatMap((one) => {
    if (one === undefined) return []
    const status = dice.pick(["completed", "failed", "retrying"] as const)
    const failure = status === "completed" ? null : error("not undone")
    const attempts = (one.compensation?.attempts ?? 0) + dice.pick([1, 0])
    const retryDelayMs = status === "retrying" ? dice.pick([null, 1000]) : null
    return [{ stepKey: one.stepKey, status, attempts, error: failure, retryDelayMs }]
  })
}

const someWaits = (dice: Dice): ReadonlyArray<ParkedWait> | undefined =>
  dice.pick([
    undefined,
    [],
    [
      { stepKey: "nap", kind: "sleep", event: null, until: 5, attempt: null, maxAttempts: null },
      { stepKey: "a", kind: "backoff", event: null, until: 5, attempt: 2, maxAttempts: 3 },
    ],
  ])

const someTransition = ({ dice, row, world, records, standing }: Making): Transition | null => {
  const undoes = row.compensating
  const failures = [...standing.values(), ...records].filter((one) => one.status === "failed")
  const failedPosition = dice.pick([null, ...failures.map((one) => one.position)]) ?? null
  const parks = (): Transition => ({
    _tag: "Park",
    status: dice.pick(["sleeping", "waiting"]),
    dueAt: dice.pick([null, world.now + 700, world.now - 5]),
    delayMs: dice.pick([null, 500, 60_000]),
    wakeCounter: Math.max(0, row.wakeCounter - (dice.oneIn(4) ? 1 : 0)),
    waits: someWaits(dice),
  })
  const settles = (): Transition => {
    const status = undoes
      ? dice.pick(["compensated", "failed", "dead_letter", "cancelled"] as const)
      : dice.pick(["completed", "failed", "cancelled", "dead_letter"] as const)
    const isFailure = status === "failed" || status === "dead_letter"
    const told = undoes && dice.oneIn(2) ? { error: null } : {}
    return settle(status, { ...told, failedPosition: isFailure && !undoes ? failedPosition : null })
  }
  const compensates = (): Transition | null =>
    undoes ? null : { _tag: "Compensate", error: error("to undo") }
  const kinds: ReadonlyArray<() => Transition | null> = [
    () => null,
    () => null,
    parks,
    parks,
    settles,
    settles,
    () => ({ _tag: "HandBack" }),
    () => ({ _tag: "Pause", error: error("by the run") }),
    compensates,
    compensates,
    () =>
      undoes
        ? null
        : {
            _tag: "RetryRun",
            failedPosition,
            delayMs: dice.pick([0, 500, 60_000]),
            error: error("an attempt failed"),
          },
  ]
  return dice.pick(kinds)!()
}

const shown = (one: RunWrite): string =>
  [
    `run ${Number.parseInt(one.workflowRunId.slice(24), 16)} (${one.token})`,
    ...one.timers.map((timer) => `timer ${JSON.stringify(timer)}`),
    ...one.records.map(
      (r) => `${r.kind} ${r.stepKey} ${r.status} ${r.position ?? `${r.attempts}.${r.revision}`}`,
    ),
    ...one.children.map((kid) => `child ${kid.parent!.stepKey} ${kid.onParentClose}`),
    ...one.emitted.map(({ name }) => `emit ${name}`),
    ...one.compensations.map((undo) => `undo ${undo.stepKey} ${undo.status} ${undo.attempts}`),
    ...(one.attributes === undefined ? [] : [JSON.stringify(one.attributes)]),
    ...(one.transition === null ? [] : [JSON.stringify(one.transition)]),
  ].join(", ")

/** A write for a claim: of a run that is in other hands, what its holder might have sent. */
export const someWrite = (
  world: World,
  dice: Dice,
  claim: Claim,
  freshId: () => string,
): SomeWrite => {
  const row = world.rows.get(claim.workflowRunId)!
  const records = world.histories.get(claim.workflowRunId)?.records ?? []
  const making: Making = {
    world,
    dice,
    row,
    standing: new Map(records.map((one) => [one.stepKey, one])),
    position: 1 + Math.max(0, ...records.map((one) => one.position ?? 0)),
    timers: [],
    records: [],
    children: [],
    emitted: [],
  }
  const undoes = row.compensating && !isTerminal(row.status)
  for (let left = undoes ? 0 : dice.pick([1, 2, 0, 3]); left > 0; left--) {
    dice.pick(parts)(making, freshId)
  }
  const compensations = undoes ? someUndos(making) : []
  const attributes = dice.pick([undefined, undefined, undefined, { tier: "gold" }, { "": "busy" }])
  const transition = someTransition(making)
  // an attempt ends when what it wrote is answered: nobody fixes a deadline beside its end
  const noted = new Set(making.records.flatMap((one) => (one.position === null ? one.stepKey : [])))
  const ends = transition?._tag === "RetryRun"
  // nor with another outcome of what has one: of such a write the stores make different things
  const given = making.records.filter(({ stepKey }) => {
    const before = making.standing.get(stepKey)
    return !ends || before === undefined || before.status === "retrying"
  })
  const whole = write(claim, {
    timers: making.timers.filter(({ stepKey }) => !ends || !noted.has(stepKey)),
    children: making.children,
    emitted: making.emitted,
    compensations,
    ...(attributes === undefined ? {} : { attributes: attributes as Record<string, string> }),
    transition,
  })
  // ids of events are each store's own
  const ids = new Map<Side["store"], RunWrite>()
  const of = (side: Side): RunWrite => {
    const made = ids.get(side.store)
    if (made !== undefined) return made
    const events = side.events.get(claim.workflowRunId) ?? []
    const own = {
      ...whole,
      records: given.map(({ eventAt, ...one }) => ({
        ...one,
        eventId: eventAt === undefined ? null : (events[eventAt] ?? null),
      })),
    }
    ids.set(side.store, own)
    return own
  }
  const releases = transition === null || transition._tag === "Compensate" ? null : claim
  return { text: `commit ${shown({ ...whole, records: given })}`, of, releases }
}
