/** When bodies are at rest. */
import { expect, it, vi } from "vitest"
import { Rest } from "../../src/engine/rest.ts"

it("who breaks when its body is at rest is told of alone: the others are answered", async () => {
  const real = queueMicrotask
  const broken: Array<unknown> = []
  vi.stubGlobal("queueMicrotask", (task: () => void) =>
    real(() => {
      try {
        task()
      } catch (error) {
        broken.push(error)
      }
    }),
  )
  try {
    const error = new Error("a bug")
    let answered = false
    new Rest().whenAtRest(() => {
      throw error
    })
    new Rest().whenAtRest(() => {
      answered = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect([answered, broken]).toEqual([true, [error]])
  } finally {
    vi.unstubAllGlobals()
  }
})
