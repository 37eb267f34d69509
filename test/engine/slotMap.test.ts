/** A map that keeps its values out of the hash table answers as a `Map` does. */
import fc from "fast-check"
import { expect, it } from "vitest"
import { SlotMap } from "../../src/engine/SlotMap.ts"

const changes = fc.array(
  fc.oneof(
    fc.record({ verb: fc.constant("set" as const), key: fc.nat(9), value: fc.nat() }),
    fc.record({ verb: fc.constant("delete" as const), key: fc.nat(9) }),
  ),
  { maxLength: 60 },
)

it("after any changes it holds what a Map holds, in its order", () => {
  fc.assert(
    fc.property(changes, (all) => {
      const slots = new SlotMap<number, number>()
      const map = new Map<number, number>()
      const apply = (to: { set(k: number, v: number): unknown; delete(k: number): boolean }) =>
        all.map((one) =>
          one.verb === "delete" ? to.delete(one.key) : void to.set(one.key, one.value),
        )
      expect(apply(slots)).toEqual(apply(map))
      expect([...slots.values()]).toEqual([...map.values()])
      expect(slots.size).toBe(map.size)
      for (let key = 0; key < 10; key++) {
        expect(slots.get(key)).toBe(map.get(key))
        expect(slots.has(key)).toBe(map.has(key))
      }
    }),
  )
})

it("what is deleted while its values are read is not read", () => {
  const slots = new SlotMap<string, number>()
  for (const [at, key] of ["a", "b", "c"].entries()) slots.set(key, at)
  const read: Array<number> = []
  for (const value of slots.values()) {
    read.push(value)
    slots.delete("b")
  }
  expect(read).toEqual([0, 2])
})
