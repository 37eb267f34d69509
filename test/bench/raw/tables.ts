/** The least that a durable, fenced engine must store: runs with a claim, steps with a result. */
import { withClient } from "../../support/provision.ts"

const tables = `
  create table runs (
    run_id uuid primary key, status text not null, worker_id uuid, claim_token bigint not null,
    input jsonb not null, result jsonb, created_at timestamptz not null, completed_at timestamptz
  );
  create index runs_free on runs (run_id) where worker_id is null and completed_at is null;
  create table steps (
    run_id uuid, step_key text, position integer not null, claim_token bigint not null,
    status text not null, result jsonb not null, completed_at timestamptz not null,
    primary key (run_id, step_key)
  )`

export const createRawTables = (url: string): Promise<unknown> =>
  withClient(url, (client) => client.query(tables))

/** SQL: the id of run `n`: of one time, in order, like UUIDv7. */
const idOf = (n: string) =>
  `(lpad(to_hex(1800000000000 + ${n}), 12, '0') || '70008000' || lpad(to_hex(${n}), 12, '0'))::uuid`

/** Runs that wait for a worker; `claimedBy`: that are its already, with token 1. */
export const enqueueRaw = (url: string, runs: number, claimedBy: string | null): Promise<unknown> =>
  withClient(url, (client) =>
    client.query(
      `insert into runs (run_id, status, worker_id, claim_token, input, created_at)
       select ${idOf("n")}, case when $2::uuid is null then 'pending' else 'running' end, $2::uuid,
         case when $2::uuid is null then 0 else 1 end, jsonb_build_object('n', n),
         clock_timestamp()
       from generate_series(1, $1::bigint) n`,
      [runs, claimedBy],
    ),
  )
