/**
 * The runtime under a `DurableEngine`: its layers, built by the first call, and gone with `stop`.
 *
 * One whose layers could not be built is given up, and the next call makes another. Before the first
 * statement the tables are looked at, once. A call that comes after the stop, or that the stop
 * overtakes, is told so.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Engine } from "../Engine.ts"
import { bounded } from "../engine/bounded.ts"
import { FlowlyError, toPromise } from "./FlowlyError.ts"

/**
 * The runtime of one engine.
 */
export interface EngineRuntime {
  readonly isOpen: () => boolean
  /** Makes it, where there is none; builds nothing yet. Throws once the engine is stopped. */
  readonly open: () => void
  /** Completes when the layers are built and the tables are there. */
  readonly ready: () => Promise<void>
  /** They are. */
  readonly isReady: () => boolean
  readonly run: <A, E>(
    effect: Effect.Effect<A, E, Engine>,
    options?: { readonly checkSchema?: boolean } | undefined,
  ) => Promise<A>
  readonly dispose: () => Promise<void>
}

interface Running {
  readonly runtime: ManagedRuntime.ManagedRuntime<Engine, unknown>
  ready: Promise<void> | null
  isReady: boolean
}

/**
 * No runtime yet. `layer` is asked for by the first call, and again after it could not be built.
 */
export const makeRuntime = (options: {
  readonly layer: () => Layer.Layer<Engine, unknown>
  readonly isStopped: () => boolean
}): EngineRuntime => {
  const { layer, isStopped } = options
  let current: Running | null = null

  const open = (): Running => {
    if (isStopped()) throw engineStopped()
    if (current !== null) return current
    current = { runtime: ManagedRuntime.make(layer()), ready: null, isReady: false }
    return current
  }

  /** A runtime whose layers could not be built stays broken: the next call makes another. */
  const built = async (running: Running): Promise<void> => {
    if (running.runtime.cachedContext !== undefined) return
    const exit = await Effect.runPromiseExit(running.runtime.contextEffect)
    if (isStopped()) throw engineStopped()
    if (Exit.isSuccess(exit)) return
    if (current === running) {
      current = null
      await running.runtime.dispose()
    }
    await toPromise(Promise.resolve(exit))
  }

  /** Once: a table that is not there is told as what it is, before the first statement fails. */
  const verified = async (running: Running): Promise<void> => {
    if (isStopped()) throw engineStopped()
    running.ready ??= toPromise(
      running.runtime.runPromiseExit(
        Effect.flatMap(Engine, ({ store }) =>
          bounded("verify")(store.verify({ worker: false, listen: false })),
        ),
      ),
    ).catch((error) => {
      running.ready = null
      throw error
    })
    await running.ready
    running.isReady = true
  }

  return {
    isOpen: () => current !== null,
    isReady: () => current?.isReady === true,
    open,
    ready: async () => {
      const running = open()
      await built(running)
      await verified(running)
    },
    run: async <A, E>(
      effect: Effect.Effect<A, E, Engine>,
      runOptions?: { readonly checkSchema?: boolean },
    ) => {
      const running = open()
      // it has ended already: no fiber is needed to say so
      if (Exit.isExit(effect)) return toPromise(effect as Exit.Exit<A, unknown>)
      if (!running.isReady) {
        await built(running)
        if (runOptions?.checkSchema !== false) await verified(running)
      }
      // it may have been stopped meanwhile: its runtime runs nothing any more
      if (isStopped()) throw engineStopped()
      return toPromise(running.runtime.runPromiseExit(effect))
    },
    dispose: async () => current?.runtime.dispose(),
  }
}

/** Whoever calls a stopped engine is told so. */
export const engineStopped = () =>
  new FlowlyError("EngineStopped", "the engine was stopped: make a new one")
