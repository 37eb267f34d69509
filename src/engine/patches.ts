/**
 * Patches: new code under running runs.
 *
 * A body asks `patched(id)` where its code has changed. A run that comes here for the first time
 * takes the new code, and has this recorded before the body hears it. A run whose record says so
 * takes it again. A run that had gone past this point with the old code shows it: at rest, the body
 * stands at the patch, and the history has something that it has not asked for. It keeps the old
 * code. That answer is not recorded, for what gives it remains in the history, and gives it again.
 *
 * The first answer is the answer for the whole run: two places that ask for one patch agree.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Execution, Issued } from "./Execution.ts"
import type { Outcome } from "./Operation.ts"

/**
 * The patches that a body has asked for.
 */
export interface Patches {
  /** Not to be called when the execution has stopped. */
  readonly ask: (id: string) => Effect.Effect<boolean>
}

/**
 * One for each execution of a body.
 */
export const makePatches = (execution: Execution): Patches => {
  const asked = new Map<string, Deferred.Deferred<boolean>>()
  return {
    ask: (id) =>
      Effect.suspend(() => {
        const known = asked.get(id)
        if (known !== undefined) return Deferred.await(known)
        const answer = Deferred.makeUnsafe<boolean>()
        asked.set(id, answer)
        // never abandoned: who asked first may be gone when others want to know
        execution.issue({ kind: "patch", name: `patch:${id}` }, ({ outcome }) =>
          Deferred.doneUnsafe(answer, Effect.succeed(isTaken(outcome))),
        )
        return Deferred.await(answer)
      }),
  }
}

/**
 * The outcome of a patch: whether the run takes its new code.
 */
export const takesPatch = (taken: boolean): Outcome => ({
  _tag: "Success",
  result: { codec: "json", json: String(taken) },
})

const isTaken = (outcome: Outcome): boolean =>
  outcome._tag === "Success" && outcome.result?.json === "true"

/**
 * The first patch that was asked for and neither stands in the history nor is being recorded.
 */
export const undecidedPatch = (execution: Execution): Issued | null => {
  for (const issued of execution.open) {
    const { operation, phase, key } = issued
    if (operation.kind !== "patch" || phase !== "unstarted") continue
    if (!execution.records.has(key)) return issued
  }
  return null
}
