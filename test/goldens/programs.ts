/** The programs whose histories are golden. */
import { bodies } from "../engine/bodies.ts"
import { childBodies } from "../engine/childBodies.ts"
import { determinismBodies } from "../engine/determinismBodies.ts"
import { effectBodies } from "../engine/effectBodies.ts"
import type { Program } from "../engine/replay.ts"
import { sagaBodies } from "../engine/sagaBodies.ts"
import { stepBodies } from "../engine/stepBodies.ts"
import type { Golden } from "./golden.ts"

interface Recordable {
  readonly api: Golden["api"]
  readonly program: Program
}

const promiseBodies = [
  ...bodies,
  ...determinismBodies,
  ...stepBodies,
  ...sagaBodies,
  ...childBodies,
]

export const programs: ReadonlyArray<Recordable> = [
  ...promiseBodies.map((program) => ({ api: "promise", program }) as const),
  ...effectBodies.map((program) => ({ api: "effect", program }) as const),
]

export const programOf = ({ api, program }: Golden): Program | undefined =>
  programs.find((one) => one.api === api && one.program.name === program)?.program
