/**
 * Bugs to plant: each is an edit of `src`, made in a copy. The suite is as good as what it finds of
 * these.
 */
import { journalMutants } from "./journal.ts"
import { leasesMutants } from "./leases.ts"
import { postgresMutants } from "./postgres.ts"
import { replayMutants } from "./replay.ts"
import { requestsMutants } from "./requests.ts"
import { stepsMutants } from "./steps.ts"
import { undoingMutants } from "./undoing.ts"
import type { Mutant } from "./mutant.ts"

export type { Mutant } from "./mutant.ts"

export const mutants: ReadonlyArray<Mutant> = [
  ...leasesMutants,
  ...journalMutants,
  ...replayMutants,
  ...stepsMutants,
  ...undoingMutants,
  ...requestsMutants,
  ...postgresMutants,
]
