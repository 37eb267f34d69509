/** The command line of the torture suite: what may be asked for, and what is wrong with it. */
import { parseArgs } from "node:util"
import type { ServerKind } from "./server.ts"
import { type Scenario, type Tier, tiers } from "./scenario.ts"

export interface Options {
  readonly tier: Tier
  readonly scenarios: ReadonlyArray<Scenario>
  readonly minutes: number | null
  /** Instead of the tier's number of kills, freezes, faults … */
  readonly times: number | null
  readonly seed: number
  readonly server: ServerKind
  readonly report: string
}

export const usage = (scenarios: ReadonlyArray<Scenario>): string => `\
npm run test:torture [-- options]

  --tier T0|T1|T2      how much (default T1)
  --scenario S4,S5     only these
  --minutes N          how long a scenario without another end lasts (S21, S21b)
  --times N            how often harm is done, instead of the tier's number (S4 to S9, S11)
  --seed N             the choices of the nemesis and the workload (default: FLOWLY_SEED, or by chance)
  --postgres KIND      embedded, system (of /usr/lib/postgresql) or given (DATABASE_URL);
                       default: given where DATABASE_URL is set, else embedded
  --report FILE        where the report is written (default torture-report.json)
  --help

${scenarios.map(({ id, title, tiers: of }) => `  ${id.padEnd(4)} ${title} (${of.join(", ")})`).join("\n")}`

/** What is wrong with the command line, for its user. */
export class InvalidOption extends Error {
  override readonly name = "InvalidOption"
}

const invalid = (message: string) => new InvalidOption(`${message}; see --help`)

const numberOf = (text: string, name: string, least: number): number => {
  const value = Number(text)
  if (text.trim() === "" || !Number.isFinite(value) || value < least) {
    throw invalid(`${name}: "${text}" is not a number of at least ${least}`)
  }
  return value
}

/** `null`: help was asked for. */
export const parseOptions = (
  args: ReadonlyArray<string>,
  env: NodeJS.ProcessEnv,
  known: ReadonlyArray<Scenario>,
): Options | null => {
  const values = parsed(args)
  if (values.help === true) return null
  const tier = (values.tier ?? "T1") as Tier
  if (!tiers.includes(tier)) throw invalid(`--tier: "${tier}" is none of ${tiers.join(", ")}`)
  const asked = values.scenario?.split(",").map((id) => id.trim())
  const scenarios =
    asked?.map((id) => {
      const found = known.find((one) => one.id.toLowerCase() === id.toLowerCase())
      if (found !== undefined) return found
      throw invalid(`--scenario: "${id}" is none of ${known.map((one) => one.id).join(", ")}`)
    }) ?? known.filter((one) => one.tiers.includes(tier))
  if (values.minutes !== undefined && asked?.length === 0) throw invalid("--scenario: names none")
  const seedText = values.seed ?? env["FLOWLY_SEED"]
  const seed =
    seedText === undefined
      ? Math.floor(Math.random() * 2 ** 31)
      : numberOf(seedText, values.seed === undefined ? "FLOWLY_SEED" : "--seed", 0)
  if (!Number.isInteger(seed)) throw invalid(`--seed: ${seed} is not whole`)
  const kinds: ReadonlyArray<ServerKind> = ["embedded", "system", "given"]
  const server = (values.postgres ?? (env["DATABASE_URL"] ? "given" : "embedded")) as ServerKind
  if (!kinds.includes(server)) {
    throw invalid(`--postgres: "${server}" is none of ${kinds.join(", ")}`)
  }
  const optional = (text: string | undefined, name: string, least: number) =>
    text === undefined ? null : numberOf(text, name, least)
  const minutes = optional(values.minutes, "--minutes", 0.1)
  const times = optional(values.times, "--times", 1)
  const report = values.report ?? "torture-report.json"
  return { tier, scenarios, minutes, times, seed, server, report }
}

const parsed = (args: ReadonlyArray<string>) => {
  const text = { type: "string" } as const
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        tier: text,
        scenario: text,
        minutes: text,
        times: text,
        seed: text,
        postgres: text,
        report: text,
        help: { type: "boolean", short: "h" },
      },
    }).values
  } catch (error) {
    throw invalid((error as Error).message.split(".")[0] ?? "the options are not understood")
  }
}
