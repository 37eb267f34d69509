/** Whether two types are the same, neither wider nor narrower. */
export type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** `same<A, B>(true)` compiles where they are. */
export const same = <A, B>(is: Same<A, B>): boolean => is
