/**
 * Code that changed while a run was under way: found before any side effect (promise 12), told by
 * both names, and harmless, because the old code finishes the run.
 */
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import {
  atFastClock,
  type Body,
  goOn,
  type Moment,
  program,
  record,
  recordsOf,
  watched,
} from "./replay.ts"
import type { World } from "./world.ts"

type When = (moment: Moment, workflowRunId: string) => boolean

/** Just when so many outcomes were recorded. */
const recorded =
  (count: number): When =>
  ({ handle }, id) =>
    recordsOf(handle, id).filter((one) => one.status !== "retrying").length === count

/** Just when the run has parked. */
const parked: When = ({ handle }, id) => {
  const row = handle.inspect().runs.find((one) => one.workflowRunId === id)
  return row?.status === "sleeping" || row?.status === "waiting"
}

const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)

const children = ["sub", "b", "nap"].map(
  (name) => (world: World) =>
    watched(name, world, async ({ ctx }) => {
      await ctx.sleep("inside", "2 seconds")
      return ctx.step("inside step", () => name)
    }),
)

interface Edit {
  readonly edit: string
  readonly code: Body
  /** The recorded step key and kind. */
  readonly history: readonly [key: string, kind: string]
  /** The called step key and kind; `null`: the code ended. */
  readonly calls: readonly [key: string, kind: string] | null
  readonly when?: When
}

interface Base {
  readonly base: string
  readonly code: Body
  readonly when: When
  readonly result: unknown
  readonly edits: ReadonlyArray<Edit>
}

const run = (name: string) => () => name

const bases: ReadonlyArray<Base> = [
  {
    base: "four steps, cut after two",
    code: async ({ ctx }) => [
      await ctx.step("a", run("A")),
      await ctx.step("b", run("B")),
      await ctx.step("c", run("C")),
      await ctx.step("d", run("D")),
    ],
    when: recorded(2),
    result: ["A", "B", "C", "D"],
    edits: [
      {
        edit: "the first step renamed",
        code: async ({ ctx }) => [await ctx.step("a1", run("A")), await ctx.step("b", run("B"))],
        history: ["a", "step"],
        calls: ["a1", "step"],
      },
      {
        edit: "the second step renamed",
        code: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.step("b1", run("B"))],
        history: ["b", "step"],
        calls: ["b1", "step"],
      },
      {
        edit: "two steps reordered",
        code: async ({ ctx }) => [await ctx.step("b", run("B")), await ctx.step("a", run("A"))],
        history: ["a", "step"],
        calls: ["b", "step"],
      },
      {
        edit: "the first step removed",
        code: async ({ ctx }) => [await ctx.step("b", run("B")), await ctx.step("c", run("C"))],
        history: ["a", "step"],
        calls: ["b", "step"],
      },
      {
        edit: "the second step removed",
        code: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.step("c", run("C"))],
        history: ["b", "step"],
        calls: ["c", "step"],
      },
      {
        edit: "a step turned into a sleep of its name",
        code: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.sleep("b", 1)],
        history: ["b", "step"],
        calls: ["b", "sleep"],
      },
      {
        edit: "a step turned into a sleep of its name, which nobody waits for",
        code: async ({ ctx }) => {
          const a = await ctx.step("a", run("A"))
          void ctx.sleep("b", 1)
          return [a]
        },
        history: ["b", "step"],
        calls: ["b", "sleep"],
      },
      {
        edit: "a step turned into a sleep of another name",
        code: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.sleep("wait", 1)],
        history: ["b", "step"],
        calls: ["wait", "sleep"],
      },
      {
        edit: "a step turned into a child",
        code: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.workflow(called("b"))],
        history: ["b", "step"],
        calls: ["b", "child"],
      },
      {
        edit: "a step turned into a side effect",
        code: async ({ ctx }) => [
          await ctx.step("a", run("A")),
          await ctx.sideEffect("b", run("B")),
        ],
        history: ["b", "step"],
        calls: ["b", "side_effect"],
      },
      {
        edit: "a step turned into an event",
        code: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.emit("b")],
        history: ["b", "step"],
        calls: ["b", "emit"],
      },
      {
        edit: "a step inserted before the first",
        code: async ({ ctx }) => [await ctx.step("z", run("Z")), await ctx.step("a", run("A"))],
        history: ["a", "step"],
        calls: ["z", "step"],
      },
      {
        edit: "a step inserted between recorded ones",
        code: async ({ ctx }) => [
          await ctx.step("a", run("A")),
          await ctx.step("z", run("Z")),
          await ctx.step("b", run("B")),
        ],
        history: ["b", "step"],
        calls: ["z", "step"],
      },
      {
        edit: "an event inserted between recorded steps",
        code: async ({ ctx }) => [
          await ctx.step("a", run("A")),
          await ctx.emit("progress", 1),
          await ctx.step("b", run("B")),
        ],
        history: ["b", "step"],
        calls: ["progress", "emit"],
      },
      {
        edit: "a body that returns too soon",
        code: ({ ctx }) => ctx.step("a", run("A")),
        history: ["b", "step"],
        calls: null,
      },
      {
        edit: "a body that throws at once",
        code: () => {
          throw new Error("a bug in the new code")
        },
        history: ["a", "step"],
        calls: null,
      },
      {
        edit: "another body altogether",
        code: async ({ ctx }) => Promise.all([ctx.step("x", run("X")), ctx.sleep("y", "1 hour")]),
        history: ["a", "step"],
        calls: ["x", "step"],
      },
    ],
  },
  {
    base: "a loop of four, cut after three",
    code: async ({ ctx }) => {
      for (let i = 0; i < 4; i++) await ctx.step("item", () => i)
      return ctx.step("end", run("end"))
    },
    when: recorded(3),
    result: "end",
    edits: [
      {
        edit: "the loop shortened",
        code: async ({ ctx }) => {
          for (let i = 0; i < 2; i++) await ctx.step("item", () => i)
          return ctx.step("end", run("end"))
        },
        history: ["item#3", "step"],
        calls: ["end", "step"],
      },
      {
        edit: "another name in the third round",
        code: async ({ ctx }) => {
          for (let i = 0; i < 4; i++) await ctx.step(i === 2 ? "other" : "item", () => i)
          return ctx.step("end", run("end"))
        },
        history: ["item#3", "step"],
        calls: ["other", "step"],
      },
      {
        edit: "a round left out",
        code: async ({ ctx }) => {
          for (let i = 0; i < 3; i++) if (i !== 1) await ctx.step("item", () => i)
          await ctx.sleep("instead", "1 hour")
        },
        history: ["item#3", "step"],
        calls: ["instead", "sleep"],
      },
      {
        edit: "a step more in each round",
        code: async ({ ctx }) => {
          for (let i = 0; i < 4; i++) {
            await ctx.step("item", () => i)
            await ctx.step("log", () => i)
          }
        },
        history: ["item#2", "step"],
        calls: ["log", "step"],
      },
    ],
  },
  {
    base: "a branch, cut behind it",
    code: async ({ ctx }) => {
      const kind = await ctx.step("kind", run("left"))
      const taken = await ctx.step(kind, () => `${kind} taken`)
      return [taken, await ctx.step("end", run("end"))]
    },
    when: recorded(2),
    result: ["left taken", "end"],
    edits: [
      {
        edit: "the branches swapped",
        code: async ({ ctx }) => {
          const kind = await ctx.step("kind", run("left"))
          return ctx.step(kind === "left" ? "right" : "left", run("swapped"))
        },
        history: ["left", "step"],
        calls: ["right", "step"],
      },
      {
        edit: "the branch's value asked for elsewhere",
        code: async ({ ctx }) => {
          const kind = await ctx.step("find kind", run("left"))
          return ctx.step(kind, run("taken"))
        },
        history: ["kind", "step"],
        calls: ["find kind", "step"],
      },
    ],
  },
  {
    base: "a race, cut after the step that follows it",
    code: async ({ ctx }) => {
      const winner = await Promise.race([
        ctx.step("x", run("X")),
        ctx.sleep("limit", "1 day").then(() => "late"),
      ])
      return [await ctx.step(`after ${winner}`, run("after")), await ctx.step("end", run("end"))]
    },
    when: recorded(2),
    result: ["after", "end"],
    edits: [
      {
        edit: "an arm renamed",
        code: async ({ ctx }) =>
          Promise.race([ctx.step("x2", run("X")), ctx.sleep("limit", "1 day")]),
        history: ["x", "step"],
        calls: ["x2", "step"],
      },
      {
        edit: "an arm removed",
        code: ({ ctx }) => ctx.sleep("limit", "1 day"),
        history: ["x", "step"],
        calls: ["limit", "sleep"],
      },
      {
        edit: "the step behind the race renamed",
        code: async ({ ctx }) => {
          await Promise.race([ctx.step("x", run("X")), ctx.sleep("limit", "1 day")])
          return ctx.step("behind", run("behind"))
        },
        history: ["after X", "step"],
        calls: ["behind", "step"],
      },
    ],
  },
  {
    base: "steps in parallel, cut after them",
    code: async ({ ctx }) => {
      const all = await Promise.all(["p1", "p2", "p3"].map((name) => ctx.step(name, run(name))))
      return [...all, await ctx.step("q", run("q")), await ctx.step("r", run("r"))]
    },
    when: recorded(4),
    result: ["p1", "p2", "p3", "q", "r"],
    edits: [
      {
        edit: "one of them renamed",
        code: async ({ ctx }) => {
          await Promise.all(["p1", "new", "p3"].map((name) => ctx.step(name, run(name))))
          return ctx.step("q", run("q"))
        },
        history: ["p2", "step"],
        calls: ["new", "step"],
      },
      {
        edit: "one of them removed",
        code: async ({ ctx }) => {
          await Promise.all(["p1", "p3"].map((name) => ctx.step(name, run(name))))
          return ctx.step("q", run("q"))
        },
        history: ["p2", "step"],
        calls: ["p3", "step"],
      },
      {
        edit: "only the first awaited",
        code: async ({ ctx }) => {
          await ctx.step("p1", run("p1"))
          return ctx.step("q", run("q"))
        },
        history: ["p2", "step"],
        calls: ["q", "step"],
      },
    ],
  },
  {
    base: "a sleep, cut while the run is asleep",
    code: async ({ ctx }) => {
      const a = await ctx.step("a", run("A"))
      await ctx.sleep("nap", "3 seconds")
      return [a, await ctx.step("b", run("B"))]
    },
    when: parked,
    result: ["A", "B"],
    edits: [
      {
        edit: "the sleep renamed",
        code: async ({ ctx }) => {
          await ctx.step("a", run("A"))
          await ctx.sleep("rest", "3 seconds")
          return ctx.step("b", run("B"))
        },
        history: ["nap", "sleep"],
        calls: ["rest", "sleep"],
      },
      {
        edit: "the sleep removed",
        code: async ({ ctx }) => {
          await ctx.step("a", run("A"))
          return ctx.step("b", run("B"))
        },
        history: ["nap", "sleep"],
        calls: ["b", "step"],
      },
      {
        edit: "the sleep turned into a step",
        code: async ({ ctx }) => {
          await ctx.step("a", run("A"))
          return ctx.step("nap", run("no nap"))
        },
        history: ["nap", "sleep"],
        calls: ["nap", "step"],
      },
      {
        edit: "the sleep turned into a child",
        code: async ({ ctx }) => {
          await ctx.step("a", run("A"))
          return ctx.workflow(called("nap"))
        },
        history: ["nap", "sleep"],
        calls: ["nap", "child"],
      },
      {
        edit: "everything behind the first step removed",
        code: ({ ctx }) => ctx.step("a", run("A")),
        history: ["nap", "sleep"],
        calls: null,
      },
    ],
  },
  {
    base: "a child, cut while it runs",
    code: async ({ ctx }) => [
      await ctx.step("a", run("A")),
      await ctx.workflow(called("sub")),
      await ctx.step("c", run("C")),
    ],
    when: parked,
    result: ["A", "sub", "C"],
    edits: [
      {
        edit: "the child's name changed",
        code: async ({ ctx }) => {
          await ctx.step("a", run("A"))
          return ctx.workflow(called("sub"), undefined, { name: "renamed" })
        },
        history: ["sub", "child"],
        calls: ["renamed", "child"],
      },
      {
        edit: "the child turned into a step",
        code: async ({ ctx }) => {
          await ctx.step("a", run("A"))
          return ctx.step("sub", run("inline"))
        },
        history: ["sub", "child"],
        calls: ["sub", "step"],
      },
    ],
  },
  {
    base: "a retry, cut while it backs off",
    code: async ({ ctx, world }) =>
      ctx.step("flaky", {
        run: () => {
          world.fails("flaky", 1)
          return "at last"
        },
        retry: { maxAttempts: 3, initialDelayMs: 3000 },
      }),
    when: parked,
    result: "at last",
    edits: [
      {
        edit: "the step renamed",
        code: ({ ctx }) => ctx.step("steady", run("at once")),
        history: ["flaky", "step"],
        calls: ["steady", "step"],
      },
    ],
  },
  {
    base: "a fallback, cut behind it",
    code: async ({ ctx }) => {
      const value = await ctx
        .step("try", () => Promise.reject(new Error("no")))
        .catch(() => ctx.step("fallback", run("fallback")))
      return [value, await ctx.step("end", run("end"))]
    },
    when: recorded(2),
    result: ["fallback", "end"],
    edits: [
      {
        edit: "the fallback renamed",
        code: ({ ctx }) =>
          ctx
            .step("try", () => Promise.reject(new Error("no")))
            .catch(() => ctx.step("plan b", run("plan b"))),
        history: ["fallback", "step"],
        calls: ["plan b", "step"],
      },
      {
        edit: "the failing step no longer tried",
        code: ({ ctx }) => ctx.step("fallback", run("fallback")),
        history: ["try", "step"],
        calls: ["fallback", "step"],
      },
      {
        edit: "the failure no longer caught",
        code: ({ ctx }) => ctx.step("try", () => Promise.reject(new Error("no"))),
        history: ["fallback", "step"],
        calls: null,
      },
    ],
  },
]

const limits = { divergenceGraceMs: 60, parkGraceMs: 0 }

/** The moment at which the run of `base` is cut. */
const cutOf = async (code: Body, when: When) => {
  // On a machine that is short of time a sleep may be over before its run can park: again, then.
  for (let times = 0; times < 20; times++) {
    const first = await record(program("edited", code, { children }), limits)
    const moment = first.moments.find((one) => when(one, first.workflowRunId))
    if (moment !== undefined) return { moment, workflowRunId: first.workflowRunId }
  }
  throw new Error("there is no such moment")
}

const all = bases.flatMap(({ base, code, when, result, edits }) =>
  edits.map((edit) => ({ name: `${base}: ${edit.edit}`, code, when, result, edit })),
)

describe("an edit that the history does not bear", { timeout: 120_000 }, () => {
  it("is one of at least thirty", () => expect(all.length).toBeGreaterThanOrEqual(30))

  it.concurrent.each(all)("$name", async ({ code, when, result, edit }) => {
    const { moment, workflowRunId } = await cutOf(code, when)
    const runsBefore = moment.handle.inspect().runs.length
    const historyBefore = recordsOf(moment.handle, workflowRunId)

    const edited = program("edited", edit.code, { children })
    const paused = await goOn(moment, workflowRunId, edited.code, limits)
    expect(paused.status).toBe("paused")
    expect(paused.row.pauseReason).toMatchObject({
      tag: "StepMismatch",
      props: {
        recordedKey: edit.history[0],
        recordedKind: edit.history[1],
        calledKey: edit.calls?.[0] ?? null,
        calledKind: edit.calls?.[1] ?? null,
      },
    })
    const { message } = paused.row.pauseReason as { readonly message: string }
    expect(message).toContain(`"${edit.history[0]}"`)
    expect(message).toContain(edit.calls === null ? "asked for nothing" : `"${edit.calls[0]}"`)
    // before any side effect, and with its history intact
    expect(moment.world.ran.filter((key) => key !== "inside step")).toEqual([])
    expect(moment.handle.inspect().runs.length).toBe(runsBefore)
    expect(recordsOf(moment.handle, workflowRunId)).toEqual(historyBefore)

    expect(atFastClock(moment.handle.store.resumeRun(workflowRunId))).toBe("resumed")
    const old = program("edited", code, { children })
    const end = await goOn(moment, workflowRunId, old.code, limits)
    expect([end.status, end.result]).toEqual(["completed", result])
    expect(moment.world.violations).toEqual([])
  })
})

const steps: Body = async ({ ctx }) => [
  await ctx.step("a", run("A")),
  await ctx.step("b", run("B")),
  await ctx.sleep("nap", "3 seconds"),
  await ctx.step("c", run("C")),
]

const compatible: ReadonlyArray<{
  readonly name: string
  readonly code: Body
  readonly result: unknown
}> = [
  {
    name: "a step appended at the end",
    code: async (watching, input) => [
      ...((await steps(watching, input)) as Array<unknown>),
      await watching.ctx.step("d", run("D")),
    ],
    result: ["A", "B", undefined, "C", "D"],
  },
  {
    name: "retries and timeouts changed",
    code: async ({ ctx }) => [
      await ctx.step("a", { run: run("A"), retry: { maxAttempts: 9 }, timeoutMs: 5000 }),
      await ctx.step("b", { run: run("B"), retry: { maxAttempts: 2, backoff: "fixed" } }),
      await ctx.sleep("nap", "3 seconds"),
      await ctx.step("c", { run: run("C"), timeoutMs: 60_000 }),
    ],
    result: ["A", "B", undefined, "C"],
  },
  {
    name: "an undo added",
    code: async ({ ctx }) => [
      await ctx.step("a", { run: run("A"), compensate: () => undefined }),
      await ctx.step("b", { run: run("B"), compensate: () => undefined }),
      await ctx.sleep("nap", "3 seconds"),
      await ctx.step("c", { run: run("C"), compensate: () => undefined }),
    ],
    result: ["A", "B", undefined, "C"],
  },
  {
    name: "what a recorded step does changed",
    code: async ({ ctx }) => [
      await ctx.step("a", run("other")),
      await ctx.step("b", run("other")),
      await ctx.sleep("nap", "1 hour"),
      await ctx.step("c", run("new C")),
    ],
    result: ["A", "B", undefined, "new C"],
  },
  {
    name: "a step inserted behind the present",
    code: async ({ ctx }) => [
      await ctx.step("a", run("A")),
      await ctx.step("b", run("B")),
      await ctx.sleep("nap", "3 seconds"),
      await ctx.step("new", run("new")),
      await ctx.step("c", run("C")),
    ],
    result: ["A", "B", undefined, "new", "C"],
  },
  {
    name: "pure work inserted",
    code: async ({ ctx }) => {
      const a = await ctx.step("a", run("A"))
      await new Promise((resolve) => setTimeout(resolve, 20))
      const b = await ctx.step("b", run("B"))
      await ctx.sleep("nap", "3 seconds")
      return [b, a, await ctx.step("c", run("C"))]
    },
    result: ["B", "A", "C"],
  },
  {
    name: "a step begun beside what was recorded",
    code: async ({ ctx }) => {
      const beside = ctx.step("beside", run("beside"))
      const both = [await ctx.step("a", run("A")), await ctx.step("b", run("B"))]
      await ctx.sleep("nap", "3 seconds")
      return [...both, await beside]
    },
    result: ["A", "B", "beside"],
  },
]

describe("an edit that the history bears does not pause", { timeout: 120_000 }, () => {
  it.concurrent.each(compatible)("$name", async ({ code, result }) => {
    const { moment, workflowRunId } = await cutOf(steps, parked)
    const end = await goOn(moment, workflowRunId, program("edited", code).code, limits)
    expect([end.status, end.result]).toEqual(["completed", result])
    expect(moment.world.ran).not.toContain("a")
    expect(moment.world.violations).toEqual([])
  })
})
