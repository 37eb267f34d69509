/** A collector of OpenTelemetry in the parent's process: it takes what is sent, and counts spans. */
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

export interface Collector {
  readonly url: string
  readonly spans: () => number
  /** Exports of metrics. */
  readonly metrics: () => number
  readonly close: () => void
}

/** Told apart by what each span has exactly once; the rest is not parsed, it would cost CPU here. */
const ofSpan = '"startTimeUnixNano"'

export const openCollector = async (): Promise<Collector> => {
  let spans = 0
  let metrics = 0
  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      if (request.url === "/v1/traces") spans += count(Buffer.concat(chunks), ofSpan)
      if (request.url === "/v1/metrics") metrics++
      response.setHeader("content-type", "application/json")
      response.end("{}")
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    spans: () => spans,
    metrics: () => metrics,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

const count = (text: Buffer, part: string): number => {
  let found = 0
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) found++
  return found
}
