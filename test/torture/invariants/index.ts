/**
 * Every invariant that is judged when all is quiet. Those of the simulation that look at what stands,
 * whoever played it, are used as they are. (I13 and parts of I16 are watched all the time, I15 when
 * the processes have stopped: `arena.ts`.)
 */
import type { Evidence as Common, Invariant as Shared } from "../../simulation/scene.ts"
import { I1 } from "../../simulation/invariants/I01-one-run-per-key.ts"
import { I2 } from "../../simulation/invariants/I02-all-end.ts"
import { I7 } from "../../simulation/invariants/I07-once-outside.ts"
import { I9 } from "../../simulation/invariants/I09-as-predicted.ts"
import { I12 } from "../../simulation/invariants/I12-undone-in-reverse.ts"
import { I14 } from "../../simulation/invariants/I14-no-blame.ts"
import { I18 } from "../../simulation/invariants/I18-no-secrets.ts"
import { I20 } from "../../simulation/invariants/I20-replay-is-the-same.ts"
import { I3 } from "./I03-one-claim.ts"
import { I4 } from "./I04-remembered-once.ts"
import { I5 } from "./I05-never-again.ts"
import { I6 } from "./I06-bounded-tries.ts"
import { I7Sink } from "./I07-sink.ts"
import { I8 } from "./I08-published-transitions.ts"
import { I10 } from "./I10-sleeps-last.ts"
import { I16 } from "./I16-healthy-server.ts"
import { I26 } from "./I26-lets-go.ts"
import type { Invariant } from "./invariant.ts"

const shared = ({ id, claim, watch }: Shared<Common>): Invariant => ({
  id,
  claim,
  check: (found) => watch(found).atEnd?.(),
})

export const invariants: ReadonlyArray<Invariant> = [
  shared(I1),
  shared(I2),
  I3,
  I4,
  I5,
  I6,
  shared(I7),
  I7Sink,
  I8,
  shared(I9),
  I10,
  shared(I12),
  shared(I14),
  I16,
  shared(I18),
  shared(I20),
  I26,
]
