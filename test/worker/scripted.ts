/**
 * A store that fails on command: every verb of the store behind it is logged and may fail before it
 * applies anything, after it applied everything, refuse, die, end in an interrupt, hang for ever,
 * or wait for a latch. Nothing else differs from the store behind.
 */
import { it as vitest } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { CallClock } from "../../src/engine/bounded.ts"
import { StoreRejected, StoreUnavailable } from "../../src/FlowlyError.ts"
import type { WorkflowStore } from "../../src/WorkflowStore.ts"

export type Store = WorkflowStore["Service"]

export type Verb = Exclude<keyof Store, "name" | "sparesConnection" | "overlap">

export type Fault =
  | "fail"
  | "fail-after"
  | "reject"
  | "reject-after"
  | "die"
  | "interrupt"
  | "hang"
  | "hang-after"
  | { readonly before: Latch.Latch }
  | { readonly after: Latch.Latch }
  | undefined

/** What to do with a call: `nth` counts the calls of the verb from 1. */
export type Script<V extends Verb> = (
  nth: number,
  ...args: Store[V] extends (...args: infer A) => unknown ? A : []
) => Fault

/** The arguments of each call, by verb. */
type Args<V extends Verb> = Store[V] extends (...args: infer A) => unknown ? A : []

export interface Scripted {
  readonly store: Store
  readonly script: <V extends Verb>(verb: V, script: Script<V> | null) => void
  readonly calls: <V extends Verb>(verb: V) => ReadonlyArray<Args<V>>
  /** Calls of the verb that have neither ended nor been interrupted. */
  readonly open: (verb: Verb) => number
}

export const makeScripted = (base: Store): Scripted => {
  const scripts = new Map<string, (nth: number, ...args: Array<unknown>) => Fault>()
  const log = new Map<string, Array<ReadonlyArray<unknown>>>()
  const open = new Map<string, number>()

  const wrap = (
    verb: string,
    args: ReadonlyArray<unknown>,
    real: Effect.Effect<unknown, unknown>,
  ): Effect.Effect<unknown, unknown> =>
    Effect.suspend(() => {
      const calls = log.get(verb) ?? []
      log.set(verb, calls)
      calls.push(args)
      open.set(verb, (open.get(verb) ?? 0) + 1)
      return Effect.ensuring(
        faulty(verb, scripts.get(verb)?.(calls.length, ...args), real),
        Effect.sync(() => open.set(verb, (open.get(verb) ?? 0) - 1)),
      )
    })

  const store: Record<string, unknown> = {}
  for (const [verb, member] of Object.entries(base)) {
    if (typeof member === "function") {
      const call = member as (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>
      store[verb] = (...args: ReadonlyArray<unknown>) => wrap(verb, args, call(...args))
    } else {
      store[verb] = Effect.isEffect(member)
        ? wrap(verb, [], member as Effect.Effect<unknown, unknown>)
        : member
    }
  }
  return {
    store: store as unknown as Store,
    script: (verb, script) => {
      if (script === null) scripts.delete(verb)
      else scripts.set(verb, script as (nth: number, ...args: Array<unknown>) => Fault)
    },
    calls: <V extends Verb>(verb: V) => (log.get(verb) ?? []) as unknown as ReadonlyArray<Args<V>>,
    open: (verb) => open.get(verb) ?? 0,
  }
}

const unavailable = (operation: string, outcome: "unknown" | "not-applied") =>
  new StoreUnavailable({ operation, outcome, reason: "on command" })

const rejected = (operation: string) =>
  new StoreRejected({ operation, sqlState: "22000", reason: "on command" })

const faulty = (
  verb: string,
  fault: Fault,
  real: Effect.Effect<unknown, unknown>,
): Effect.Effect<unknown, unknown> => {
  switch (fault) {
    case undefined:
      return real
    case "fail":
      return Effect.fail(unavailable(verb, "not-applied"))
    case "fail-after":
      return Effect.andThen(real, Effect.fail(unavailable(verb, "unknown")))
    case "reject":
      return Effect.fail(rejected(verb))
    case "reject-after":
      return Effect.andThen(real, Effect.fail(rejected(verb)))
    case "die":
      return Effect.die(new Error(`${verb} died on command`))
    case "interrupt":
      return Effect.interrupt
    case "hang":
      return Effect.never
    case "hang-after":
      return Effect.andThen(real, Effect.never)
  }
  if ("before" in fault) return Effect.andThen(fault.before.await, real)
  return Effect.flatMap(real, (answer) => Effect.as(fault.after.await, answer))
}

/** One turn of the event loop: whatever can run without time passing has run. */
const turn = Effect.callback<void>((resume) => {
  const handle = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(handle))
})

/** Lets everything run that needs no time. */
export const quiet = Effect.repeat(turn, { times: 10 })

/** Until it is so; no time passes. Fails, saying so, where it never will be. */
export const until = (what: string, is: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let i = 0; i < 500; i++) {
      if (is()) return
      yield* turn
    }
    return yield* Effect.die(new Error(`it did not come about that ${what}`))
  })

/** Tests in which the deadlines of store calls, too, run on the TestClock. */
export const it = {
  effect: (name: string, body: () => Effect.Effect<void, unknown, Scope.Scope>) =>
    vitest.effect(name, () =>
      Effect.flatMap(Clock.Clock, (clock) => Effect.provideService(body(), CallClock, clock)),
    ),
}
