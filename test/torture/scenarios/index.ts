/** Every scenario of level C, in the order of the catalogue. */
import type { Scenario } from "../scenario.ts"
import { S6, S7 } from "./connections.ts"
import { S4, S5 } from "./processes.ts"
import { S9 } from "./servers.ts"
import { S21 } from "./soak.ts"

export const scenarios: ReadonlyArray<Scenario> = [S4, S5, S6, S7, S9, S21]
