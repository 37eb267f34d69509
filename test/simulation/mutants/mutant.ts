/** A bug to plant: an edit of `src`, made in a copy. */

/** One bug. Each text must stand in its file exactly once. */
export interface Mutant {
  readonly name: string
  /** What it breaks, in a sentence. */
  readonly breaks: string
  readonly edits: ReadonlyArray<{
    readonly file: string
    readonly find: string
    readonly replace: string
  }>
  /**
   * Tests that must fail: instead of seeds where only Postgres can show it ("integration"), else where
   * no seed has.
   */
  readonly tests?: {
    readonly project: "unit" | "integration"
    readonly files: ReadonlyArray<string>
  }
}

/** A bug of one edit. */
export const mutant = (
  name: string,
  breaks: string,
  file: string,
  find: string,
  replace: string,
): Mutant => ({ name, breaks, edits: [{ file, find, replace }] })
