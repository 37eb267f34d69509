/** Plants the bugs of `bugs.ts`: which histories find each. `node test/goldens/plant.ts [name …]`. */
import { plantEach } from "../support/planting.ts"
import { bugs } from "./bugs.ts"

plantEach({
  bugs,
  test: "test/goldens/goldens.test.ts",
  verdict: (output) => {
    const failed = [...output.matchAll(/^ *FAIL .*goldens\.test\.ts > (.*)$/gm)].map(
      ([, claim]) => claim!,
    )
    if (failed.length === 0) return null
    const first = failed[0]!.split(" > ").at(-1)
    return `${failed.length} histories, such as "${first}"`
  },
})
