/** Every invariant of the simulation. */
import type { Invariant } from "../scene.ts"
import { I2 } from "./I02-all-end.ts"
import { I5 } from "./I05-never-again.ts"
import { I9 } from "./I09-as-predicted.ts"

export const invariants: ReadonlyArray<Invariant> = [I2, I5, I9]
