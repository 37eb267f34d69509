import * as Effect from "effect/Effect"
import { expect, it, vi } from "vitest"
import type { Execution, ExecutionEnd, Issued } from "../../src/engine/Execution.ts"
import type { StepAttempt, StepOperation } from "../../src/engine/Operation.ts"
import { inTransaction } from "../../src/engine/transactions.ts"
import { StoreUnavailable } from "../../src/FlowlyError.ts"
import { none } from "../../src/RetryPolicy.ts"
import type { Transaction } from "../../src/WorkflowStore.ts"

const paying = (run: StepOperation["run"]): StepOperation => ({
  kind: "step",
  name: "pay",
  retry: none,
  timeoutMs: null,
  undo: null,
  transaction: { isolation: null },
  run,
})

/** A try whose transaction begins on a lease that is trusted by then, or not; what became of it. */
const tryOnce = async (trustedAtBegin: boolean) => {
  let trusted = true
  const seen: Array<string> = []
  const transaction: Transaction = { client: null, sql: null, faultOf: () => null }
  const execution = {
    env: {
      leaseTrusted: () => trusted,
      random: () => 0,
      transact: ({ use }: { readonly use: (given: Transaction) => Effect.Effect<unknown> }) =>
        Effect.suspend(() => {
          trusted = trustedAtBegin
          return use(transaction)
        }),
    },
    stop: (end: ExecutionEnd) => seen.push(end._tag),
  } as unknown as Execution
  const operation = paying(() => {
    seen.push("body")
    return Effect.interrupt
  })
  const attempt = {} as StepAttempt
  const issued = {} as Issued
  const once = inTransaction({ execution, issued, operation, attempt, hold: () => null })
  await Effect.runPromiseExit(once)
  return seen
}

it("no body begins in a transaction that began when the lease was trusted no more", async () => {
  expect(await tryOnce(false)).toEqual(["lost"])
  expect(await tryOnce(true)).toEqual(["body"])
})

type Told = "conflict" | "nothing" | "dies" | "committed"

/** A step whose commits, and then looks for its record, are answered so; what was done, in order. */
const played = async (commits: ReadonlyArray<Told>, looks: ReadonlyArray<Told>) => {
  const seen: Array<string> = []
  const transaction: Transaction = { client: null, sql: null, faultOf: () => null }
  const committed = { _tag: "committed" }
  const unavailable = (outcome: "unknown" | "not-applied", reason: string) =>
    Effect.fail(new StoreUnavailable({ operation: "transact", outcome, reason }))
  const [answers, found] = [[...commits], [...looks]]
  const execution = {
    env: {
      leaseTrusted: () => true,
      random: () => 0,
      transact: ({ use }: { readonly use: (given: Transaction) => Effect.Effect<unknown> }) =>
        Effect.flatMap(use(transaction), () => {
          const told = answers.shift()
          if (told === "committed") return Effect.succeed(committed)
          return told === "conflict"
            ? unavailable("not-applied", "40001: could not serialize")
            : unavailable("unknown", "no answer")
        }),
      transactionOutcome: () => {
        const told = found.shift()
        seen.push("look")
        if (told === "dies") return Effect.die(new Error("the driver broke"))
        return told === "nothing"
          ? unavailable("unknown", "no answer")
          : Effect.succeed(told === "committed" ? committed : null)
      },
    },
    reserve: () => {
      seen.push("place")
      return {
        record: {},
        committed: () => seen.push("stands"),
        dropped: () => seen.push("given back"),
      }
    },
  } as unknown as Execution
  const operation = paying(() => Effect.succeed({ codec: "json", json: "1" }))
  const hold = () => () => void seen.push("released")
  const [attempt, issued] = [{} as StepAttempt, {} as Issued]
  await Effect.runPromise(inTransaction({ execution, issued, operation, attempt, hold }))
  return seen
}

/** A step whose store dies so often before it begins the transaction: how it ended, and its tries. */
const dying = async (times: number) => {
  let begun = 0
  const transaction: Transaction = { client: null, sql: null, faultOf: () => null }
  const execution = {
    env: {
      leaseTrusted: () => true,
      random: () => 0,
      transact: ({ use }: { readonly use: (given: Transaction) => Effect.Effect<unknown> }) =>
        Effect.suspend(() =>
          ++begun > times
            ? Effect.as(use(transaction), { _tag: "committed" })
            : Effect.die(new Error("the driver broke")),
        ),
    },
    reserve: () => ({ record: {}, committed: () => undefined }),
  } as unknown as Execution
  const operation = paying(() => Effect.succeed({ codec: "json", json: "1" }))
  const hold = () => () => undefined
  const [attempt, issued] = [{} as StepAttempt, {} as Issued]
  const once = inTransaction({ execution, issued, operation, attempt, hold })
  const ended = await Effect.runPromise(
    Effect.match(once, {
      onSuccess: ({ json }) => json,
      onFailure: ({ error, retryable }) => `${error.message}, ${String(retryable)}`,
    }),
  )
  return { ended, begun }
}

it("a store that dies before the commit costs no try, unless it does so again and again", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "setInterval", "performance", "Date"] })
  try {
    const passing = dying(3)
    await vi.advanceTimersByTimeAsync(20_000)
    expect(await passing).toEqual({ ended: "1", begun: 4 })
    const lasting = dying(100)
    await vi.advanceTimersByTimeAsync(20_000)
    expect(await lasting).toEqual({ ended: "the driver broke, true", begun: 10 })
  } finally {
    vi.useRealTimers()
  }
})

it("a transaction that failed gives its place in the order back before it is begun again", async () => {
  expect(await played(["conflict", "committed"], [])).toEqual([
    "place",
    "given back",
    "released",
    "place",
    "stands",
  ])
})

it("a commit that was not answered is asked for until it is known, and not done again", async () => {
  expect(await played(["nothing"], ["nothing", "dies", "committed"])).toEqual([
    "place",
    "look",
    "look",
    "look",
    "stands",
  ])
})
