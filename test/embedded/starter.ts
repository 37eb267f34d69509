/**
 * A process that starts an embedded server, for tests that kill it: argument 1 the data directory
 * ("" for a temporary one). Prints what it got as one line of JSON, then stays.
 */
import { startEmbeddedPostgres } from "../../src/embedded.ts"

const dataDir = process.argv[2] === "" ? undefined : process.argv[2]
const {
  url,
  pid,
  dataDir: folder,
} = await startEmbeddedPostgres({
  dataDir,
  settings: { fsync: "off" },
})
console.log(JSON.stringify({ url, pid, dataDir: folder }))
setInterval(() => {}, 1000)
