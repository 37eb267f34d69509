/**
 * `npm run goldens:record`: runs each program on this version, and writes what it left into the
 * directory of that version. Once per release; what stands is not replaced unless `--again` says so.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { type Moment, record } from "../engine/replay.ts"
import { isTerminal } from "../../src/Run.ts"
import { type Golden, stored, type StoredMoment } from "./golden.ts"
import { programs } from "./programs.ts"

const { version } = JSON.parse(
  fs.readFileSync(path.join(import.meta.dirname, "../../package.json"), "utf8"),
) as { readonly version: string }
const directory = path.join(import.meta.dirname, version)

const root = path.join(import.meta.dirname, "../..")

/** The folders that stacks may name: of the sources, and of what is installed, if that is a link. */
const folders = [root, path.dirname(fs.realpathSync(path.join(root, "node_modules")))]

/** Text whose stacks name no folder of this machine. */
const anywhere = (text: string): string => {
  let told = text
  for (const folder of folders) {
    told = told
      .replaceAll(pathToFileURL(folder).href, "file:///flowly")
      .replaceAll(folder, "/flowly")
  }
  return told
}

/** So many moments of each program, evenly over its time. */
const wanted = 4

const stateOf = (moment: Moment): StoredMoment => {
  const { runs } = moment.handle.inspect()
  const at = Math.max(...runs.map((row) => row.startedAt ?? row.createdAt))
  return {
    at,
    runs: stored(moment.handle, at),
    counts: Object.fromEntries(moment.world.counts),
  }
}

fs.mkdirSync(directory, { recursive: true })
for (const { api, program } of programs) {
  const file = path.join(directory, `${api} ${program.name.replaceAll(/[^\w]+/g, "-")}.json`)
  if (fs.existsSync(file) && !process.argv.includes("--again")) continue
  const { workflowRunId, end, moments } = await record(program)
  const open = moments.filter(({ handle }) => {
    const row = handle.inspect().runs.find((one) => one.workflowRunId === workflowRunId)
    return row !== undefined && !isTerminal(row.status)
  })
  const chosen = Array.from(
    { length: wanted },
    (_, i) => Math.floor(((i + 1) * open.length) / wanted) - 1,
  )
  const golden: Golden = {
    version,
    api,
    program: program.name,
    workflowRunId,
    end: { status: end.status, result: null, error: end.error },
    moments: [...new Set(chosen)].flatMap((at) => (open[at] ? [stateOf(open[at])] : [])),
  }
  const { result } = end.row
  const json = JSON.stringify({ ...golden, end: { ...golden.end, result } })
  fs.writeFileSync(file, `${anywhere(json)}\n`)
  console.log(`${path.basename(file)}: ${golden.moments.length} of ${moments.length} moments`)
}
process.exit(0)
