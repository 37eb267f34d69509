/** What happened, in order: one line an event, for a reader; and for telling two runs apart. */
import { createHash } from "node:crypto"
import type { Machine, Process } from "./machine.ts"

export class Timeline {
  readonly lines: Array<string> = []
  readonly #machine: Machine
  readonly #names = new Map<string, string>()

  constructor(machine: Machine) {
    this.#machine = machine
  }

  add(process: Process, text: string): void {
    this.lines.push(
      `${this.#machine.now.toFixed(3).padStart(12)}  ${process.name.padEnd(8)} ${text}`,
    )
  }

  /** A short name for an id. */
  name(id: string | null, prefix = "run"): string {
    if (id === null) return "nobody"
    const known = this.#names.get(id)
    if (known !== undefined) return known
    const name = `${prefix}${this.#names.size + 1}`
    this.#names.set(id, name)
    return name
  }

  /** The same for the same events. */
  fingerprint(): string {
    const hash = createHash("sha256")
    for (const line of this.lines) hash.update(line).update("\n")
    return hash.digest("hex").slice(0, 16)
  }

  /** The last lines that tell of a run, or all. */
  tail(count: number, about: string | null = null): ReadonlyArray<string> {
    const word = about === null ? null : new RegExp(`\\b${about}\\b`)
    const told = word === null ? this.lines : this.lines.filter((line) => word.test(line))
    return told.slice(-count)
  }
}
