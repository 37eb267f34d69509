/**
 * The world outside the workflow: an inventory, a bank and a courier that keep books in tables of
 * their own. `calls` has a row for each time somebody began to ask for something, `ledger` one for
 * each thing that happened. Like good services they take an idempotency key: asked twice with the
 * same key, they do the thing once.
 */
import type { StepInfo } from "flowly"
import pg from "pg"
import type { Order } from "./saga.ts"

export type Entry = "reserved" | "released" | "charged" | "refunded" | "shipped" | "confirmed"

/** What a worker tells about a step, while it happens. */
export interface Progress {
  readonly order: string
  readonly step: string
  readonly phase: "begun" | "half-way" | "done" | "failed"
  readonly text: string
}

export interface Shop {
  readonly reserve: (order: Order, info: StepInfo) => Promise<number>
  readonly release: (order: Order, reservation: number, info: StepInfo) => Promise<void>
  readonly charge: (order: Order, info: StepInfo) => Promise<number>
  readonly refund: (order: Order, payment: number, info: StepInfo) => Promise<void>
  readonly ship: (order: Order, info: StepInfo) => Promise<number>
  readonly confirm: (order: Order, info: StepInfo) => Promise<void>
}

export const createBooks = `
  create schema if not exists shop;
  create table if not exists shop.calls (
    call_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    workflow_run_id uuid not null,
    step text not null,
    idempotency_key text not null,
    worker_pid integer not null
  );
  create table if not exists shop.ledger (
    entry_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    workflow_run_id uuid not null,
    entry text not null,
    amount integer not null,
    idempotency_key text not null unique
  )`

export function openShop(pool: pg.Pool, tell: (progress: Progress) => void): Shop {
  interface Request {
    readonly step: string
    readonly entry: Entry
    readonly amount: number
    readonly milliseconds: number
    readonly done: string
  }

  /** Takes its time, as a call over the network would, and writes the books. */
  const perform = async ({ order }: Order, info: StepInfo, request: Request): Promise<number> => {
    const { step, entry, amount, milliseconds } = request
    const { workflowRunId, idempotencyKey } = info
    await pool.query(
      "insert into shop.calls (workflow_run_id, step, idempotency_key, worker_pid) " +
        "values ($1, $2, $3, $4)",
      [workflowRunId, step, idempotencyKey, process.pid],
    )
    tell({ order, step, phase: "begun", text: "" })
    await pause(milliseconds / 2)
    if (milliseconds > 1000) tell({ order, step, phase: "half-way", text: "" })
    await pause(milliseconds / 2)
    const { rows } = await pool.query<{ entry_id: string }>(
      "insert into shop.ledger (workflow_run_id, entry, amount, idempotency_key) " +
        "values ($1, $2, $3, $4) " +
        "on conflict (idempotency_key) do update set idempotency_key = excluded.idempotency_key " +
        "returning entry_id",
      [workflowRunId, entry, amount, idempotencyKey],
    )
    const id = Number(rows[0]!.entry_id)
    tell({ order, step, phase: "done", text: `${request.done} (${id} in the books)` })
    return id
  }

  return {
    reserve: (order, info) =>
      perform(order, info, {
        step: "reserve-inventory",
        entry: "reserved",
        amount: 1,
        milliseconds: 500,
        done: "one piece reserved",
      }),
    release: async (order, reservation, info) => {
      await perform(order, info, {
        step: "reserve-inventory: undo",
        entry: "released",
        amount: -1,
        milliseconds: 500,
        done: `reservation ${reservation} released`,
      })
    },
    charge: (order, info) =>
      perform(order, info, {
        step: "charge-card",
        entry: "charged",
        amount: order.amount,
        milliseconds: 700,
        done: `${order.amount} € charged`,
      }),
    refund: async (order, payment, info) => {
      await perform(order, info, {
        step: "charge-card: undo",
        entry: "refunded",
        amount: -order.amount,
        milliseconds: 500,
        done: `payment ${payment} refunded`,
      })
    },
    ship: async (order, info) => {
      if (order.destination === "the Moon") {
        const error = new Error("no courier goes to the Moon")
        tell({ order: order.order, step: "ship-order", phase: "failed", text: error.message })
        throw error
      }
      return perform(order, info, {
        step: "ship-order",
        entry: "shipped",
        amount: 1,
        milliseconds: 3000,
        done: `a parcel to ${order.destination}`,
      })
    },
    confirm: async (order, info) => {
      await perform(order, info, {
        step: "send-confirmation",
        entry: "confirmed",
        amount: 1,
        milliseconds: 400,
        done: "mail sent",
      })
    },
  }
}

const pause = (milliseconds: number) =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds)
  })
