/**
 * In development: tells of what a body calls outside a step although it gives another answer on
 * replay (the time, dice, UUIDs) or touches the world (timers, `fetch`), with the line that did it.
 *
 * An `AsyncLocalStorage` says that the present code is a body's: it is entered for the function of
 * a workflow, and left for every call of its `ctx`, so that neither steps nor this engine are ever
 * taken for a body. The globals are replaced while at least one engine with a trap works, and put
 * back when the last of them stops. Without a trap nothing is replaced and nothing is asked.
 *
 * Beside it, while there is a trap, stands whose step or undo the present code is: see `inside.ts`.
 */
import { AsyncLocalStorage } from "node:async_hooks"
import nodeCrypto from "node:crypto"
import { syncBuiltinESMExports } from "node:module"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import type { WorkflowContext } from "./context.ts"
import { FlowlyError } from "./FlowlyError.ts"

/**
 * The trap of one engine.
 */
export interface Trap {
  /** Runs the function of a workflow, watched. */
  readonly watch: <A>(
    workflow: string,
    ctx: WorkflowContext,
    body: (ctx: WorkflowContext) => A,
  ) => A
  readonly install: () => void
  readonly uninstall: () => void
}

/** What is told of each call, and to whom. */
interface Frame {
  readonly called: (what: string, instead: string) => void
}

const bodies = new AsyncLocalStorage<Frame | undefined>()

/** A function of a step or an undo. */
export interface Inside {
  readonly workflowRunId: string
  readonly what: string
}

const steps = new AsyncLocalStorage<Inside | undefined>()

/** Calls it, so that all that it does is known to be its doing, where there is a trap. */
export const watchInside = <A>(inside: Inside, call: () => A): A =>
  holders === 0 ? call() : steps.run(inside, call)

/** Whose doing the present code is, where there is a trap. */
export const watchedInside = (): Inside | undefined =>
  holders === 0 ? undefined : steps.getStore()

/**
 * A trap that reports each call site once, or (`throws`) makes each such call throw.
 */
export const makeTrap = (options: {
  readonly throws: boolean
  readonly report: (message: string) => void
}): Trap => {
  const reported = new Set<string>()
  let installed = false
  const called = (workflow: string) => (what: string, instead: string) => {
    const place = callSite()
    const message =
      `workflow "${workflow}" calls ${what} outside a step, at ${place}: ` +
      `on replay it is called again. Use ${instead}`
    if (options.throws) {
      throw new FlowlyError("NotDeterministic", message, { details: { workflow, what, place } })
    }
    const site = `${what} ${place}`
    if (reported.has(site)) return
    reported.add(site)
    options.report(message)
  }
  return {
    watch: (workflow, ctx, body) =>
      steps.exit(() => bodies.run({ called: called(workflow) }, () => body(outside(ctx)))),
    install: () => {
      if (installed) return
      installed = true
      if (holders++ === 0) putBack = replaceGlobals()
    },
    uninstall: () => {
      if (!installed) return
      installed = false
      if (--holders === 0) putBack()
    },
  }
}

/** What `ctx` does is not the body's doing. */
const outside = (ctx: WorkflowContext): WorkflowContext => {
  const wrapped = Object.entries(ctx).map(([key, value]) => [
    key,
    typeof value === "function"
      ? (...parameters: ReadonlyArray<unknown>) => bodies.exit(() => value(...parameters))
      : value,
  ])
  return Object.fromEntries(wrapped) as WorkflowContext
}

// -----------------------------------------------------------------------------
// The globals
// -----------------------------------------------------------------------------

let holders = 0
let putBack: () => void = () => undefined

const tell = (what: string, instead: string): void => {
  const frame = bodies.getStore()
  // what the call itself leads to is not asked again
  if (frame !== undefined) bodies.exit(() => frame.called(what, instead))
}

/** Replaces a function of an object; answers how to put it back. */
const replace = <K extends string>(
  target: { [P in K]: any },
  key: K,
  what: string,
  instead: string,
): (() => void) => {
  const original = target[key]
  const isOwn = Object.hasOwn(target, key)
  const replaced = new Proxy(original, {
    apply: (call, self, parameters) => {
      tell(what, instead)
      return bodies.exit(() => Reflect.apply(call, self, parameters))
    },
  })
  target[key] = replaced
  return () => {
    // somebody may have replaced it after us: what is theirs stays, and ours asks nothing any more
    if (target[key] !== replaced) return
    if (isOwn) target[key] = original
    else delete (target as { [P in K]?: unknown })[key]
  }
}

const time = "ctx.now(), or a step"
const chance = "ctx.random(), or a step"
const ids = "ctx.uuid(), or a step"
const waits = "ctx.sleep(name, duration)"
const world = "ctx.step(name, fn)"

const replaceGlobals = (): (() => void) => {
  const undo = [
    replaceDate(),
    replace(Date, "now", "Date.now()", time),
    replace(Math, "random", "Math.random()", chance),
    replace(globalThis.crypto, "randomUUID", "crypto.randomUUID()", ids),
    replace(nodeCrypto, "randomUUID", "crypto.randomUUID()", ids),
    replace(globalThis, "setTimeout", "setTimeout()", waits),
    replace(globalThis, "setInterval", "setInterval()", waits),
    replace(globalThis, "setImmediate", "setImmediate()", waits),
    replace(globalThis, "fetch", "fetch()", world),
  ]
  // import { randomUUID } from "node:crypto" follows
  syncBuiltinESMExports()
  return () => {
    for (const one of undo.toReversed()) one()
    syncBuiltinESMExports()
  }
}

/** `new Date()` and `Date()` tell the time; with arguments they do not. */
const replaceDate = (): (() => void) => {
  const original = globalThis.Date
  const replaced: DateConstructor = new Proxy(original, {
    construct: (target, parameters, newTarget) => {
      if (parameters.length === 0) tell("new Date()", time)
      const made = newTarget === replaced ? target : newTarget
      return Reflect.construct(target, parameters, made)
    },
    apply: (target, self, parameters) => {
      tell("Date()", time)
      return Reflect.apply(target, self, parameters)
    },
  })
  globalThis.Date = replaced
  original.prototype.constructor = replaced
  return () => {
    if (globalThis.Date !== replaced) return
    globalThis.Date = original
    original.prototype.constructor = original
  }
}

// -----------------------------------------------------------------------------
// Where it was
// -----------------------------------------------------------------------------

const own = dirname(dirname(fileURLToPath(import.meta.url)))

/** The nearest line of the application on the stack; else the nearest that is not ours. */
const callSite = (): string => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 50
  const { stack } = new Error("where")
  Error.stackTraceLimit = stackTraceLimit
  const places = (stack ?? "")
    .split("\n")
    .flatMap((line) => {
      const found = /\(([^()]+:\d+:\d+)\)$|at (?:async )?([^()\s]+:\d+:\d+)$/.exec(line)
      const place = found?.[1] ?? found?.[2]
      return place === undefined ? [] : [place.startsWith("file:") ? pathOf(place) : place]
    })
    .filter((place) => !place.startsWith("node:") && !place.startsWith(own))
  return places.find((place) => !place.includes("node_modules")) ?? places[0] ?? "an unknown place"
}

const pathOf = (place: string): string => {
  const [, url = place, position = ""] = /^(.*?)(:\d+:\d+)$/.exec(place) ?? []
  return fileURLToPath(url.replace(/\?.*$/, "")) + position
}
