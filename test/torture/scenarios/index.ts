/** Every scenario of level C, in the order of the catalogue. */
import type { Scenario } from "../scenario.ts"
import { S4, S5 } from "./processes.ts"

export const scenarios: ReadonlyArray<Scenario> = [S4, S5]
