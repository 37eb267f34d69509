/**
 * Code that was changed behind a patch, under runs that had begun with the old code: cut at every
 * moment of the old run, the new code finishes it; cut again at every moment of that, it finishes it
 * in the same way.
 */
import { setTimeout as delay } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import { type Body, goOn, goOnRecording, program, record, recordsOf, watched } from "./replay.ts"
import { inParallel } from "./prefixes.ts"
import type { Watched } from "./world.ts"

const run = (name: string) => () => name

/** A patch, whose answer is noted: no later replay may decide otherwise once something followed. */
const patch = async ({ ctx }: Watched, id = "p"): Promise<boolean> => ctx.patched(id)

interface Change {
  readonly change: string
  readonly old: Body
  readonly new: Body
  /** Results that a run may end with: which depends on how far it had come. */
  readonly results: ReadonlyArray<unknown>
  readonly maxAttempts?: number
}

const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)

const children = ["sub"].map(
  (name) => (world: Watched["world"]) =>
    watched(name, world, async ({ ctx }) => {
      await ctx.sleep("inside", "2 seconds")
      return "from sub"
    }),
)

const changes: ReadonlyArray<Change> = [
  {
    change: "a step inserted",
    old: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.step("b", run("B"))],
    new: async (w) => [
      await w.ctx.step("a", run("A")),
      ...((await patch(w)) ? [await w.ctx.step("new", run("new"))] : []),
      await w.ctx.step("b", run("B")),
    ],
    results: [
      ["A", "new", "B"],
      ["A", "B"],
    ],
  },
  {
    change: "a step put in the place of two, at the very beginning",
    old: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.step("b", run("B"))],
    new: async (w) =>
      (await patch(w))
        ? [await w.ctx.step("both", run("AB"))]
        : [await w.ctx.step("a", run("A")), await w.ctx.step("b", run("B"))],
    results: [["AB"], ["A", "B"]],
  },
  {
    change: "a step inserted before a sleep",
    old: async ({ ctx }) => {
      const a = await ctx.step("a", run("A"))
      await ctx.sleep("nap", "3 seconds")
      return [a, await ctx.step("b", run("B"))]
    },
    new: async (w) => {
      const a = await w.ctx.step("a", run("A"))
      const more = (await patch(w)) ? [await w.ctx.step("new", run("new"))] : []
      await w.ctx.sleep("nap", "3 seconds")
      return [a, ...more, await w.ctx.step("b", run("B"))]
    },
    results: [
      ["A", "B"],
      ["A", "new", "B"],
    ],
  },
  {
    change: "a child instead of a step, and a step instead of a child",
    old: async ({ ctx }) => [await ctx.step("a", run("A")), await ctx.workflow(called("sub"))],
    new: async (w) => [
      (await patch(w, "a")) ? await w.ctx.workflow(called("sub")) : await w.ctx.step("a", run("A")),
      (await patch(w, "b")) ? await w.ctx.step("b", run("B")) : await w.ctx.workflow(called("sub")),
    ],
    results: [
      ["A", "from sub"],
      ["A", "B"],
      ["from sub", "B"],
    ],
  },
  {
    change: "one patch asked twice, and two patches",
    old: async ({ ctx }) => [
      await ctx.step("a", run("A")),
      await ctx.step("b", run("B")),
      await ctx.step("c", run("C")),
      await ctx.step("d", run("D")),
    ],
    new: async (w) => {
      const first = await patch(w)
      const a = await w.ctx.step(first ? "a new" : "a", run("A"))
      const b = await w.ctx.step((await patch(w, "q")) ? "b new" : "b", run("B"))
      const again = await patch(w)
      if (again !== first) w.world.violations.push("one patch, two answers")
      const c = await w.ctx.step(again ? "c new" : "c", run("C"))
      return [a, b, c, await w.ctx.step("d", run("D"))]
    },
    results: [["A", "B", "C", "D"]],
  },
  {
    change: "a patch in one of several branches",
    old: async ({ ctx }) => {
      const branch = async (name: string) => {
        const first = await ctx.step(name, () => delay(name === "x" ? 6 : 2, name))
        return [first, await ctx.step(`${name} 2`, () => delay(2, name))]
      }
      return Promise.all([branch("x"), branch("y")])
    },
    new: async (w) => {
      const branch = async (name: string) => {
        const first = await w.ctx.step(name, () => delay(name === "x" ? 6 : 2, name))
        const more = name === "x" && (await patch(w)) ? [await w.ctx.step("new", run("new"))] : []
        return [first, ...more, await w.ctx.step(`${name} 2`, () => delay(2, name))]
      }
      return Promise.all([branch("x"), branch("y")])
    },
    results: [
      [
        ["x", "x"],
        ["y", "y"],
      ],
      [
        ["x", "new", "x"],
        ["y", "y"],
      ],
    ],
  },
  {
    change: "a patch in each of several branches, and one behind them",
    old: async ({ ctx }) => {
      const branch = async (name: string) => {
        await ctx.step(name, () => delay(4, name))
        return ctx.step(`${name} old`, () => delay(2, "old"))
      }
      const all = await Promise.all([branch("x"), branch("y"), branch("z")])
      return [...all, await ctx.step("end", run("end"))]
    },
    new: async (w) => {
      const branch = async (name: string) => {
        await w.ctx.step(name, () => delay(4, name))
        const which = (await patch(w, name)) ? "new" : "old"
        return w.ctx.step(`${name} ${which}`, () => delay(2, which))
      }
      const all = await Promise.all([branch("x"), branch("y"), branch("z")])
      return [...all, await w.ctx.step((await patch(w, "end")) ? "new end" : "end", run("end"))]
    },
    results: ["old", "new"].flatMap((x) =>
      ["old", "new"].flatMap((y) => ["old", "new"].map((z) => [x, y, z, "end"])),
    ),
  },
  {
    change: "a patch behind a race",
    old: async ({ ctx }) => {
      const winner = await Promise.race([
        ctx.step("x", () => delay(2, "x")),
        ctx.sleep("limit", "1 day").then(() => "late"),
      ])
      return [winner, await ctx.step("after", run("after"))]
    },
    new: async (w) => {
      const winner = await Promise.race([
        w.ctx.step("x", () => delay(2, "x")),
        w.ctx.sleep("limit", "1 day").then(() => "late"),
      ])
      const name = (await patch(w)) ? "new" : "after"
      return [winner, await w.ctx.step(name, run(name))]
    },
    results: [
      ["x", "after"],
      ["x", "new"],
    ],
  },
  {
    change: "a patch in a loop, by round",
    old: async ({ ctx }) => {
      for (let i = 0; i < 3; i++) await ctx.step("item", () => i)
      return "done"
    },
    new: async (w) => {
      for (let i = 0; i < 3; i++) {
        const name = (await patch(w, `round ${i}`)) ? "new item" : "item"
        await w.ctx.step(name, () => i)
      }
      return "done"
    },
    results: ["done"],
  },
  {
    change: "a patch in a run that is retried",
    old: async ({ ctx, world }) => {
      await ctx.step("a", run("A"))
      await ctx.step("shaky", () => world.fails("shaky", 2))
      return ctx.step("b", run("B"))
    },
    new: async (w) => {
      await w.ctx.step("a", run("A"))
      if (await patch(w)) await w.ctx.step("new", run("new"))
      await w.ctx.step("shaky", () => w.world.fails("shaky", 2))
      return w.ctx.step("b", run("B"))
    },
    results: ["B"],
    maxAttempts: 4,
  },
]

const limits = { divergenceGraceMs: 300, parkGraceMs: 0 }

describe("a patch", { timeout: 120_000 }, () => {
  it.concurrent.each(changes)("$change: at every cut, and at every cut of that", async (given) => {
    const options = { children, ...(given.maxAttempts ? { maxAttempts: given.maxAttempts } : {}) }
    const first = await record(program("patched", given.old, options), limits)
    expect(first.end.status).toBe("completed")
    const { code } = program("patched", given.new, options)
    const id = first.workflowRunId
    const faults: Array<string> = []
    const check = (place: string, end: Awaited<ReturnType<typeof goOn>>, violations: unknown[]) => {
      const fits = given.results.some((one) => JSON.stringify(one) === JSON.stringify(end.result))
      if (end.status !== "completed" || !fits || violations.length > 0) {
        faults.push(`${place}: ${end.status} ${JSON.stringify(end.result)} ${violations.join()}`)
      }
    }
    const results = new Set<string>()
    await inParallel(
      first.moments.map((moment, i) => async () => {
        const second = await goOnRecording(moment, id, code, limits)
        check(`cut ${i}`, second.end, moment.world.violations)
        results.add(JSON.stringify(second.end.result))
        for (const [j, again] of second.moments.entries()) {
          const third = await goOn(again, id, code, limits)
          check(`cut ${i}, ${j}`, third, again.world.violations)
          if (JSON.stringify(third.result) !== JSON.stringify(second.end.result)) {
            faults.push(`cut ${i}, ${j}: the run has changed its mind`)
          }
        }
      }),
      4,
    )
    expect(faults).toEqual([])
    // what was cut before anything was recorded takes the new code, what was nearly done the old
    expect(results.size > 1).toBe(given.results.length > 1)
  })

  it("is true in a new run, also after it was cut anywhere", async () => {
    const body: Body = async (w) => {
      const one = await patch(w, "one")
      w.note("one", one)
      await w.ctx.step("a", run("A"))
      const [two, three] = await Promise.all([
        patch(w, "two"),
        w.ctx.step("b", () => delay(3)).then(() => patch(w, "three")),
      ])
      await w.ctx.sleep("nap", "2 seconds")
      return [one, two, three, await patch(w, "one")]
    }
    const { code, ...rest } = program("new", body)
    const first = await record({ code, ...rest })
    expect(first.end.result).toEqual([true, true, true, true])
    for (const moment of first.moments) {
      const end = await goOn(moment, first.workflowRunId, code)
      expect([end.status, end.result]).toEqual(["completed", [true, true, true, true]])
    }
    const keys = recordsOf(first.moments.at(-1)!.handle, first.workflowRunId)
    expect(
      keys
        .filter((one) => one.kind === "patch")
        .map((one) => one.stepKey)
        .toSorted(),
    ).toEqual(["patch:one", "patch:three", "patch:two"])
  })

  it("removed from the code, with the old code behind it, pauses no run", async () => {
    const patchedBody: Body = async (w) => {
      const a = await w.ctx.step("a", run("A"))
      if (!(await patch(w))) throw new Error("the old code")
      const b = await w.ctx.step("b", run("B"))
      await w.ctx.sleep("nap", "2 seconds")
      return [a, b, w.ctx.now().getTime(), await w.ctx.step("c", run("C"))]
    }
    const removed: Body = async (w) => {
      const a = await w.ctx.step("a", run("A"))
      const b = await w.ctx.step("b", run("B"))
      await w.ctx.sleep("nap", "2 seconds")
      return [a, b, w.ctx.now().getTime(), await w.ctx.step("c", run("C"))]
    }
    const first = await record(program("removed", patchedBody), limits)
    expect(first.end.status).toBe("completed")
    for (const moment of first.moments) {
      const { code } = program("removed", removed)
      const second = await goOnRecording(moment, first.workflowRunId, code, limits)
      expect(second.end.status).toBe("completed")
      for (const again of second.moments) {
        const third = await goOn(again, first.workflowRunId, code, limits)
        expect([third.status, (third.result as Array<unknown>).length]).toEqual(["completed", 4])
      }
    }
  })

  it("that the body comes to late, after pure work, still has its answer", async () => {
    const body =
      (ms: number): Body =>
      async (w) => {
        const late = async () => {
          await delay(ms)
          return patch(w)
        }
        const beside = async () => {
          await w.ctx.step("a", () => delay(30))
          await w.ctx.step("b", run("B"))
          await w.ctx.sleep("nap", "2 seconds")
        }
        const [answer] = await Promise.all([late(), beside()])
        return [answer, await w.ctx.step("end", run("end"))]
      }
    const first = await record(program("late", body(1)))
    expect(first.end.result).toEqual([true, "end"])
    for (const moment of first.moments) {
      const { code } = program("late", body(400))
      const end = await goOn(moment, first.workflowRunId, code)
      expect([end.status, end.result]).toEqual(["completed", [true, "end"]])
    }
  })

  it("whose record stands is not taken for passed, while earlier work is awaited", async () => {
    const body =
      (ms: number): Body =>
      async (w) => {
        const asks = async () => {
          await delay(40)
          return patch(w)
        }
        const beside = async () => {
          await delay(ms)
          await w.ctx.step("b", run("B"))
        }
        const [answer] = await Promise.all([asks(), beside()])
        await w.ctx.sleep("nap", "2 seconds")
        return [answer, await w.ctx.step("end", run("end"))]
      }
    const first = await record(program("earlier", body(1)))
    expect(first.end.result).toEqual([true, "end"])
    const answered = first.moments.filter(({ handle }) =>
      recordsOf(handle, first.workflowRunId).some((one) => one.kind === "patch"),
    )
    expect(answered.length).toBeGreaterThan(0)
    for (const moment of answered) {
      const { code } = program("earlier", body(500))
      const end = await goOn(moment, first.workflowRunId, code)
      expect([end.status, end.result]).toEqual(["completed", [true, "end"]])
    }
  })

  it("keeps the undo of the old code for runs that had begun with it", async () => {
    const old: Body = async (w) => {
      await w.ctx.step("old", {
        run: run("old"),
        compensate: () => undefined,
      })
      await w.ctx.step("end", () => Promise.reject(new Error("no")))
    }
    const changed: Body = async (w) => {
      if (await patch(w)) {
        await w.ctx.step("new", { run: run("new"), compensate: () => undefined })
      } else await w.ctx.step("old", { run: run("old"), compensate: () => undefined })
      await w.ctx.step("end", () => Promise.reject(new Error("no")))
    }
    const first = await record(program("undone", old), limits)
    expect(first.end.status).toBe("compensated")
    for (const moment of first.moments) {
      const { code } = program("undone", changed)
      const end = await goOn(moment, first.workflowRunId, code, limits)
      expect(end.status).toBe("compensated")
      expect(moment.world.violations).toEqual([])
    }
  })
})
