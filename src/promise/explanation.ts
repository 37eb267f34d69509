/**
 * Why a run does not move: the engine's answer, with dates and errors.
 */
import type { Revive, StoredError } from "../ErrorPayload.ts"
import type { Explanation, WaitingFor } from "../engine/explain.ts"
import { errorOf } from "./FlowlyError.ts"

/** Times that are numbers in the engine's answer. */
type TimeField = "now" | "at" | "until" | "since" | "completedAt" | "heartbeatAt" | "leaseExpiresAt"

type Readable<A> = A extends StoredError
  ? unknown
  : A extends ReadonlyArray<infer B>
    ? ReadonlyArray<Readable<B>>
    : A extends object
      ? {
          readonly [K in keyof A]: K extends TimeField
            ? Exclude<A[K], number> | Date
            : K extends "error" | "reason"
              ? unknown
              : Readable<A[K]>
        }
      : A

/**
 * Something that a run waits for.
 */
export type RunWaitsFor = Readable<WaitingFor>

/**
 * Why a run does not move. `summary` is the answer as one line; `_tag` tells what else there is.
 */
export type RunExplanation = Readable<Explanation>

const times: ReadonlySet<string> = new Set<TimeField>([
  "now",
  "at",
  "until",
  "since",
  "completedAt",
  "heartbeatAt",
  "leaseExpiresAt",
])

/**
 * The engine's answer for the reader.
 */
export const toRunExplanation = (explanation: Explanation, revive?: Revive): RunExplanation =>
  readable(explanation, revive) as RunExplanation

const readable = (value: unknown, revive: Revive | undefined): unknown => {
  if (Array.isArray(value)) return value.map((one) => readable(one, revive))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, one]: [string, unknown]) => {
      if (times.has(key) && typeof one === "number") return [key, new Date(one)]
      if (key === "error" || key === "reason") {
        return [key, one === null ? null : errorOf(one as StoredError, revive)]
      }
      return [key, readable(one, revive)]
    }),
  )
}
