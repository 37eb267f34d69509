/**
 * The holes of an earlier implementation, and the tests that keep each closed here. The table is
 * itself tested: what it names must exist under that name.
 */
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { expect, it } from "vitest"

type Proof = readonly [file: string, title: string]

const holes: ReadonlyArray<readonly [number: number, hole: string, proofs: ReadonlyArray<Proof>]> =
  [
    [
      1,
      "verbs write by run id alone: a worker that lost its claim still changes the run",
      [
        ["store/conformanceFence.ts", "cannot ${kind.what} and is told so"],
        ["store/conformanceFence.ts", "cannot be released, nor hear signals"],
        ["processes/frozen.pg.test.ts", "records nothing for a run that another has finished"],
      ],
    ],
    [
      2,
      "release always sets pending: a cancelled run comes back to life",
      [
        ["promise/suiteEndings.ts", "does not bring a cancelled run back to life"],
        ["store/postgres-overlap.pg.test.ts", "the sweep must not bring it back"],
      ],
    ],
    [
      3,
      "a crash while compensating strands the run",
      [
        ["store/conformanceWorkers.ts", "a compensating run stays compensating, and is claimed"],
        ["processes/crashes.pg.test.ts", "between two compensations"],
        ["promise/suiteEndings.ts", "goes on after the engine that began it has stopped"],
      ],
    ],
    [
      4,
      "a graceful stop runs compensations",
      [
        ["promise/suiteEndings.ts", "never begins because the engine stops"],
        ["promise/suiteTrigger.ts", "hand runs over when one stops, and no run fails of it"],
        ["processes/stopping.pg.test.ts", "nothing is undone"],
      ],
    ],
    [
      5,
      "a failed step keeps its later success from being stored: it runs on every replay",
      [
        ["promise/suiteEndings.ts", "record a step that succeeds after it had failed"],
        [
          "store/conformanceRecords.ts",
          "of a backoff are replaced by later ones, and by the outcome",
        ],
        ["store/conformanceTransitions.ts", "lets a removed step be recorded anew"],
      ],
    ],
    [
      6,
      "the concurrency key works on the memory store alone",
      [
        [
          "promise/suiteTrigger.ts",
          "is refused while a run of it is active, and free when that has",
        ],
        ["store/conformanceInserts.ts", "admit one active run, until it has ended"],
      ],
    ],
    [
      7,
      "sleeps are timed by the worker's clock",
      [
        ["store/conformanceJournal.ts", "are fixed when first reached, by the store's clock"],
        ["processes/clocks.pg.test.ts", "$name"],
      ],
    ],
    [
      8,
      "a sleep is two updates, with a crash between them",
      [
        ["processes/crashes.pg.test.ts", "while the run sleeps, parked"],
        ["processes/crashes.pg.test.ts", "while the run sleeps in memory"],
      ],
    ],
    [
      9,
      "each worker fires each tick, and a crash between repeats it",
      [
        ["promise/cronTicks.ts", "each tick starts one run, whatever the number of workers"],
        ["promise/cronTicks.pg.test.ts", "a tick, its run and the schedule's advance are one"],
        ["promise/suiteCron.ts", "each tick starts one run with four engines"],
      ],
    ],
    [
      10,
      "children are polled for while they hold their parent's slot, and are created twice",
      [
        ["promise/suiteChildren.ts", "nest with one slot"],
        ["promise/suiteChildren.ts", "are waited for without a slot"],
        ["store/conformanceInserts.ts", "one per parent, step key and attempt of the parent"],
        ["store/conformanceJournal.ts", "that stand already are not started again"],
      ],
    ],
    [
      11,
      "one claim per poll interval, and a poll loop for each notification",
      [
        ["worker/claiming.test.ts", "asks again at once after an answer, and waits only after"],
        ["worker/claiming.test.ts", "a hint of work wakes it"],
      ],
    ],
    [
      12,
      "one failed heartbeat aborts runs, a hung one does not",
      [
        ["worker/lease.test.ts", "is not shortened by a heartbeat that failed"],
        ["worker/lease.test.ts", "a heartbeat that never answers is given up, as a failure"],
      ],
    ],
    [
      13,
      "the timeout sweep fails runs that a live worker owns, which overwrites the verdict",
      [
        ["promise/suiteEndings.ts", "stands, though a deaf step completes after it"],
        ["promise/suiteEndings.ts", "does not undo a run that ended in time, nor end it twice"],
        ["store/conformanceParking.ts", "the run's deadline is part of its due time"],
      ],
    ],
    [
      14,
      "a run that kills its process does so for ever",
      [
        ["processes/poison.pg.test.ts", "dead-letters a run that aborts its process"],
        ["store/conformanceWorkers.ts", "a run at the limit of crashes is dead-lettered"],
      ],
    ],
    [
      15,
      "a drain that times out reports stopped while leases stand and code runs",
      [
        ["promise/suiteEngine.ts", "stop gives a deaf step up after shutdownTimeoutMs"],
        ["processes/stopping.pg.test.ts", "has retired: no live lease of it is left"],
      ],
    ],
  ]

it("there are fifteen", () => {
  expect(holes.map(([number]) => number)).toEqual(Array.from({ length: 15 }, (_, i) => i + 1))
})

it.each(holes)("%i: %s", (_, __, proofs) => {
  expect(proofs.length).toBeGreaterThan(0)
  for (const [file, title] of proofs) {
    const text = readFileSync(path.join(import.meta.dirname, "..", file), "utf8")
    expect(text, `${file}: "${title}"`).toContain(title)
  }
})
