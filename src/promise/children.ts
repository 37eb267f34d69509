/**
 * The children of `ctx`, and its bounded fan-out.
 */
import * as Effect from "effect/Effect"
import type { ChildOperation } from "../engine/Operation.ts"
import { anyValue } from "../engine/values.ts"
import type { PayloadTooLarge, SerializationError } from "../FlowlyError.ts"
import { checkName } from "../Name.ts"
import { invalid, orThrow } from "./FlowlyError.ts"
import { checkKnown, type Names, optionOf } from "./knownOptions.ts"
import { checkWorkflow } from "./options.ts"
import { checkAttempts, checkPositive } from "./step.ts"
import type { WorkflowDefinition } from "./workflow.ts"

/**
 * How a child is run.
 */
export interface ChildOptions {
  /** The child's step key. Default: the workflow's name. */
  readonly name?: string | undefined
  readonly timeoutMs?: number | undefined
  readonly maxAttempts?: number | undefined
  /**
   * What becomes of the child if it is open when its parent ends, in whatever way: it is cancelled, or
   * lives on. Default "cancel".
   */
  readonly onParentClose?: "cancel" | "abandon" | undefined
}

/**
 * A child that was started.
 */
export interface ChildHandle<O> {
  readonly workflowRunId: string
  /** Waits for the child, as `ctx.child` does. */
  readonly result: () => Promise<O>
}

/**
 * The arguments of `ctx.child`: a definition, its input, options.
 */
export type ChildArguments<I> = undefined extends I
  ? [input?: I, options?: ChildOptions]
  : [input: I, options?: ChildOptions]

const childNames: Names<ChildOptions> = {
  name: true,
  timeoutMs: true,
  maxAttempts: true,
  onParentClose: true,
}

const mapNames = { concurrency: true } as const

/**
 * A child as an operation. Throws what is wrong with it.
 */
export const childOperation = <I, O>(
  parent: string,
  definition: WorkflowDefinition<I, O>,
  input: unknown,
  options: ChildOptions | undefined,
): Effect.Effect<ChildOperation, SerializationError | PayloadTooLarge> => {
  checkWorkflow(definition, `child of "${parent}"`)
  checkKnown(options, childNames, optionOf(`child of "${parent}"`))
  const name = orThrow(checkName(options?.name ?? definition.name, "child name"))
  const { onParentClose = "cancel" } = options ?? {}
  if (onParentClose !== "cancel" && onParentClose !== "abandon") {
    throw invalid(`onParentClose of child "${name}"`, 'must be "cancel" or "abandon"')
  }
  const timeoutMs = checkPositive(options?.timeoutMs, `timeoutMs of child "${name}"`)
  const maxAttempts = checkAttempts(options?.maxAttempts, `maxAttempts of child "${name}"`)
  return Effect.map(anyValue.encode(input, `input of child "${name}"`), (encoded) => ({
    kind: "child",
    startedAs: null,
    onParentClose,
    name,
    workflow: definition.name,
    version: definition.version,
    input: encoded,
    timeoutMs,
    maxAttempts,
  }))
}

/**
 * Calls `fn` for each item, at most so many at once, in order of the items; answers the results in that
 * order. After the first error it begins no further item. Nothing of it is recorded but what `fn` asks
 * for, and it is deterministic as far as `fn` is.
 */
export const mapBounded = async <T, R>(
  items: Iterable<T>,
  fn: (item: T, index: number) => Promise<R> | R,
  options?: { readonly concurrency?: number | undefined },
): Promise<Array<R>> => {
  checkKnown(options, mapNames, optionOf("map"))
  const { concurrency } = options ?? {}
  if (typeof fn !== "function") throw invalid("map", "needs a function")
  if (concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 1)) {
    throw invalid("concurrency of map", "must be a whole number of at least 1")
  }
  const all = [...items]
  const results: Array<R> = []
  let next = 0
  let failed = false
  const lane = async (): Promise<void> => {
    while (next < all.length && !failed) {
      const index = next++
      try {
        // oxlint-disable-next-line no-await-in-loop -- a lane that did not wait would begin more than `concurrency` allows
        results[index] = await fn(all[index] as T, index)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency ?? all.length, all.length) }, lane))
  return results
}
