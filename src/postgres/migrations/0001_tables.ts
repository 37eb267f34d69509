/**
 * 0001: the tables. Append-only: a released migration never changes; a change is a new file.
 *
 * What is indexed decides what is cheap. A finished run stands in no partial index but those of its
 * keys; a claim reads two bounded ranges per workflow; foreign and future work is in neither. There
 * are no foreign keys: their `for key share` locks would sit on the hottest rows, and every child
 * row is written by the holder of its run's lock.
 *
 * No check constraint spans columns that change: an UPDATE that lost a race checks the row it formed
 * from the *old* version before it notices, and fails where the new version would have been legal
 * (seen: a park and a cancel at once, `ready` from the locked row, `worker_id` from the stale one).
 *
 * @since 0.1.0
 */
import type { Names } from "../names.ts"

export const id = 1
export const name = "tables"

export const statements = (n: Names): ReadonlyArray<string> => [
  // fillfactor: wake counters are bumped in place (HOT) and need room on the page.
  `create table ${n.runs} (
    workflow_run_id uuid not null,
    -- of the row itself, so that versions can share a schema
    format smallint not null default 1,
    workflow text not null,
    version text,
    status text not null,
    -- it has begun to undo; stays true to the end
    compensating boolean not null default false,
    priority integer not null default 0,
    -- claimable now and unclaimed
    ready boolean not null,
    -- unclaimed: claimable from then on (null: when woken); null while claimed or settled
    due_at timestamptz,
    -- the fence: minted by each claim, kept when a write releases it
    claim_token bigint not null default 0,
    -- incarnation of the holder; held while not null
    worker_id uuid,
    -- token 1 was minted by the insert itself (eager start)
    claimed_by_insert boolean not null default false,
    wake_counter bigint not null default 0,
    attempt integer not null default 1,
    max_attempts integer,
    crash_count integer not null default 0,
    -- the worker of each counted crash, for giving counts back
    crashed_by uuid[] not null default '{}',
    -- of a fork: the run whose random numbers it draws
    seed uuid,
    parent_run_id uuid,
    parent_step_key text,
    parent_attempt integer,
    -- a child that is not cancelled when its parent ends
    outlives_parent boolean not null default false,
    idempotency_key text,
    -- from then on the key is free, once the run is terminal (null: never)
    idempotency_expires_at timestamptz,
    concurrency_key text,
    scheduled_for timestamptz,
    timeout_ms bigint,
    deadline_at timestamptz,
    cancel_requested_at timestamptz,
    cancel_compensate boolean,
    cancel_reason text,
    -- what the holder is asked, and the pause's reason when it has let go: {"reason", "error"}
    pause_request jsonb,
    -- what it waited for when it last parked: evidence for people
    waits jsonb,
    failed_position integer,
    input_codec text not null,
    input jsonb not null,
    result_codec text,
    result jsonb,
    error jsonb,
    pause_reason jsonb,
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz,
    constraint runs_pkey primary key (workflow_run_id),
    constraint runs_status_known check (status in (
      'pending', 'running', 'sleeping', 'waiting', 'paused', 'compensating',
      'completed', 'failed', 'compensated', 'cancelled', 'dead_letter'
    )),
    constraint runs_parent_is_whole check (
      (parent_run_id is null) = (parent_step_key is null)
      and (parent_run_id is null) = (parent_attempt is null)
    )
  ) with (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
  )`,
  // a null is found by no index condition that takes any version: '' is the version of no version
  `create index runs_claimed_by_priority
    on ${n.runs} (workflow, coalesce(version, ''), priority, due_at)
    where ready and crash_count < 2`,
  `create index runs_claimed_when_due on ${n.runs} (workflow, coalesce(version, ''), due_at)
    where not ready and due_at is not null and crash_count < 2`,
  // suspects: claimed one at a time, counted back, dead-lettered
  `create index runs_crashed on ${n.runs} (workflow, coalesce(version, ''), due_at)
    where crash_count >= 1`,
  `create index runs_held_by_worker on ${n.runs} (worker_id) where worker_id is not null`,
  `create unique index runs_one_per_idempotency_key on ${n.runs} (workflow, idempotency_key)
    where idempotency_key is not null`,
  `create unique index runs_one_active_per_concurrency_key on ${n.runs} (workflow, concurrency_key)
    where concurrency_key is not null and completed_at is null`,
  `create unique index runs_one_child_per_parent_step
    on ${n.runs} (parent_run_id, parent_step_key, parent_attempt)
    where parent_run_id is not null`,
  // children to cancel when their parent has ended, however it did
  `create index runs_open_children on ${n.runs} (parent_run_id)
    where parent_run_id is not null and completed_at is null and cancel_requested_at is null
      and not outlives_parent`,
  // what somebody should look at; the healthy end, completed, is not written here
  `create index runs_for_attention on ${n.runs} (status, workflow_run_id)
    where status in ('paused', 'failed', 'dead_letter')`,

  // what an operator steers: bounded by what is under way, not by what has ever been
  `create index runs_active_of_workflow on ${n.runs} (workflow, workflow_run_id)
    where completed_at is null`,
  // rows are appended in this order: a few pages of index for all of them
  `create index runs_by_time on ${n.runs} using brin (created_at)`,

  `create table ${n.steps} (
    workflow_run_id uuid not null,
    step_key text not null,
    name text not null,
    kind text not null,
    position integer,
    -- the highest position that the body had seen when it asked
    issued_after integer not null,
    status text not null,
    attempts integer not null,
    has_compensate boolean not null,
    carried boolean not null default false,
    -- the token under which it was written: progress of that claim, and proof of a lost answer
    claim_token bigint not null,
    event_id bigint,
    result_codec text,
    result jsonb,
    error jsonb,
    started_at timestamptz,
    completed_at timestamptz,
    retry_at timestamptz,
    -- orders what is noted during a try, which leaves attempts as they are
    revision integer not null default 0,
    heartbeat_codec text,
    heartbeat jsonb,
    compensation_status text,
    compensation_attempts integer,
    compensation_error jsonb,
    compensation_retry_at timestamptz,
    compensation_token bigint,
    constraint steps_one_outcome_per_key primary key (workflow_run_id, step_key),
    constraint steps_status_known check (status in ('completed', 'failed', 'retrying')),
    constraint steps_final_have_a_position check ((status = 'retrying') = (position is null)),
    constraint steps_compensation_known
      check (compensation_status in ('completed', 'failed', 'retrying', 'skipped'))
  )`,
  `create unique index steps_consume_an_event_once on ${n.steps} (workflow_run_id, event_id)
    where event_id is not null`,

  `create table ${n.timers} (
    workflow_run_id uuid not null,
    step_key text not null,
    wake_at timestamptz not null,
    created_at timestamptz not null,
    constraint timers_fixed_when_first_reached primary key (workflow_run_id, step_key)
  )`,

  `create table ${n.events} (
    event_id bigint generated always as identity,
    workflow_run_id uuid not null,
    direction text not null,
    name text not null,
    payload_codec text not null,
    payload jsonb not null,
    sender_id text,
    created_at timestamptz not null,
    -- of the inserting transaction: an order that respects commits, which event_id is not
    xid xid8 not null default pg_current_xact_id(),
    constraint events_pkey primary key (event_id),
    constraint events_direction_known check (direction in ('sent', 'emitted', 'control'))
  )`,
  `create index events_of_run on ${n.events} (workflow_run_id, event_id)`,
  `create unique index events_one_per_sender_id on ${n.events} (workflow_run_id, sender_id)
    where direction = 'sent' and sender_id is not null`,
  `create index events_tail on ${n.events} (xid, event_id) where direction = 'emitted'`,

  // Wakes left by a sender inside a caller's open transaction, which must not lock a run's row.
  `create table ${n.wakes} (
    wake_id bigint generated always as identity,
    workflow_run_id uuid not null,
    constraint wakes_pkey primary key (wake_id)
  ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)`,

  // Written only by runs that use them. The one without a name is the status text.
  `create table ${n.attributes} (
    workflow_run_id uuid not null,
    name text not null,
    value jsonb not null,
    constraint attributes_one_per_name primary key (workflow_run_id, name)
  )`,
  `create index attributes_searched on ${n.attributes} (name, value, workflow_run_id)
    where name <> ''`,

  // fillfactor: a heartbeat updates columns of no index, in place
  `create table ${n.workers} (
    worker_id uuid not null,
    label text not null,
    lease_ms bigint not null,
    lease_expires_at timestamptz not null,
    workflows jsonb not null,
    capacity integer not null,
    started_at timestamptz not null,
    heartbeat_at timestamptz not null,
    retired_at timestamptz,
    constraint workers_pkey primary key (worker_id)
  ) with (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0)`,

  `create table ${n.schedules} (
    schedule_key text not null,
    workflow text not null,
    version text,
    cron text not null,
    time_zone text not null,
    input_codec text not null,
    input jsonb not null,
    enabled boolean not null,
    next_tick timestamptz not null,
    last_tick timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint schedules_pkey primary key (schedule_key)
  )`,
  `create index schedules_due on ${n.schedules} (next_tick) where enabled`,

  `create table ${n.ticks} (
    schedule_key text not null,
    tick timestamptz not null,
    workflow_run_id uuid not null,
    fired_at timestamptz not null,
    constraint ticks_once_per_instant primary key (schedule_key, tick)
  )`,
]
