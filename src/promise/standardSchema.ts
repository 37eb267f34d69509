/**
 * Standard Schema (Zod, Valibot, ArkType, Effect …) in the promise API.
 *
 * The raw value is stored; what a schema makes of it is made anew at each reading, so a schema that
 * transforms is never applied to its own result.
 */
import * as Effect from "effect/Effect"
import { invalid } from "./FlowlyError.ts"

/**
 * The part of the Standard Schema specification (version 1) that is used here.
 */
export interface StandardSchema<out Output = unknown> {
  readonly "~standard": {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => StandardResult<any> | Promise<StandardResult<any>>
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined
  }
}

/**
 * What a validation answers.
 */
export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | {
      readonly issues: ReadonlyArray<{
        readonly message: string
        readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined
      }>
    }

/**
 * Throws unless the value is a Standard Schema.
 */
export const checkSchema = (value: unknown, field: string): void => {
  const standard = (value as Partial<StandardSchema> | null)?.["~standard"]
  if (typeof standard?.validate !== "function") {
    throw invalid(field, "must be a Standard Schema (zod, valibot, arktype, effect …)")
  }
}

/** Why a schema refuses a value, and where. */
interface Refusal {
  readonly path: string
  readonly reason: string
}

/**
 * What the schema makes of a value; fails with its first issues, each with its path. An `Exit` where the
 * schema answers at once, as nearly all do.
 */
export const validate = <A>(
  schema: StandardSchema<A>,
  value: unknown,
): Effect.Effect<A, Refusal> => {
  try {
    const answer: StandardResult<A> | Promise<StandardResult<A>> =
      schema["~standard"].validate(value)
    if (!("then" in answer)) return judged(answer)
    const later = Promise.resolve(answer)
    // it may be rejected before the effect is run
    later.catch(() => undefined)
    return Effect.flatMap(Effect.tryPromise({ try: () => later, catch: thrown }), judged)
  } catch (error) {
    return Effect.fail(thrown(error))
  }
}

const thrown = (error: unknown): Refusal => ({ path: "$", reason: String(error) })

const judged = <A>(result: StandardResult<A>): Effect.Effect<A, Refusal> => {
  if (result.issues === undefined) return Effect.succeed(result.value)
  const [first] = result.issues
  const reason = result.issues
    .slice(0, 3)
    .map((issue) => `${pathOf(issue.path)}: ${issue.message}`)
    .join("; ")
  return Effect.fail({ path: pathOf(first?.path), reason })
}

const pathOf = (
  path: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined,
): string =>
  (path ?? []).reduce<string>((text, part) => {
    const key = typeof part === "object" ? part.key : part
    return typeof key === "number" ? `${text}[${key}]` : `${text}.${String(key)}`
  }, "$")
