/**
 * Corners of an execution that a prefix test would meet only by luck.
 */
import { setTimeout as delay } from "node:timers/promises"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { describe, expect, it } from "vitest"
import { encodeError } from "../../src/ErrorPayload.ts"
import * as Event from "../../src/Event.ts"
import { StoreRejected } from "../../src/FlowlyError.ts"
import * as MemoryStore from "../../src/MemoryStore.ts"
import type { WorkflowContext } from "../../src/promise/context.ts"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import * as Step from "../../src/Step.ts"
import type { RunWrite } from "../../src/WorkflowStore.ts"
import {
  atFastClock,
  program,
  record,
  rowOf,
  settled,
  start,
  startEngine,
  watched,
} from "./replay.ts"
import { runEffect, slowly, statusesOf } from "./runEffect.ts"
import { World } from "./world.ts"

const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)

describe("a run that gives up", () => {
  it("tries no step again: what fails while it is waited for is recorded so", async () => {
    const given = program("gives up", async ({ ctx }) => {
      await ctx.step("done", { run: () => 1, compensate: () => undefined })
      void ctx.step("deaf", {
        run: async () => {
          await delay(100)
          throw new Error("no")
        },
        retry: { maxAttempts: 100, initialDelayMs: 10, backoff: "fixed" },
      })
      await ctx.sleep("nap", "20 ms")
      throw new Error("enough")
    })
    const { end, moments, workflowRunId } = await record(given)
    expect(end.status).toBe("compensated")
    expect(statusesOf(moments.at(-1)!.handle, workflowRunId)).toContain("deaf failed")
  })

  const deaf = (ctx: WorkflowContext) => ctx.step("deaf", () => delay(150))

  it("does not try a step again that waits for its next try", async () => {
    const given = program("waits", async ({ ctx, world }) => {
      await ctx.step("done", { run: () => 1, compensate: () => undefined })
      void deaf(ctx)
      void ctx.step("flaky", {
        run: () => world.fails("flaky", 9),
        retry: { maxAttempts: 9, initialDelayMs: 500, backoff: "fixed" },
      })
      await delay(5)
      throw new Error("enough")
    })
    const { end, world } = await record(given)
    expect(end.status).toBe("compensated")
    expect(world.counts.get("flaky")).toBe(1)
  })

  it.each([
    ["its deadline was fixed", (ctx: WorkflowContext) => late(ctx, { deadlineMs: 3_600_000 })],
    [
      "it was written down that pure work had led to it",
      (ctx: WorkflowContext) => delay(5).then(() => late(ctx, {})),
    ],
  ])("does not begin a step while %s", async (_, branch) => {
    const handle = MemoryStore.makeUnsafe()
    const world = new World(handle)
    const given = program("main", async ({ ctx }) => {
      await ctx.step("done", { run: () => 1, compensate: () => undefined })
      void branch(ctx)
      await delay(15)
      throw new Error("enough")
    })
    const slow = slowly(({ records }) => records.some((one) => one.stepKey === "late"))
    const engine = await startEngine(slow(handle.store), given.code(world))
    try {
      const workflowRunId = await start(engine, given)
      expect((await settled(handle, workflowRunId, 10_000)).status).toBe("compensated")
      expect(world.ran).toEqual(["done"])
    } finally {
      await engine.stop()
    }
  })
})

const late = (ctx: WorkflowContext, options: { readonly deadlineMs?: number }) =>
  ctx.step("late", { ...options, run: () => undefined })

describe("an event", () => {
  it("is given to one wait, also while its record is on its way to the store", async () => {
    const wait = Effect.map(
      Event.wait<string>("news", { timeout: "8 seconds" }),
      Option.getOrElse(() => "nothing"),
    )
    const { end } = await runEffect(
      Effect.all([wait, wait], { concurrency: "unbounded" }),
      slowly(({ records }) => records.some((one) => one.eventId !== null)),
      (handle, workflowRunId) => {
        const send = (name: string) =>
          atFastClock(
            handle.store.sendEvents([
              { workflowRunId, name, payload: { codec: "json", json: `"hello"` }, id: null },
            ]),
          )
        setTimeout(() => send("news"), 20)
        // the sources are read again before the record of the first event is there
        for (const ms of [30, 35, 40, 45, 50]) setTimeout(() => send("other"), ms)
      },
    )
    expect([end.status, end.result]).toEqual(["completed", ["hello", "nothing"]])
  })
})

describe("a step", () => {
  it("that interrupts itself has failed", async () => {
    const { end } = await runEffect(Step.make("self", { run: Effect.interrupt }))
    expect(end.status).toBe("failed")
  })
})

describe("the outcome of a step", () => {
  it("is not the first of its key where a heartbeat is on its way to the store", async () => {
    const written: Array<readonly [status: string, first: boolean | undefined]> = []
    const { end } = await runEffect(
      Step.make("page", {
        run: (info: Step.Info) =>
          Effect.andThen(
            info.heartbeat(1),
            Effect.promise(() => delay(10)),
          ),
      }),
      (store) => {
        const slow = slowly(({ records }) => records[0]?.status === "retrying")(store)
        return {
          ...slow,
          commit: (writes) => {
            for (const { records } of writes) {
              for (const { status, first } of records) written.push([status, first])
            }
            return slow.commit(writes)
          },
        }
      },
    )
    expect(end.status).toBe("completed")
    expect(written).toEqual([
      ["retrying", undefined],
      ["completed", false],
    ])
  })
})

describe("a status text", () => {
  it("is written at once, though nothing else is", async () => {
    const given = program("tells", async ({ ctx }) => {
      const long = ctx.step("long", () => delay(150))
      await delay(20)
      ctx.setStatus("working")
      await long
    })
    const { moments, workflowRunId } = await record(given)
    const told = moments.find(({ handle }) => rowOf(handle, workflowRunId).statusText !== null)
    expect(rowOf(told!.handle, workflowRunId).statusText).toBe("working")
    expect(statusesOf(told!.handle, workflowRunId)).toEqual([])
  })
})

describe("what the database refuses", () => {
  /** The end of a run whose store refuses such writes. */
  const refused = async (refuses: (write: RunWrite) => boolean) => {
    const handle = MemoryStore.makeUnsafe()
    const world = new World(handle)
    const given = program("main", async ({ ctx }) => {
      const compensate = () => undefined
      await ctx.step("large", { run: () => 1, compensate, compensateOnUnknown: true })
    })
    const { store } = handle
    const engine = await startEngine(
      {
        ...store,
        commit: (writes) =>
          writes.some(refuses)
            ? Effect.fail(new StoreRejected({ operation: "commit", sqlState: null, reason: "no" }))
            : store.commit(writes),
      },
      given.code(world),
    )
    try {
      const { status, row } = await settled(handle, await start(engine, given), 10_000)
      return { status, reason: row.pauseReason?.tag, undone: world.undone }
    } finally {
      await engine.stop()
    }
  }

  it("as a step's result leaves the step unknown: what it did is undone", async () => {
    const end = await refused(({ records }) => records.some((one) => one.status === "completed"))
    expect(end).toEqual({ status: "compensated", reason: undefined, undone: ["large"] })
  })

  it("as the end of a run pauses it", async () => {
    const end = await refused(({ transition }) => transition?._tag === "Settle")
    expect(end).toEqual({ status: "paused", reason: "StoreRejected", undone: [] })
  })
})

describe("a run that fails", () => {
  it("cancels a child whose insert was on its way", async () => {
    const handle = MemoryStore.makeUnsafe()
    const world = new World(handle)
    const given = program(
      "parent",
      async ({ ctx }) => {
        await ctx.step("a", () => 1)
        void ctx.workflow(called("endless"))
        await delay(10)
        throw new Error("while the child is on its way")
      },
      {
        children: [
          (services) => watched("endless", services, ({ ctx }) => ctx.sleep("for ever", "1 year")),
        ],
      },
    )
    const engine = await startEngine(
      slowly(({ children }) => children.length > 0)(handle.store),
      given.code(world),
    )
    try {
      const workflowRunId = await start(engine, given)
      expect((await settled(handle, workflowRunId)).status).toBe("failed")
      const children = handle.inspect().runs.filter((row) => row.parent !== null)
      expect(children.map((row) => row.status)).not.toContain("completed")
      for (const row of children) {
        const child = await settled(handle, row.workflowRunId, 5000)
        expect(child.status).toBe("cancelled")
      }
      expect(children.length).toBe(1)
    } finally {
      await engine.stop()
    }
  })

  it("does not wait for a step that tells of its progress for ever", async () => {
    const handle = MemoryStore.makeUnsafe()
    const world = new World(handle)
    const beating = new AbortController()
    const given = program("main", async ({ ctx }) => {
      await ctx.step("a", { run: () => 1, compensate: () => undefined })
      void ctx.step("beats", async ({ heartbeat }) => {
        while (!beating.signal.aborted) {
          heartbeat(1)
          await delay(5)
        }
      })
      await delay(20)
      throw new Error("while the step tells")
    })
    const slow = slowly(({ records }) => records.some(({ stepKey }) => stepKey === "beats"))
    const engine = await startEngine(slow(handle.store), given.code(world))
    try {
      const workflowRunId = await start(engine, given)
      expect((await settled(handle, workflowRunId, 10_000)).status).toBe("compensated")
    } finally {
      beating.abort()
      await engine.stop()
    }
  })

  it("undoes a step whose outcome was on its way", async () => {
    const handle = MemoryStore.makeUnsafe()
    const world = new World(handle)
    const given = program("main", async ({ ctx }) => {
      void ctx.step("charge", { run: () => 1, compensate: () => undefined })
      await delay(10)
      throw new Error("while the outcome is on its way")
    })
    const slow = slowly(({ records }) => records.some(({ stepKey }) => stepKey === "charge"))
    const engine = await startEngine(slow(handle.store), given.code(world))
    try {
      const workflowRunId = await start(engine, given)
      expect((await settled(handle, workflowRunId)).status).toBe("compensated")
      expect(world.undone).toEqual(["charge"])
    } finally {
      await engine.stop()
    }
  })
})

describe("a pause that is withdrawn before it came to be", () => {
  const ran: Array<string> = []
  const step = (name: string, options: { readonly deadline?: "1 hour" } = {}) =>
    Step.make(name, { ...options, run: Effect.sync(() => ran.push(name)) })
  const work = Effect.promise(() => delay(20))

  it.each([
    ["the deadline of a step is fixed", step("limited", { deadline: "1 hour" }), "limited"],
    ["pure work has led to a step", Effect.andThen(work, step("behind")), "behind"],
  ])("lets go on what was not begun meanwhile: %s", async (_, branch, name) => {
    const { promise: long, resolve: end } = Promise.withResolvers<void>()
    const { promise: held, resolve: holds } = Promise.withResolvers<void>()
    const { end: ended } = await runEffect(
      Effect.all([Step.make("long", { run: Effect.promise(() => long) }), branch], {
        concurrency: "unbounded",
      }),
      (store) => ({
        ...store,
        // the pause is asked for, and heard of, while the note that precedes the step is written
        commit: (writes) => {
          const [write] = writes
          const isNote = write?.records.some((one) => one.stepKey === name && !one.position)
          if (write === undefined || isNote !== true) return store.commit(writes)
          const { workflowRunId } = write
          return Effect.andThen(
            store.pauseRuns([
              { workflowRunId, error: encodeError(new Error("pause")), reason: null },
            ]),
            Effect.andThen(
              Effect.promise(() => delay(300)),
              Effect.tap(store.commit(writes), Effect.sync(holds)),
            ),
          )
        },
      }),
      async (handle, workflowRunId) => {
        await held
        await delay(300)
        expect(ran).not.toContain(name)
        atFastClock(handle.store.resumeRun(workflowRunId, null))
        await delay(300)
        end()
      },
    )
    expect(ended.status).toBe("completed")
    expect(ran.filter((one) => one === name)).toEqual([name])
  })
})
