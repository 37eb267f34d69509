/**
 * Tokens: text that nobody can guess, and with which one wait of one run can be resolved from
 * anywhere. A token carries its run's id in the open, and 32 random bytes.
 *
 * A token is worth what its record is worth: it resolves nothing unless its run has recorded it, so
 * a forged one leaves no row behind. What resolves it is an event of a reserved name with a reserved
 * id: the first one wins, and whatever holds for events holds for tokens.
 */
import { randomBytes } from "node:crypto"
import { validate as isUuid } from "uuid"
import { reservedPrefix } from "../Name.ts"

/** The name, and the sender's id, of the event that resolves the token with this step key. */
export const eventOfToken = (stepKey: string): string => `${reservedPrefix}token:${stepKey}`

/** A new token of a run. */
export const newToken = (workflowRunId: string): string =>
  `${workflowRunId.replaceAll("-", "")}.${randomBytes(32).toString("base64url")}`

/** The run that a token speaks of; `null`: this is no token. */
export const runOfToken = (token: unknown): string | null => {
  if (typeof token !== "string" || !/^[0-9a-f]{32}\.[\w-]{43}$/.test(token)) return null
  const id = token.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5")
  return isUuid(id) ? id : null
}
