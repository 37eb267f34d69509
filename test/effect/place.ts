/**
 * Where the tests of the Effect API run: an engine whose time the test moves, on a store that
 * several engines, one after another, may share.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type EngineClock, Engine, MemoryStore, type WorkflowStore } from "flowly/effect"
import * as Testing from "flowly/testing"

export type StoreLayer = Layer.Layer<WorkflowStore.WorkflowStore, never, EngineClock.EngineClock>

/** Makes a store with nothing in it; every engine that is given it sees the same runs. */
export type NewStore = () => StoreLayer

export const newMemoryStore: NewStore = () => MemoryStore.makeUnsafe().layer

export const startAt = Date.UTC(2030, 0, 1)

type Services = Layer.Success<ReturnType<typeof Testing.layer>>

/** An engine that knows these workflows, at `at` milliseconds after the start. */
export const engineOn = <A, E>(
  store: StoreLayer,
  workflows: Layer.Layer<A, E, Engine.Engine>,
  at = 0,
): Layer.Layer<A | Services> =>
  workflows.pipe(
    Layer.provideMerge(
      Testing.layerStore(store, { startAt: new Date(startAt + at), patienceMs: 200 }),
    ),
    Layer.orDie,
  )

/** The row of a run. */
export const rowOf = (workflowRunId: string) =>
  Effect.flatMap(Engine.Engine, (engine) => engine.getRun(workflowRunId))

/** Runs a test on an engine of its own. */
export const within =
  <W, WE>(store: StoreLayer, workflows: Layer.Layer<W, WE, Engine.Engine>, at = 0) =>
  <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, W | Services>> =>
    Effect.provide(test, engineOn(store, workflows, at))
