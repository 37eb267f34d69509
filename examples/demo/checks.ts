/**
 * Did it hold? Each check is computed from the tables of flowly, the books of the shop and how the
 * processes ended; none from what the demo believes to have done.
 */
import { isDeepStrictEqual } from "node:util"
import type pg from "pg"
import type { Order, Receipt } from "./saga.ts"
import type { Entry } from "./shop.ts"
import type { End } from "./workers.ts"

export interface Story {
  /** The order that survived two kills, and the one that failed. */
  readonly good: { readonly id: string; readonly order: Order }
  readonly bad: { readonly id: string; readonly order: Order }
  /** As the database had it before the first kill. */
  readonly wakeAt: Date
  readonly workers: ReadonlyArray<{ readonly pid: number; readonly end: End }>
}

export interface Check {
  readonly ok: boolean
  readonly claim: string
  readonly evidence: string
}

interface Call {
  readonly step: string
  readonly idempotency_key: string
  readonly worker_pid: number
  readonly at: Date
}

/** Orders that should go on by themselves. A paused one waits for a person, or for other code. */
export const unfinished = "completed_at is null and status <> 'paused'"

export async function checkStory(pool: pg.Pool, story: Story): Promise<ReadonlyArray<Check>> {
  const query = async <Row>(text: string, ...values: ReadonlyArray<unknown>) =>
    (await pool.query(text, [...values])).rows as ReadonlyArray<Row>
  const runOf = async (id: string) => {
    const [row] = await query<{ status: string; result: Receipt | null }>(
      "select status, result from durable_workflow.workflow_runs where workflow_run_id = $1",
      id,
    )
    return row ?? { status: "missing", result: null }
  }
  const callsOf = (id: string) =>
    query<Call>("select * from shop.calls where workflow_run_id = $1 order by call_id", id)
  const entriesOf = (id: string) =>
    query<{ entry_id: string; entry: Entry; amount: number }>(
      "select * from shop.ledger where workflow_run_id = $1 order by entry_id",
      id,
    )

  const { good, bad } = story
  const [goodRun, badRun] = [await runOf(good.id), await runOf(bad.id)]
  const [goodCalls, badCalls] = [await callsOf(good.id), await callsOf(bad.id)]
  const [goodBooks, badBooks] = [await entriesOf(good.id), await entriesOf(bad.id)]
  const [timer] = await query<{ wake_at: Date }>(
    "select wake_at from durable_workflow.sleep_timers where workflow_run_id = $1",
    good.id,
  )
  const [left] = await query<{ n: number }>(
    `select count(*)::int as n from durable_workflow.workflow_runs where ${unfinished}`,
  )

  const entryId = (entry: Entry) => Number(goodBooks.find((row) => row.entry === entry)?.entry_id)
  const receipt: Receipt = {
    reservation: entryId("reserved"),
    payment: entryId("charged"),
    parcel: entryId("shipped"),
  }
  const early = goodCalls.filter((call) => ["reserve-inventory", "charge-card"].includes(call.step))
  const ship = goodCalls.filter((call) => call.step === "ship-order")
  const shippedLateMs = (ship[0]?.at.getTime() ?? 0) - story.wakeAt.getTime()
  const undone = badCalls.filter((call) => call.step.endsWith(": undo")).map((call) => call.step)
  const sum = badBooks.reduce((total, row) => total + row.amount, 0)
  const ends = story.workers.map(({ end }) => end.signal ?? `code ${end.code}`)

  return [
    {
      claim: "the order is completed, and its receipt names what is in the books",
      ok: goodRun.status === "completed" && isDeepStrictEqual(goodRun.result, receipt),
      evidence: `${goodRun.status}, ${JSON.stringify(goodRun.result)}`,
    },
    {
      claim: "two workers were killed with SIGKILL, the third stopped when told to",
      ok: isDeepStrictEqual(ends, ["SIGKILL", "SIGKILL", "code 0"]),
      evidence: ends.join(", "),
    },
    {
      claim: "steps that were recorded before a kill did not run again",
      ok: early.length === 2 && early.every((call) => call.worker_pid === story.workers[0]?.pid),
      evidence: early.map((call) => `${call.step} in process ${call.worker_pid}`).join(", "),
    },
    {
      claim: "the step that was killed half-way ran again, with the same idempotency key",
      ok:
        ship.length === 2 &&
        ship[0]?.worker_pid === story.workers[1]?.pid &&
        ship[1]?.worker_pid === story.workers[2]?.pid &&
        ship[0]?.idempotency_key === ship[1]?.idempotency_key,
      evidence: `ship-order began in the processes ${ship.map((call) => call.worker_pid).join(", ")}`,
    },
    {
      claim: "each thing happened once: one reservation, one charge, one parcel, one mail",
      ok: isDeepStrictEqual(
        goodBooks.map((row) => row.entry),
        ["reserved", "charged", "shipped", "confirmed"],
      ),
      evidence: goodBooks.map((row) => row.entry).join(", "),
    },
    {
      claim: "the sleep kept its end through the kill, and did not end early",
      ok: timer?.wake_at.getTime() === story.wakeAt.getTime() && shippedLateMs >= 0,
      evidence: `shipping began ${shippedLateMs} ms after it`,
    },
    {
      claim: "the order that failed was undone in reverse order, and nothing of it is left",
      ok:
        badRun.status === "compensated" &&
        isDeepStrictEqual(undone, ["charge-card: undo", "reserve-inventory: undo"]) &&
        sum === 0,
      evidence: `${badRun.status}; ${badBooks.map((row) => row.entry).join(", ")}; sum ${sum}`,
    },
    {
      claim: "no order of this data directory is unfinished",
      ok: left?.n === 0,
      evidence: `${left?.n} have not ended`,
    },
  ]
}
