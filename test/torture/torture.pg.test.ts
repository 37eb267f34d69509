/**
 * The smallest tier of the torture suite, within `npm test`: a few kills, freezes, ended sessions and
 * cut connections, all at once, on a small workload; and what its command line refuses.
 */
import { expect, inject, it } from "vitest"
import { play } from "./arena.ts"
import { endingCommits, losingClaims } from "./nemesis/gates.ts"
import { disturbing } from "./nemesis/network.ts"
import { freezing, killing } from "./nemesis/processes.ts"
import { locking, terminating } from "./nemesis/sessions.ts"
import { InvalidOption, parseOptions, usage } from "./options.ts"
import { playScenario } from "./play.ts"
import type { Scenario } from "./scenario.ts"
import { scenarios } from "./scenarios/index.ts"

const everything: Scenario = {
  id: "T0",
  title: "a little of everything",
  tiers: ["T0"],
  run: (context) =>
    play(context, {
      workers: 2,
      spares: 1,
      inFlight: 15,
      harms: (field) => {
        const { fleet, leaseMs, deaths, freezes, lost, locks, observer, url } = field
        const { tell } = field.timeline
        const given = () => ({ fleet, leaseMs, observer, url, tell, dice: context.dice.fork() })
        return [
          killing({ ...given(), times: 2, everyMs: 2000 }, deaths),
          freezing({ ...given(), times: 2, everyMs: 2000 }, freezes),
          terminating({ ...given(), times: 8, everyMs: 500 }),
          disturbing({ ...given(), times: 4, everyMs: 1000 }),
          locking({ ...given(), times: 2, everyMs: 1500 }, locks),
          endingCommits({ ...given(), times: 1, everyMs: 1500 }),
          losingClaims({ ...given(), times: 1, everyMs: 1500 }, lost),
        ]
      },
    }),
}

it(
  "a small workload survives kills, freezes, ended sessions and cut connections",
  {
    timeout: 180_000,
  },
  async () => {
    const url = inject("postgresUrl")
    const never = () => Promise.reject(new Error("the server of the tests is not ours to stop"))
    const server = {
      kind: "given",
      url,
      version: "",
      isOurs: false,
      crash: never,
      restart: never,
    } as const
    const lines: Array<string> = []
    const report = await playScenario(
      everything,
      { tier: "T0", seed: Number(process.env["FLOWLY_SEED"] ?? 1), minutes: null, times: null },
      { ...server, stop: async () => undefined },
      (line) => lines.push(line),
    )
    expect(report.broke).toBeNull()
    expect(report.violations).toEqual([])
    expect(report.counts["kills"]).toBe(2)
    expect(report.counts["freezes"]).toBe(2)
  },
)

it("the command line says what is wrong with it", () => {
  const parse = (...args: ReadonlyArray<string>) => parseOptions(args, {}, scenarios)
  expect(() => parse("--tier", "T9")).toThrow(InvalidOption)
  expect(() => parse("--scenario", "S4,S99")).toThrow(/"S99" is none of S4/)
  expect(() => parse("--minutes", "soon")).toThrow(/--minutes: "soon" is not a number/)
  expect(() => parse("--times", "0")).toThrow(/--times: "0" is not a number of at least 1/)
  expect(() => parse("--seed", "1.5")).toThrow(/--seed: 1.5 is not whole/)
  expect(() => parse("--sed", "1")).toThrow(/--sed/)
  expect(parse("--help")).toBeNull()
  expect(usage(scenarios)).toContain("--tier")
  expect(parseOptions([], { FLOWLY_SEED: "7" }, scenarios)).toMatchObject({ seed: 7, tier: "T1" })
})
