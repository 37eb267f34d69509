/**
 * The journal's own connection, on which commits travel in line: the server has the next one when it has
 * ended one, and waits neither for the network nor for this process.
 *
 * In line, not side by side: two commits on two connections fight over the server's processors, and
 * both take longer (500 runs in flight, 2 cores: a run of three steps took the server 0.13 ms instead of
 * 0.10). The driver's `multiplex` does it. There a statement cannot be called off, for another one may
 * be the next to execute; so a connection on which one is late is cut, and the next commit opens another.
 * What became of those on their way is as unknown as ever, and they are sent again.
 *
 * @since 0.1.0
 */
import * as Net from "node:net"
import type { Duplex } from "node:stream"
import * as Duration from "effect/Duration"

/** How the driver reaches the server, and how to end that. */
export interface Lane {
  readonly stream: () => Duplex
  readonly cut: () => void
}

/** `null`: the driver knows an address there that we do not read. */
export const laneTo = (url: string, keepAlive: Duration.Duration): Lane | null => {
  const address = addressOf(url)
  if (address === null) return null
  let current: Net.Socket | null = null
  return {
    stream: () => {
      const socket = Net.connect({
        ...address,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: Duration.toMillis(keepAlive),
      })
      current = socket
      return socket
    },
    cut: () => {
      current?.destroy()
      current = null
    },
  }
}

/** As the driver reads it: its parameters go before its authority. */
const addressOf = (given: string): Net.NetConnectOpts | null => {
  const url = URL.parse(given)
  if (url === null) return null
  const authority = decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, "$1")
  const host = url.searchParams.get("host") ?? (authority === "" ? "localhost" : authority)
  const port = Number(url.searchParams.get("port") ?? (url.port === "" ? 5432 : url.port))
  if (host.includes(",") || !Number.isInteger(port)) return null
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port }
}
