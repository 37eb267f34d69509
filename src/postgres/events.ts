/**
 * Events: sent to runs, and the tail of what runs emit.
 *
 * Sending stores the event and wakes the run in one commit. Inside a caller's open transaction it
 * must not update the run's row: the lock would be held until that transaction ends, and every batch
 * with the run in it would come back busy. There it leaves an insert-only wake, which is applied by
 * the sweep's loop after the caller has committed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { StoreRejected } from "../FlowlyError.ts"
import type { Encoded } from "../Payload.ts"
import type { EventRow, StoreError } from "../WorkflowStore.ts"
import { batch, payload, RawJson } from "./batch.ts"
import type { Database } from "./database.ts"
import type { Names } from "./names.ts"
import { clock, eventColumns, int, text, toEventRow } from "./rows.ts"
import { isUuid } from "./uuids.ts"
import { wakeAssignments } from "./wakes.ts"

type SendAnswer = "sent" | "duplicate" | "terminal" | "full" | "unknown"

interface EventToSend {
  readonly workflowRunId: string
  readonly name: string
  readonly payload: Encoded
  readonly id: string | null
}

export const sendEvents = (
  database: Database,
): ((
  events: ReadonlyArray<EventToSend>,
  options?: { readonly maxPending: number },
) => Effect.Effect<ReadonlyArray<SendAnswer>, StoreError>) => {
  const direct = sendStatement(database.names, false)
  const deferred = sendStatement(database.names, true)
  return Effect.fnUntraced(function* (events, options) {
    if (events.length === 0) return []
    const statement = (yield* database.inTransaction) ? deferred : direct
    const rows = yield* database.write("sendEvents", statement, [
      yield* database.now,
      batch(
        events.flatMap((event, place) => (isUuid(event.workflowRunId) ? [{ event, place }] : [])),
        ({ event, place }) => ({
          place,
          run: event.workflowRunId,
          name: event.name,
          codec: event.payload.codec,
          payload: new RawJson(event.payload.json),
          id: event.id,
        }),
      ),
      options === undefined ? null : String(options.maxPending),
    ])
    const answers = new Map(rows.map((row) => [int(row["place"]), text(row["answer"])]))
    return events.map((_, place) => (answers.get(place) ?? "unknown") as SendAnswer)
  })
}

export const sendStatement = (n: Names, deferred: boolean): string => `
  with x as materialized (
    select x.*, row_number() over (partition by x.run, x.id order by x.place) as nth
    from json_to_recordset($2::json) as x(
      place int, run uuid, name text, codec text, payload jsonb, id text
    )
  ),
  targets as materialized (
    select r.workflow_run_id, r.completed_at, r.wake_counter
    from ${n.runs} r
    where r.workflow_run_id in (select run from x)${
      deferred
        ? ""
        : `
    -- Two senders meet here, not in the unique index; in ascending order, so that they cannot
    -- wait for each other.
    order by r.workflow_run_id
    for no key update of r`
    }
  ),
  pending as materialized (
    -- counted run by run: a join is planned as a scan of all events
    select t.workflow_run_id, (
        select count(*)
        from ${n.events} e
        where e.workflow_run_id = t.workflow_run_id and e.direction = 'sent' and not exists (
          select 1 from ${n.steps} s
          where s.workflow_run_id = e.workflow_run_id and s.event_id = e.event_id
        )
      ) as events
    from targets t
    where $3::int8 is not null${
      deferred
        ? ""
        : `
    -- Each event has woken its run: most runs have not been woken often enough to be counted.
    and t.wake_counter + (select count(*) from x) > $3::int8`
    }
  ),
  known as materialized (
    select x.*, case
      when x.id is not null and exists (
        select 1 from ${n.events} e
        where e.workflow_run_id = x.run and e.direction = 'sent' and e.sender_id = x.id
          and e.sender_id is not null
      ) then 'duplicate'
      when t.completed_at is not null then 'terminal'
      -- of those that come in this very statement, the first counts
      when x.id is not null and x.nth > 1 then 'repeated'
      else 'new'
    end as kind
    from x join targets t on t.workflow_run_id = x.run
  ),
  counted as materialized (
    select k.*, coalesce(p.events, 0)
      + count(*) filter (where k.kind = 'new') over (partition by k.run order by k.place) as number
    from known k left join pending p on p.workflow_run_id = k.run
  ),
  judged as materialized (
    select c.place, c.run, c.name, c.codec, c.payload, c.id, case
      when c.kind = 'repeated' then (
        select case when f.number > $3::int8 then 'full' else 'duplicate' end
        from counted f
        where f.run = c.run and f.id = c.id and f.kind = 'new'
      )
      when c.kind <> 'new' then c.kind
      when c.number > $3::int8 then 'full'
      else 'sent'
    end as answer
    from counted c
  ),
  stored as (
    insert into ${n.events}
      (workflow_run_id, direction, name, payload_codec, payload, sender_id, created_at)
    select j.run, 'sent', j.name, j.codec, ${payload("j.codec", "j.payload")}, j.id, ${clock("$1")}
    from judged j
    where j.answer = 'sent'
    order by j.place
    -- one that committed after this statement's snapshot was taken
    on conflict (workflow_run_id, sender_id) where direction = 'sent' and sender_id is not null
      do nothing
    returning workflow_run_id, sender_id
  ),
  woken as (${
    deferred
      ? `
    insert into ${n.wakes} (workflow_run_id)
    select distinct workflow_run_id from stored
    returning 1`
      : `
    update ${n.runs} r
    set ${wakeAssignments("r", "s.times", clock("$1"))}
    from (
      select workflow_run_id, count(*) as times from stored group by workflow_run_id
    ) s
    where r.workflow_run_id = s.workflow_run_id and r.completed_at is null
    returning 1`
  }
  )
  select j.place, case
    when j.answer = 'sent' and j.id is not null and not exists (
      select 1 from stored s where s.workflow_run_id = j.run and s.sender_id = j.id
    ) then 'duplicate'
    else j.answer
  end as answer
  from judged j`

/**
 * Emitted events after a cursor. `event_id` is drawn before the commit, so a lower one may become
 * visible later. The cursor is (transaction, event): transactions are given only when every older one
 * has ended, so nothing older can appear afterwards. The price: a long transaction anywhere on the
 * server delays the tail (it never loses).
 */
export const tailEvents = (
  database: Database,
): ((options: {
  readonly cursor: string | null
  readonly limit: number
}) => Effect.Effect<
  { readonly events: ReadonlyArray<EventRow>; readonly cursor: string },
  StoreError
>) => {
  const n = database.names
  const present = `select pg_snapshot_xmin(pg_current_snapshot())::text as xid`
  const after = `
    select ${eventColumns("e")}, e.xid::text as xid
    from ${n.events} e
    where e.direction = 'emitted'
      and (e.xid, e.event_id) > ($1::xid8, $2::int8)
      and e.xid < pg_snapshot_xmin(pg_current_snapshot())
    order by e.xid, e.event_id
    limit $3::int`
  return Effect.fnUntraced(function* ({ cursor, limit }) {
    if (cursor === null) {
      const rows = yield* database.read("tailEvents", present, [])
      return { events: [], cursor: `${text(rows[0]?.["xid"])}:0` }
    }
    const [, xid, eventId] = /^(\d{1,20}):(\d{1,19})$/.exec(cursor) ?? []
    if (xid === undefined || eventId === undefined) {
      return yield* new StoreRejected({
        operation: "tailEvents",
        sqlState: null,
        reason: `"${cursor.slice(0, 64)}" is not a cursor`,
      })
    }
    const rows = yield* database.read("tailEvents", after, [xid, eventId, String(limit)])
    const last = rows.at(-1)
    return {
      events: rows.map(toEventRow),
      cursor: last === undefined ? cursor : `${text(last["xid"])}:${text(last["event_id"])}`,
    }
  })
}
