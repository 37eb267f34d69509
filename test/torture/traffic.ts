/**
 * Steady traffic of runs whose ends are known, through a way that somebody else breaks; and the check
 * that none was lost, and none took effect twice.
 */
import { FlowlyError } from "../../src/index.ts"
import type { Place } from "../processes/harness.ts"
import type { Context } from "./scenario.ts"

interface Expected {
  readonly what: string
  readonly status: string
  readonly did: ReadonlyArray<string>
  readonly counted: number
}

const order = ["reserve", "charge", "pack", "ship"]
const undos = ["undo pack", "undo charge", "undo reserve"]

/** What the runs of one round were, and must come to. */
export class Traffic {
  readonly acknowledged = new Map<string, Expected>()
  readonly #place: Place
  #over = false
  #started = 0
  #done: Promise<void> = Promise.resolve()

  constructor(place: Place) {
    this.#place = place
  }

  /** Starts runs, one after the other, until it is ended. A refused start is asked for again. */
  begin(everyMs: number): void {
    this.#done = (async () => {
      while (!this.#over) {
        const n = this.#started++
        await this.#start(n)
        await new Promise((resolve) => setTimeout(resolve, everyMs))
      }
    })()
  }

  async end(): Promise<void> {
    this.#over = true
    await this.#done
  }

  async #start(n: number): Promise<void> {
    const { engine, workflows } = this.#place
    const options = { idempotencyKey: `traffic ${n}` }
    for (;;) {
      try {
        if (n % 3 === 0) {
          const input = { ms: 20 }
          const { workflowRunId: run } = await engine.trigger(workflows.counting, {
            input,
            ...options,
          })
          const did = ["one", "two", "three"]
          this.acknowledged.set(run, { what: "counting", status: "completed", did, counted: 3 })
        } else {
          const fails = n % 3 === 1
          const input = { sleepMs: fails ? 300 : 1500, fails }
          const { workflowRunId: run } = await engine.trigger(workflows.order, {
            input,
            ...options,
          })
          this.acknowledged.set(run, {
            what: fails ? "undone order" : "order",
            status: fails ? "compensated" : "completed",
            did: fails ? [...order, ...undos] : order,
            counted: 0,
          })
        }
        return
      } catch (error) {
        if (!(error instanceof FlowlyError) || !error.retryable) throw error
        if (this.#over) return
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  /** Waits for all to end, and judges. `look` asks the engine's own database. */
  async judge(
    context: Context,
    invariant: string,
    look: <Row>(text: string, values: ReadonlyArray<unknown>) => Promise<ReadonlyArray<Row>>,
  ): Promise<void> {
    const ids = [...this.acknowledged.keys()]
    const read = () =>
      look<{ id: string; status: string; error: unknown }>(
        `select workflow_run_id as id, status, error from durable_workflow.workflow_runs
        where workflow_run_id = any($1::uuid[])`,
        [ids],
      )
    const over = new Set(["completed", "compensated", "failed", "cancelled", "dead_letter"])
    const deadline = performance.now() + 90_000
    let rows = await read()
    while (rows.some(({ status }) => !over.has(status)) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 200))
      rows = await read()
    }
    context.count("runs", ids.length)
    const found = new Map(rows.map((row) => [row.id, row]))
    const counted = new Map(
      (
        await look<{ run: string; n: number; steps: number }>(
          `select run, count(*)::int as n, count(distinct step)::int as steps
          from public.counted group by run`,
          [],
        )
      ).map((row) => [row.run, row]),
    )
    const effects = new Map<string, Array<string>>()
    for (const { run, step } of await this.#place.query<{ run: string; step: string }>(
      "select run, step from effects",
    )) {
      effects.set(run, [...(effects.get(run) ?? []), step])
    }
    for (const [run, { what, status, did, counted: n }] of this.acknowledged) {
      const violate = (of: string, message: string) =>
        context.violate({ invariant: of, message: `${what}: ${message}`, workflowRunId: run })
      const now = found.get(run)
      if (now === undefined) violate("I1", "acknowledged, and lost")
      else if (now.status !== status) {
        const message = `it is ${now.status}: ${JSON.stringify(now.error)}`
        violate(over.has(now.status) ? invariant : "I2", message)
      }
      const seen = (effects.get(run) ?? []).toSorted()
      if (seen.join() !== did.toSorted().join()) violate("I7", `it did ${seen.join(", ")}`)
      const { n: times = 0, steps = 0 } = counted.get(run) ?? {}
      if (times !== n || steps !== n) violate("I7", `counted ${times} times, ${steps} steps`)
      context.count("steps", did.length)
    }
  }
}
