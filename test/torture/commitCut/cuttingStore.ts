/**
 * A store whose calls are cut on the wire: each call is named by what it is to commit, and a plan says
 * whether, and how, its connection ends. While a call waits for its cut, no other call is under way:
 * so it is the call's own unit that is cut, whatever else the engine does.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type RunWrite, WorkflowStore } from "../../../src/WorkflowStore.ts"
import type { Dice } from "../../support/dice.ts"
import { type Cut, cutKinds, type Unit, type WireProxy } from "../wireProxy.ts"
import { readers } from "./cases.ts"

/** How often each kind of call was cut, and how. */
export class Plan {
  readonly counts = new Map<string, Record<Cut, number>>()
  readonly #dice: Dice
  readonly #quota: number
  readonly #inRow = new Map<string, number>()
  /** A commit may be of several kinds, and is cut once. */
  total = 0
  /** Nothing is cut while false. */
  isOn = true

  constructor(dice: Dice, quota: number) {
    this.#dice = dice
    this.#quota = quota
  }

  /** How, if at all, a call is to be cut. Not the same verb three times in a row. */
  choose(verb: string, labels: ReadonlyArray<string>): Cut | null {
    const inRow = this.#inRow.get(verb) ?? 0
    this.#inRow.set(verb, 0)
    if (!this.isOn || inRow === 2) return null
    const open = labels.flatMap((label) => {
      const counts = this.of(label)
      return cutKinds.filter((cut) => counts[cut] < this.#quota)
    })
    if (!this.#dice.chance(open.length === 0 ? 0.01 : 0.4)) return null
    this.#inRow.set(verb, inRow + 1)
    return this.#dice.pick(open.length === 0 ? cutKinds : open)
  }

  count(labels: ReadonlyArray<string>, cut: Cut): void {
    for (const label of labels) this.of(label)[cut]++
  }

  of(label: string): Record<Cut, number> {
    let counts = this.counts.get(label)
    if (counts === undefined) {
      counts = { before: 0, after: 0, late: 0 }
      this.counts.set(label, counts)
    }
    return counts
  }

  /** Those that were not cut in each way as often as they should. */
  missing(labels: ReadonlyArray<string>): ReadonlyArray<string> {
    return labels.filter((label) => cutKinds.some((cut) => this.of(label)[cut] < this.#quota))
  }
}

/** Lets calls in together, or one alone. First come, first served. Of all engines on a proxy. */
export class Gate {
  #inside = 0
  #alone = false
  readonly #queue: Array<{ readonly alone: boolean; readonly enter: () => void }> = []

  enter(alone: boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const one = { alone, enter: () => resume(Effect.void) }
      this.#queue.push(one)
      this.#admit()
      return Effect.sync(() => {
        const at = this.#queue.indexOf(one)
        if (at >= 0) this.#queue.splice(at, 1)
        this.#admit()
      })
    })
  }

  leave(alone: boolean): void {
    if (alone) this.#alone = false
    else this.#inside--
    this.#admit()
  }

  #admit(): void {
    for (;;) {
      const first = this.#queue[0]
      if (first === undefined || this.#alone || (first.alone && this.#inside > 0)) return
      this.#queue.shift()
      if (first.alone) this.#alone = true
      else this.#inside++
      first.enter()
    }
  }
}

/** What a write to a run is about. */
const labelsOf = (write: RunWrite): ReadonlyArray<string> => {
  const { transition } = write
  const labels: Array<string> = []
  if (transition !== null) {
    const { _tag } = transition
    labels.push(
      _tag === "Park" || _tag === "Settle"
        ? `commit: ${_tag} ${transition.status}`
        : `commit: ${_tag}`,
    )
  }
  for (const one of write.records) {
    labels.push(`commit: ${one.kind} ${one.status}`)
  }
  if (write.compensations.length > 0) labels.push("commit: undo")
  if (write.timers.length > 0) labels.push("commit: timer")
  return labels
}

const labelsOfCall = (verb: string, given: ReadonlyArray<unknown>): ReadonlyArray<string> => {
  if (verb === "commit") {
    return [...new Set((given[0] as ReadonlyArray<RunWrite>).flatMap(labelsOf))]
  }
  if (verb === "insertRuns") {
    const { claimFor } = given[0] as { readonly claimFor: string | null }
    return [claimFor === null ? "insertRuns" : "insertRuns, claimed"]
  }
  return [verb]
}

const ungated: ReadonlySet<string> = new Set([
  "name",
  "callersTransaction",
  "joinTransaction",
  "listen",
  "sparesConnection",
  "overlap",
  "migrate",
  "verify",
])

/** Lays the plan over a store. */
export const cutting =
  (given: {
    readonly proxy: WireProxy
    readonly gate: Gate
    readonly plan: Plan
    readonly dice: Dice
  }) =>
  <E, R>(store: Layer.Layer<WorkflowStore, E, R>): Layer.Layer<WorkflowStore, E, R> =>
    Layer.effect(
      WorkflowStore,
      Effect.map(WorkflowStore, (inner) => wrap(inner, given)),
    ).pipe(Layer.provide(store))

const isReader: ReadonlySet<string> = new Set<string>(readers)

const wrap = (
  inner: WorkflowStore["Service"],
  { proxy, gate, plan, dice }: Parameters<typeof cutting>[0],
): WorkflowStore["Service"] => {
  const guarded = (
    verb: string,
    args: ReadonlyArray<unknown>,
    call: Effect.Effect<unknown, any, any>,
  ) =>
    Effect.suspend(() => {
      const labels = isReader.has(verb) ? ["reads"] : labelsOfCall(verb, args)
      const chosen = plan.choose(verb, labels)
      const alone = chosen !== null
      let isIn = false
      const leave = () => {
        if (isIn) gate.leave(alone)
        isIn = false
      }
      const enter = Effect.andThen(
        gate.enter(alone),
        Effect.sync(() => {
          isIn = true
        }),
      )
      if (chosen === null)
        return Effect.andThen(enter, call).pipe(Effect.ensuring(Effect.sync(leave)))
      return Effect.andThen(
        enter,
        Effect.suspend(() => {
          // a transaction is cut at any of its statements, most often at its commit
          let skipped = verb === "transact" && dice.chance(0.4) ? dice.whole(0, 4) : null
          const matches = ({ commits }: Unit) => (skipped === null ? commits : skipped-- === 0)
          const order = proxy.cut(chosen, matches, {
            lateMs: dice.whole(1, 40),
            onTaken: () => {
              plan.total++
              plan.count(labels, chosen)
              leave()
            },
          })
          return Effect.ensuring(call, Effect.sync(order.withdraw))
        }),
      ).pipe(Effect.ensuring(Effect.sync(leave)))
    })

  const wrapped: Record<string, unknown> = {}
  for (const [verb, member] of Object.entries(inner)) {
    if (ungated.has(verb)) wrapped[verb] = member
    else if (Effect.isEffect(member)) wrapped[verb] = guarded(verb, [], member as never)
    else {
      const call = member as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown>
      wrapped[verb] = (...args: ReadonlyArray<unknown>) => guarded(verb, args, call(...args))
    }
  }
  return wrapped as unknown as WorkflowStore["Service"]
}
