/** What a body publishes is held back while it replays, and passed on once, the last word of each. */
import { expect, it } from "vitest"
import { Published } from "../../src/engine/published.ts"

it("nothing is passed on before the history is used up: a replay that ends early sets none back", () => {
  const published = new Published()
  published.set({ "": "one", step: 1 })
  expect([published.waits(), published.take()]).toEqual([false, undefined])
  published.set({ "": "two" })
  published.open()
  expect(published.waits()).toBe(true)
  expect(published.take()).toEqual({ "": "two", step: 1 })
})

it("what was passed on is not passed on again", () => {
  const published = new Published()
  published.open()
  published.set({ step: 1 })
  published.take()
  expect([published.waits(), published.take()]).toEqual([false, undefined])
})
