#!/usr/bin/env node
/**
 * The `flowly` command: what an operator does once per deployment, with rights that workers lack.
 *
 * The address of the database, which holds a password, comes from the environment alone: arguments
 * stand in process lists and shell histories. `grants` connects to nothing.
 */
import { parseArgs } from "node:util"
import { DurableEngine, grants } from "./index.ts"

const usage = `flowly migrate [--schema NAME]
    Creates the tables, or brings them up to date. As the role that is to own them: DATABASE_URL.
flowly grants [--schema NAME] [--worker ROLE] [--reader ROLE]
    Prints what the owner grants the others, to be run after each migration:
    flowly grants --worker app --reader support | psql "$DATABASE_URL"
`

const main = async (): Promise<void> => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      schema: { type: "string" },
      worker: { type: "string" },
      reader: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  })
  const [command, ...others] = positionals
  const { schema, worker, reader, help } = values
  if (help === true) return void process.stdout.write(usage)
  if (others.length === 0 && command === "grants") {
    return void process.stdout.write(grants({ schema, worker, reader }))
  }
  if (others.length === 0 && command === "migrate") {
    if (worker !== undefined || reader !== undefined) throw new Error("--worker: not of migrate")
    const url = process.env["DATABASE_URL"]
    if (url === undefined) throw new Error("DATABASE_URL is not set")
    await using engine = new DurableEngine({ url, schema, workflows: [] })
    return await engine.migrate()
  }
  process.stderr.write(usage)
  process.exitCode = 2
}

try {
  await main()
} catch (error) {
  process.stderr.write(`flowly: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
