/**
 * Ids of runs as users write them: some languages print UUIDs in capitals.
 */
import { validate as isUuid } from "uuid"

/** As Postgres prints it, which is how every store knows it. What is no id stays what it is. */
export const runId = (id: string): string => (isUuid(id) ? id.toLowerCase() : id)
