/**
 * Every invariant of the simulation. I1 to I18 are those of the catalogue that one process without
 * Postgres can show; I19 and I20 are promises 11 and 12 of the design; the others are its mechanisms.
 */
import type { Invariant } from "../scene.ts"
import { I1 } from "./I01-one-run-per-key.ts"
import { I2 } from "./I02-all-end.ts"
import { I3 } from "./I03-one-claim.ts"
import { I4 } from "./I04-remembered-once.ts"
import { I5 } from "./I05-never-again.ts"
import { I6 } from "./I06-bounded-tries.ts"
import { I7 } from "./I07-once-outside.ts"
import { I8 } from "./I08-published-transitions.ts"
import { I9 } from "./I09-as-predicted.ts"
import { I10 } from "./I10-sleeps-last.ts"
import { I11 } from "./I11-ticks-once.ts"
import { I12 } from "./I12-undone-in-reverse.ts"
import { I13 } from "./I13-nobody-stranded.ts"
import { I14 } from "./I14-no-blame.ts"
import { I15 } from "./I15-nothing-left.ts"
import { I18 } from "./I18-no-secrets.ts"
import { I19 } from "./I19-crashes-are-crashes.ts"
import { I20 } from "./I20-replay-is-the-same.ts"
import { I21 } from "./I21-limits-hold.ts"
import { I22 } from "./I22-heard-as-it-ended.ts"
import { I23 } from "./I23-defects-pass.ts"
import { I24 } from "./I24-requests-are-heard.ts"
import { I25 } from "./I25-forks-have-the-past.ts"

export const invariants: ReadonlyArray<Invariant> = [
  I1,
  I2,
  I3,
  I4,
  I5,
  I6,
  I7,
  I8,
  I9,
  I10,
  I11,
  I12,
  I13,
  I14,
  I15,
  I18,
  I19,
  I20,
  I21,
  I22,
  I23,
  I24,
  I25,
]
