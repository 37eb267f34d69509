/** Waiting for no longer than a caller said. */
import { expect, it, vi } from "vitest"
import { withinDeadline } from "../../src/promise/deadline.ts"

const late = () => new Error("late")
const soon = () => new Promise<void>((resolve) => setTimeout(resolve, 20))

it("a deadline that is further than a timer can be does not pass at once", async () => {
  await withinDeadline(soon(), 36_525 * 86_400_000, late)
})

it("a deadline that has passed rejects, and one that was kept leaves no timer", async () => {
  const never = new Promise<void>(() => undefined)
  await expect(withinDeadline(never, 5, late)).rejects.toThrow("late")
  vi.useFakeTimers()
  await withinDeadline(Promise.resolve(), 60_000, late)
  await expect(withinDeadline(Promise.reject(new Error("no")), 60_000, late)).rejects.toThrow("no")
  const left = vi.getTimerCount()
  vi.useRealTimers()
  expect(left).toBe(0)
})
