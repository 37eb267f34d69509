import { expect, it } from "vitest"
import { runProgram } from "./runProgram.ts"

it("a program on the memory store prints nothing, and ends by itself", async () => {
  expect(await runProgram("memory")).toEqual({ code: 0, output: "" })
})
