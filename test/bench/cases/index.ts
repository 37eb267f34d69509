/** All cases, in the order in which they are measured. */
import type { Case } from "../model.ts"
import { w1 } from "./w1.ts"
import { w10 } from "./w10.ts"
import { w1b } from "./w1b.ts"
import { w1c } from "./w1c.ts"
import { w2 } from "./w2.ts"
import { w3 } from "./w3.ts"
import { w4 } from "./w4.ts"
import { w5 } from "./w5.ts"
import { w6 } from "./w6.ts"
import { w7 } from "./w7.ts"
import { w8 } from "./w8.ts"
import { w9 } from "./w9.ts"

export const cases: ReadonlyArray<Case> = [w1, w1b, w1c, w2, w3, w4, w5, w10, w9, w6, w7, w8]
