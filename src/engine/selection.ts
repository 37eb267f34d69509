/**
 * Which runs are meant, as users say it, checked.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { validate as isUuid } from "uuid"
import { readAgain } from "./readAgain.ts"
import { runId } from "./runId.ts"
import { type Attributes, check as checkAttributes } from "../Attributes.ts"
import { InvalidInput } from "../FlowlyError.ts"
import { checkName } from "../Name.ts"
import { type RunStatus, statuses } from "../Run.ts"
import type { RunRow, RunSelection, StoreError, WorkflowStore } from "../WorkflowStore.ts"

/**
 * Which runs are meant: those that fulfil all that is given.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunFilter {
  readonly workflow?: string | undefined
  readonly status?: RunStatus | ReadonlyArray<RunStatus> | undefined
  /** Children of this run. */
  readonly parentRunId?: string | undefined
  readonly idempotencyKey?: string | undefined
  readonly concurrencyKey?: string | undefined
  /** Equal to each of these. */
  readonly attributes?: Attributes | undefined
  /** Created at this instant or later. */
  readonly createdFrom?: Date | undefined
  /** Created before this instant. */
  readonly createdBefore?: Date | undefined
}

const invalid = (field: string, reason: string) => Result.fail(new InvalidInput({ field, reason }))

const names: ReadonlyArray<string> = [
  "workflow",
  "status",
  "parentRunId",
  "idempotencyKey",
  "concurrencyKey",
  "attributes",
  "createdFrom",
  "createdBefore",
]

const timeOf = (date: unknown, field: string): Result.Result<number | null, InvalidInput> => {
  if (date === undefined) return Result.succeed(null)
  const time = date instanceof Date ? date.getTime() : Number.NaN
  return Number.isNaN(time) ? invalid(field, "must be a valid date") : Result.succeed(time)
}

/**
 * The selection of a filter, or what is wrong with it. `some`: an empty one is wrong, too.
 */
export const checkFilter = (
  filter: RunFilter,
  options?: { readonly some: boolean },
): Result.Result<RunSelection, InvalidInput> =>
  Result.gen(function* () {
    if (typeof filter !== "object" || filter === null) {
      return yield* invalid("filter", "must be an object")
    }
    const given = Object.entries(filter).filter(([, value]) => value !== undefined)
    const strange = given.find(([name]) => !names.includes(name))
    // a misspelt field would select more than was meant
    if (strange !== undefined)
      return yield* invalid(`filter.${strange[0].slice(0, 80)}`, "is not known")
    if (options?.some === true && given.length === 0) {
      return yield* invalid("filter", `must name at least one of ${names.join(", ")}`)
    }
    for (const name of ["workflow", "idempotencyKey", "concurrencyKey"] as const) {
      const value: unknown = filter[name]
      // nothing has the empty name: a filter may ask for it
      if (value !== undefined && value !== "") yield* checkName(value, `filter.${name}`)
    }
    const { status, parentRunId, attributes } = filter
    if (parentRunId !== undefined && !isUuid(parentRunId)) {
      return yield* invalid("filter.parentRunId", "must be the id of a run")
    }
    const list = typeof status === "string" ? [status] : (status ?? null)
    if (list !== null && !(Array.isArray(list) && list.length <= statuses.length)) {
      return yield* invalid(
        "filter.status",
        `must be a status, or an array of at most the ${statuses.length} that there are` +
          (Array.isArray(list) ? `, not of ${list.length}` : ""),
      )
    }
    const unknown = list?.find((one) => !statuses.includes(one))
    if (unknown !== undefined) {
      const known = statuses.join(", ")
      return yield* invalid(
        "filter.status",
        `"${String(unknown).slice(0, 80)}" is not one of ${known}`,
      )
    }
    return {
      statuses: list,
      workflow: filter.workflow ?? null,
      parentRunId: parentRunId === undefined ? null : runId(parentRunId),
      idempotencyKey: filter.idempotencyKey ?? null,
      concurrencyKey: filter.concurrencyKey ?? null,
      attributes:
        attributes === undefined ? null : yield* checkAttributes(attributes, "filter.attributes"),
      createdFrom: yield* timeOf(filter.createdFrom, "filter.createdFrom"),
      createdBefore: yield* timeOf(filter.createdBefore, "filter.createdBefore"),
    }
  })

/**
 * A page of runs: at most `limit` (100 unless given, at most 1,000), before the last id of the page
 * before.
 *
 * @category models
 * @since 0.1.0
 */
export interface PageOptions {
  readonly before?: string | undefined
  readonly limit?: number | undefined
}

const checkPage = (
  page: PageOptions | undefined,
): Result.Result<{ readonly before: string | null; readonly limit: number }, InvalidInput> => {
  const { before, limit = 100 } = page ?? {}
  if (before !== undefined && !isUuid(before)) return invalid("before", "must be the id of a run")
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
    return invalid("limit", "must be a whole number from 1 to 1000")
  }
  return Result.succeed({ before: before === undefined ? null : runId(before), limit })
}

/**
 * Reading runs, as the `Engine` does it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reading {
  /** Newest first. */
  readonly listRuns: (
    filter?: RunFilter,
    page?: PageOptions,
  ) => Effect.Effect<ReadonlyArray<RunRow>, InvalidInput | StoreError>
  /** How many runs there are. Counts them: of many, it takes its time. */
  readonly count: (filter?: RunFilter) => Effect.Effect<number, InvalidInput | StoreError>
}

/**
 * Reading runs from a store.
 */
export const makeReading = (store: WorkflowStore["Service"]): Reading => ({
  listRuns: (filter = {}, page) =>
    Effect.gen(function* () {
      const selection = yield* Effect.fromResult(checkFilter(filter))
      const { before, limit } = yield* Effect.fromResult(checkPage(page))
      return yield* readAgain(store, store.listRuns({ ...selection, before, limit }))
    }),
  count: (filter = {}) =>
    Effect.flatMap(Effect.fromResult(checkFilter(filter)), (selection) =>
      readAgain(store, store.countRuns(selection)),
    ),
})
