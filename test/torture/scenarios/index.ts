/** Every scenario of level C, in the order of the catalogue. */
import type { Scenario } from "../scenario.ts"

export const scenarios: ReadonlyArray<Scenario> = []
