/**
 * Puts what was measured into the README: tables between two marks, and a plot beside them.
 *
 *     npm run bench:report -- [.flowly/bench.json] [.flowly/bench-peers.json]
 *
 * It writes figures out of these files and no others; a case that was not measured has no row.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Report } from "../measure.ts"
import { bars } from "./plot.ts"
import { caseTable, costTable, featureTable, peerTable, throughputs } from "./rows.ts"

const root = join(import.meta.dirname, "../../..")
const [begin, end] = ["<!-- bench:begin -->", "<!-- bench:end -->"]
const plot = ".github/speed.svg"

const read = (path: string): Report | null =>
  existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Report) : null

/** The machine, and how it was measured. */
const method = ({ machine, postgres, rounds, sizes }: Report): string =>
  `${machine.cpus} cores (${machine.model}), ${machine.memoryGiB} GiB, ${machine.platform}, ` +
  `Node ${machine.node.slice(1)}, Postgres ${postgres["server_version"]} on the same machine with ` +
  `fsync ${postgres["fsync"]}, synchronous_commit ${postgres["synchronous_commit"]} and ` +
  `shared_buffers of ${postgres["shared_buffers"]}. Medians of ${rounds} ${rounds === 1 ? "round" : "rounds"}; ${sizes.runs} runs ` +
  `for each sample of throughput.`

const paragraphs = (...parts: ReadonlyArray<ReadonlyArray<string>>): string =>
  parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n")

const sections = (own: Report, peers: Report | null): string =>
  paragraphs(
    [`![Runs of three steps per second](${plot})`],
    [method(own)],
    caseTable(own),
    costTable(own),
    featureTable(own),
    ...(peers === null ? [] : [[`Other systems. ${method(peers)}`], peerTable(peers)]),
  )

const [ownPath = ".flowly/bench.json", peersPath = ".flowly/bench-peers.json"] =
  process.argv.slice(2)
const own = read(ownPath)
if (own === null) {
  console.error(`${ownPath} is not there: npm run bench writes it`)
  process.exitCode = 1
} else {
  const peers = read(peersPath)
  const readme = join(root, "README.md")
  const text = readFileSync(readme, "utf8")
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`README.md has no ${begin} … ${end}`)
  const filled = `${begin}\n\n${sections(own, peers)}\n\n`
  writeFileSync(readme, text.slice(0, from) + filled + text.slice(to))
  const all = throughputs(peers === null ? [own] : [own, peers])
  writeFileSync(join(root, plot), bars("Runs of three steps per second", all))
  console.log(`written: README.md, ${plot}`)
}
