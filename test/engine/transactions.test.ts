import * as Effect from "effect/Effect"
import { expect, it } from "vitest"
import type { Execution, ExecutionEnd, Issued } from "../../src/engine/Execution.ts"
import type { StepAttempt, StepOperation } from "../../src/engine/Operation.ts"
import { inTransaction } from "../../src/engine/transactions.ts"
import { none } from "../../src/RetryPolicy.ts"
import type { Transaction } from "../../src/WorkflowStore.ts"

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
  const operation: StepOperation = {
    kind: "step",
    name: "pay",
    retry: none,
    timeoutMs: null,
    undo: null,
    transaction: { isolation: null },
    run: () => {
      seen.push("body")
      return Effect.interrupt
    },
  }
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
