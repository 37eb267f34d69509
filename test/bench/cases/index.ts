/** All cases, in the order in which they are measured. */
import type { Case } from "../model.ts"
import { w1 } from "./w1.ts"
import { w3 } from "./w3.ts"

export const cases: ReadonlyArray<Case> = [w1, w3]
