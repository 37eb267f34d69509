/**
 * `uuid` for a simulation: ids of the time and the dice of the machine that is switched on; without
 * one, the library's own. (The library keeps the last instant it has seen: a second run of a seed in
 * one process would have other ids than the first.)
 */
import * as real from "uuid"
import { epoch, machineRunning } from "./machine.ts"

type Uuid = typeof real

const bytes = (): Uint8Array =>
  Uint8Array.from({ length: 16 }, () => Math.floor(Math.random() * 256))

/** The library, with the two that would not be the same again replaced. */
export const seeded = (library: Uuid) => ({
  ...library,
  v4: (): string => (machineRunning() === null ? library.v4() : library.v4({ random: bytes() })),
  v7: (): string => {
    const machine = machineRunning()
    if (machine === null) return library.v7()
    machine.lastId = Math.max(machine.lastId + 1, Math.floor(machine.now) * 1000)
    return library.v7({
      random: bytes(),
      msecs: epoch + Math.floor(machine.lastId / 1000),
      seq: machine.lastId % 1000,
    })
  },
})

export const { v4, v5, v7, validate } = seeded(real)
