/** Every scenario of level C, in the order of the catalogue. */
import type { Scenario } from "../scenario.ts"
import { S21b } from "./atRest.ts"
import { commitCut } from "./commitCut.ts"
import { S6, S7 } from "./connections.ts"
import { cron } from "./cron.ts"
import { failover } from "./failover.ts"
import { longSnapshot } from "./longSnapshot.ts"
import { migrationStorm } from "./migrationStorm.ts"
import { poison } from "./poison.ts"
import { poolSizes } from "./poolSizes.ts"
import { pooler } from "./pooler.ts"
import { S4, S5 } from "./processes.ts"
import { S9 } from "./servers.ts"
import { shutdown } from "./shutdown.ts"
import { S21 } from "./soak.ts"
import { starvation } from "./starvation.ts"
import { versions } from "./versions.ts"

export const scenarios: ReadonlyArray<Scenario> = [
  S4,
  S5,
  S6,
  S7,
  commitCut,
  S9,
  failover,
  migrationStorm,
  cron,
  starvation,
  poolSizes,
  longSnapshot,
  poison,
  versions,
  shutdown,
  S21,
  S21b,
  pooler,
]
