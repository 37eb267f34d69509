/**
 * Plants the bugs of `bugs.ts` and plays the differential test until it shows a difference; prints which
 * sequence did. `node test/store/differential/plant.ts [name …]`; `FLOWLY_SEQUENCES` bounds them.
 */
import { plantEach } from "../../support/planting.ts"
import { bugs } from "./bugs.ts"

plantEach({
  bugs,
  test: "test/store/differential.pg.test.ts",
  env: { FLOWLY_SEQUENCES: process.env["FLOWLY_SEQUENCES"] ?? "200", FLOWLY_SHRINK_MS: "0" },
  verdict: (output) => {
    const found = /FLOWLY_SEED=\d+, sequence (\d+): (.*?)( differ|$)/m.exec(output)
    return found === null ? null : `${found[1]} (${found[2]?.slice(0, 50)})`
  },
})
