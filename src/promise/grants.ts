/**
 * What the database roles of a deployment may do.
 */
import { type GrantOptions, grantStatements } from "../postgres/grants.ts"
import { orThrow } from "./FlowlyError.ts"

/**
 * The GRANT statements for the owner of the tables to run after `migrate`. The worker gets rows, and
 * no right to create or alter anything; the reader looks, payloads included.
 */
export const grants = (options: GrantOptions): string => orThrow(grantStatements(options))
