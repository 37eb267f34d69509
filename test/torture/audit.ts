/**
 * What became of the engine's rows, each change as it was committed: triggers write it down, with the
 * role of the session that made it (each process has a role of its own). The triggers are the suite's;
 * the engine knows nothing of them.
 *
 * They are gates, too: whoever holds a role's gate holds up that role's commits of records, or its
 * claims, behind what they wrote and before it is committed (`nemesis/gates.ts`). So a moment that takes
 * microseconds lasts as long as somebody wants.
 */
import type pg from "pg"

const schema = "durable_workflow"

/** What of a role's is held up: what writes records, or what claims. */
export type Gated = "records" | "claims"

/** The lock of a role's gate. */
export const gateKey = (role: string, gated: Gated): string =>
  `hashtextextended('${role} ${gated}', 0)`

export const auditTables = `
  create sequence torture.audit_seq;
  create table torture.audit_runs (
    seq bigint not null default nextval('torture.audit_seq'),
    at timestamptz not null default clock_timestamp(),
    xid xid8 not null default pg_current_xact_id(),
    who text not null default session_user,
    pid int not null default pg_backend_pid(),
    verb text not null,
    run uuid not null,
    was text, status text not null,
    old_token bigint, token bigint not null,
    old_worker uuid, worker uuid,
    attempt int not null,
    crashes int not null,
    due_at timestamptz,
    -- of the holder before and after, by the server's clock
    old_lease_ms float8, lease_ms float8
  );
  create index on torture.audit_runs (run);
  create table torture.audit_steps (
    seq bigint not null default nextval('torture.audit_seq'),
    at timestamptz not null default clock_timestamp(),
    xid xid8 not null default pg_current_xact_id(),
    who text not null default session_user,
    op text not null,
    run uuid not null,
    step text not null,
    was text, status text,
    token bigint,
    undo text, undo_token bigint,
    -- a final outcome is another than it was
    rewritten boolean not null
  );
  create index on torture.audit_steps (run);
  create table torture.audit_workers (
    at timestamptz not null default clock_timestamp(),
    who text not null default session_user,
    op text not null,
    worker uuid not null,
    label text not null,
    old_lease_ms float8
  );

  create function torture.lease_of(uuid) returns float8 language sql volatile as $$
    select extract(epoch from w.lease_expires_at - clock_timestamp()) * 1000
    from ${schema}.workflow_workers w where w.worker_id = $1
  $$;
  create function torture.verb() returns text language sql volatile as $$
    select case
      when current_query() like '%swept as (%' then 'sweep'
      when current_query() like '%released as (%' then 'release'
      when current_query() like '%claimed as (%' then 'claim'
      when current_query() like '%folded as materialized%' then 'commit'
      when current_query() like '%PoisonRun%' then 'poison'
      else 'other'
    end
  $$;
  create function torture.pass(gated text) returns void language sql volatile as $$
    select pg_advisory_xact_lock_shared(hashtextextended(session_user || ' ' || gated, 0))
  $$;
  create function torture.on_run() returns trigger language plpgsql as $$
  begin
    if tg_op = 'UPDATE' and old.worker_id is null and new.worker_id is not null then
      perform torture.pass('claims');
    end if;
    if tg_op = 'INSERT' then
      insert into torture.audit_runs
        (verb, run, status, token, worker, attempt, crashes, due_at, lease_ms)
      values ('insert', new.workflow_run_id, new.status, new.claim_token, new.worker_id, new.attempt,
        new.crash_count, new.due_at, torture.lease_of(new.worker_id));
    else
      insert into torture.audit_runs (verb, run, was, status, old_token, token, old_worker, worker,
        attempt, crashes, due_at, old_lease_ms, lease_ms)
      values (torture.verb(), new.workflow_run_id, old.status, new.status, old.claim_token,
        new.claim_token, old.worker_id, new.worker_id, new.attempt, new.crash_count, new.due_at,
        torture.lease_of(old.worker_id), torture.lease_of(new.worker_id));
    end if;
    return null;
  end $$;
  create function torture.on_step() returns trigger language plpgsql as $$
  begin
    perform torture.pass('records');
    if tg_op = 'DELETE' then
      insert into torture.audit_steps (op, run, step, was, rewritten)
      values ('delete', old.workflow_run_id, old.step_key, old.status, old.status = 'completed');
      return null;
    end if;
    insert into torture.audit_steps
      (op, run, step, was, status, token, undo, undo_token, rewritten)
    values (lower(tg_op), new.workflow_run_id, new.step_key,
      case when tg_op = 'UPDATE' then old.status end, new.status, new.claim_token,
      new.compensation_status, new.compensation_token,
      tg_op = 'UPDATE' and old.status <> 'retrying'
        and (old.status, old.position, old.result, old.error, old.completed_at)
          is distinct from (new.status, new.position, new.result, new.error, new.completed_at));
    return null;
  end $$;
  create function torture.on_worker() returns trigger language plpgsql as $$
  begin
    insert into torture.audit_workers (op, worker, label, old_lease_ms)
    values (lower(tg_op), new.worker_id, new.label, case when tg_op = 'UPDATE' then
      extract(epoch from old.lease_expires_at - clock_timestamp()) * 1000 end);
    return null;
  end $$;

  create trigger torture_insert after insert on ${schema}.workflow_runs
    for each row execute function torture.on_run();
  create trigger torture_update after update on ${schema}.workflow_runs
    for each row when (
      (old.status, old.claim_token, old.worker_id, old.attempt, old.crash_count)
        is distinct from (new.status, new.claim_token, new.worker_id, new.attempt, new.crash_count)
    ) execute function torture.on_run();
  create trigger torture_change after insert or update or delete on ${schema}.workflow_steps
    for each row execute function torture.on_step();
  create trigger torture_register after insert on ${schema}.workflow_workers
    for each row execute function torture.on_worker();
  -- a heartbeat extends a lease; only one that had lapsed is worth a line
  create trigger torture_renew after update on ${schema}.workflow_workers
    for each row when (
      old.lease_expires_at <= clock_timestamp() and new.lease_expires_at > old.lease_expires_at
    ) execute function torture.on_worker()`

/** One change of a run's row. */
export interface RunChange {
  readonly seq: number
  readonly at: Date
  readonly xid: string
  readonly who: string
  /** Of the server's process for that session. */
  readonly pid: number
  readonly verb: string
  readonly run: string
  readonly was: string | null
  readonly status: string
  readonly old_token: number | null
  readonly token: number
  readonly old_worker: string | null
  readonly worker: string | null
  readonly attempt: number
  readonly crashes: number
  readonly due_at: Date | null
  readonly old_lease_ms: number | null
  readonly lease_ms: number | null
}

/** One change of a record. */
export interface StepChange {
  readonly seq: number
  readonly at: Date
  readonly xid: string
  readonly who: string
  readonly op: string
  readonly run: string
  readonly step: string
  readonly was: string | null
  readonly status: string | null
  readonly token: number | null
  readonly undo: string | null
  readonly undo_token: number | null
  readonly rewritten: boolean
}

/** A worker that registered, or renewed a lease that had lapsed. */
export interface WorkerChange {
  readonly at: Date
  readonly who: string
  readonly op: string
  readonly worker: string
  readonly label: string
  readonly old_lease_ms: number | null
}

export interface Audit {
  readonly runs: ReadonlyArray<RunChange>
  readonly steps: ReadonlyArray<StepChange>
  readonly workers: ReadonlyArray<WorkerChange>
}

export const readAudit = async (client: pg.Client): Promise<Audit> => {
  const runs = await client.query<RunChange>(
    `select seq::float8, at, xid::text, who, pid, verb, run, was, status, old_token::float8,
      token::float8, old_worker, worker, attempt, crashes, due_at, old_lease_ms, lease_ms
    from torture.audit_runs order by seq`,
  )
  const steps = await client.query<StepChange>(
    `select seq::float8, at, xid::text, who, op, run, step, was, status, token::float8, undo,
      undo_token::float8, rewritten
    from torture.audit_steps order by seq`,
  )
  const workers = await client.query<WorkerChange>(
    "select at, who, op, worker, label, old_lease_ms from torture.audit_workers order by at",
  )
  return { runs: runs.rows, steps: steps.rows, workers: workers.rows }
}
