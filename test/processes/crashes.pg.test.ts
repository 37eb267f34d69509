/**
 * SIGKILL at each point of a run's life: another process finishes it, and what was recorded does
 * not run again.
 */
import { describe, expect, it } from "vitest"
import { Place, until } from "./harness.ts"
import type { OrderInput } from "./workflows.ts"

interface Given {
  /** The point at which the first process kills itself; else `kill` does it. */
  readonly dieAt?: string
  readonly haltAt?: string
  readonly trigger: () => Promise<{ readonly workflowRunId: string }>
  /** Resolves when the first process is to be killed from outside. */
  readonly killWhen?: (id: string) => Promise<void>
}

/** Runs until the first process is killed; then another one takes over. */
const killed = async (place: Place, { dieAt, haltAt, trigger, killWhen }: Given) => {
  const [first, second] = await Promise.all([place.spawn({ dieAt, haltAt }), place.spawn()])
  const { workflowRunId: run } = await trigger()
  await first.call("start").catch(() => undefined)
  if (killWhen) {
    await killWhen(run)
    first.signal("SIGKILL")
  }
  expect(await first.exit()).toEqual({ code: null, signal: "SIGKILL" })
  const before = await place.did(run)
  await second.call("start")
  return { run, before }
}

const order = (place: Place, input: OrderInput) => () =>
  place.engine.trigger(place.workflows.order, { input })

/** Both orders of what was done and undone: every step once, in reverse order undone. */
const saga = ["reserve", "charge", "pack", "ship", "undo pack", "undo charge", "undo reserve"]

const recorded = (place: Place, run: string, step: string) => async () =>
  (
    await place.query(
      "select from durable_workflow.workflow_steps where workflow_run_id = $1 and step_key = $2",
      [run, step],
    )
  ).length === 1

describe.concurrent(
  "a worker process that is killed, and another that takes over",
  { timeout: 90_000 },
  () => {
    it("while a step's body runs: the step runs again, those before it do not", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, { dieAt: "end charge", trigger: order(place, {}) })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "charge", "pack", "ship"])
      const charges = (await place.ledger(run)).filter(({ step }) => step === "charge")
      expect(new Set(charges.map(({ key }) => key)).size).toBe(1)
    })

    it("between a step's end and its commit: the step runs again", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, { dieAt: "completed charge", trigger: order(place, {}) })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "charge", "pack", "ship"])
    })

    it("after a step's commit: the step does not run again, its result is the recorded one", async () => {
      await using place = await Place.create()
      const { run, before } = await killed(place, {
        dieAt: "start pack",
        trigger: order(place, {}),
      })
      expect(before).toEqual(["reserve", "charge"])
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "pack", "ship"])
      const seqs = (await place.ledger(run)).map(({ seq }) => seq)
      expect(await place.engine.getStatus(run)).toMatchObject({ result: seqs })
    })

    it("from outside, as soon as a step is recorded: the step does not run again", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        haltAt: "start pack",
        trigger: order(place, {}),
        killWhen: (id) => until("charge recorded", recorded(place, id, "charge")),
      })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "pack", "ship"])
    })

    for (const [dieAt, bodies] of [
      ["counted two", 2], // before the commit: the code runs again
      ["completed two", 1], // after it, before anybody was told: it does not
    ] as const) {
      it(`in a transactional step, at "${dieAt}": it counts once`, async () => {
        await using place = await Place.create()
        const { run } = await killed(place, {
          dieAt,
          trigger: () => place.engine.trigger(place.workflows.counting, { input: { ms: 0 } }),
        })
        await place.reaches(run, "completed")
        const twos = (await place.did(run)).filter((step) => step === "two")
        expect(twos.length).toBe(bodies)
        const counted = await place.query<{ step: string; result: number }>(
          "select step, result from counted where run = $1 order by result",
          [run],
        )
        expect(counted.map((row) => row.step)).toEqual(["one", "two", "three"])
        const results = counted.map((row) => row.result)
        expect(await place.engine.getStatus(run)).toMatchObject({ result: results })
      })
    }

    it("in a step that told of its progress: the next try is told what was stored last", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        trigger: () => place.engine.trigger(place.workflows.pages),
        killWhen: (id) =>
          until("page 50 stored", async () => {
            const [step] = await place.query<{ heartbeat: unknown }>(
              "select heartbeat from durable_workflow.workflow_steps where workflow_run_id = $1",
              [id],
            )
            return JSON.stringify(step?.heartbeat ?? null).includes("50")
          }),
      })
      await place.reaches(run, "completed")
      expect(await place.engine.getStatus(run)).toMatchObject({ result: { page: 50 } })
    })

    it("while the run sleeps, parked: it wakes when it was due, not later, not earlier", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        haltAt: "start pack",
        trigger: order(place, { sleepMs: 2500 }),
        killWhen: (id) => place.reaches(id, "sleeping"),
      })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "pack", "ship"])
      const [row] = await place.query<{ early: boolean; late: number }>(
        `select l.at < t.wake_at as early, extract(epoch from l.at - t.wake_at) * 1000 as late
        from ledger l join durable_workflow.sleep_timers t on t.workflow_run_id = l.run
        where l.run = $1 and l.step = 'pack'`,
        [run],
      )
      expect(row?.early).toBe(false)
      expect(Number(row?.late)).toBeLessThan(5000)
    })

    it("while the run sleeps in memory: the sleep does not begin anew", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        haltAt: "start pack",
        trigger: order(place, { sleepMs: 900 }),
        killWhen: (id) =>
          until("the timer", async () => {
            const timers = await place.query(
              "select from durable_workflow.sleep_timers where workflow_run_id = $1",
              [id],
            )
            return timers.length === 1
          }),
      })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["reserve", "charge", "pack", "ship"])
      const timers = await place.query(
        `select from durable_workflow.sleep_timers t
        join durable_workflow.workflow_steps s using (workflow_run_id)
        where workflow_run_id = $1 and s.step_key = 'charge'
          and t.wake_at < s.completed_at + interval '1500 milliseconds'`,
        [run],
      )
      expect(timers.length).toBe(1)
    })

    it("between the failure and the first compensation: all is undone once, in reverse", async () => {
      await using place = await Place.create()
      const { run, before } = await killed(place, {
        dieAt: "start undo pack",
        trigger: order(place, { fails: true }),
      })
      expect(before).toEqual(["reserve", "charge", "pack", "ship"])
      await place.reaches(run, "compensated")
      expect(await place.did(run)).toEqual(saga)
    })

    it("between two compensations: the recorded one is not repeated", async () => {
      await using place = await Place.create()
      const { run, before } = await killed(place, {
        dieAt: "start undo charge",
        trigger: order(place, { fails: true }),
      })
      expect(before).toEqual(["reserve", "charge", "pack", "ship", "undo pack"])
      await place.reaches(run, "compensated")
      expect(await place.did(run)).toEqual(saga)
    })

    it("while a compensation runs: that one runs again", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        dieAt: "end undo charge",
        trigger: order(place, { fails: true }),
      })
      await place.reaches(run, "compensated")
      const twice = saga.flatMap((step) => (step === "undo charge" ? [step, step] : [step]))
      expect(await place.did(run)).toEqual(twice)
    })

    it("in a child's last step: the child goes on, the parent gets its result", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        dieAt: "end child work",
        trigger: () => place.engine.trigger(place.workflows.parent, { input: { deeper: false } }),
      })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["before", "after"])
    })

    it("between a child's end and its parent's wake: the parent wakes elsewhere", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        dieAt: "settled child",
        trigger: () => place.engine.trigger(place.workflows.parent, { input: { deeper: false } }),
      })
      await place.reaches(run, "completed")
      expect(await place.did(run)).toEqual(["before", "after"])
      const [child] = await place.query<{ id: string }>(
        `select workflow_run_id as id from durable_workflow.workflow_runs where parent_run_id = $1`,
        [run],
      )
      expect(await place.did(child?.id ?? "")).toEqual(["child work"])
    })

    it("when the parent holds its claim: the child's end is not lost with it", async () => {
      await using place = await Place.create()
      const { run } = await killed(place, {
        dieAt: "settled child",
        trigger: () => place.engine.trigger(place.workflows.busyParent),
      })
      await place.reaches(run, "completed")
      const did = await place.did(run)
      // `held` was executing when its process died
      expect(did.filter((step) => step === "held").length).toBe(2)
      expect(did.filter((step) => step === "after child").length).toBe(1)
    })
  },
)
