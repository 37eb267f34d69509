/**
 * What a body publishes (attributes, a status text), on its way to the store.
 *
 * A replayed body says again what it said before: nothing is passed on until the history is used up,
 * and then the last word only, so that the world never sees the run go backwards. From then on it
 * travels with the run's next write, or with one of its own.
 */
import type { Attributes } from "../Attributes.ts"

export class Published {
  #pending: Map<string, Attributes[string]> | null = null
  #isOpen = false

  set(values: Attributes): void {
    for (const [name, value] of Object.entries(values)) {
      ;(this.#pending ??= new Map()).set(name, value)
    }
  }

  /** The history is used up: what is said from now on is new. */
  open(): void {
    this.#isOpen = true
  }

  /** Whether something waits to be written. */
  waits(): boolean {
    return this.#isOpen && this.#pending !== null
  }

  /** What the next write of the run carries along. */
  take(): Attributes | undefined {
    if (!this.#isOpen || this.#pending === null) return undefined
    const attributes = Object.fromEntries(this.#pending)
    this.#pending = null
    return attributes
  }
}
