/**
 * Other systems, measured as flowly is: same server, same rounds, their best settings.
 *
 * They are installed here, on the first start, and nowhere else: `npm ci` of flowly does not know
 * them. Options are those of `npm run bench`.
 */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { measureAll } from "../measure.ts"
import { help, readOptions } from "../options.ts"
import { openServer } from "../server.ts"

if (!existsSync(join(import.meta.dirname, "node_modules"))) {
  execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: import.meta.dirname,
    stdio: "inherit",
  })
}
const { peerCases } = await import("./cases.ts")
const options = readOptions(peerCases, ".flowly/bench-peers.json")
if (options.help) console.log(help(peerCases))
else {
  const server = await openServer()
  try {
    const { sizes, statements, quick } = options
    const say = (line: string) => console.log(line)
    const bench = { server: server.url, sizes, quick, statements, say }
    const findings = await measureAll(options.cases, server, bench, options)
    process.exitCode = Object.values(findings).some(({ error }) => error !== undefined) ? 1 : 0
  } finally {
    await server.stop()
  }
}
