/**
 * A TCP proxy in front of a server, for one process: it passes bytes until it is told to do worse.
 *
 * - `cut`: every connection ends, now.
 * - `delay`: everything arrives, in order, but late.
 * - `blackhole`: connections are accepted, and nothing arrives on either side.
 * - `half-open`: what the process says arrives; it hears nothing of what comes back.
 *
 * When a fault that swallowed bytes is over, its connections end: what was lost does not come back.
 */
import * as net from "node:net"

export type NetworkFault = "cut" | "delay" | "blackhole" | "half-open"

export interface Proxy {
  readonly url: string
  /** Resolves when it is over. */
  readonly suffer: (fault: NetworkFault, milliseconds: number) => Promise<void>
  /** A fault lasts. */
  readonly suffers: () => boolean
  readonly connections: () => number
  readonly close: () => Promise<void>
}

/** None: for a fleet whose network does nothing. The suite is busy, and would be in the way. */
export const noProxy = (to: string): Proxy => ({
  url: to,
  suffer: () => Promise.reject(new Error("nobody stands between this process and its server")),
  suffers: () => false,
  connections: () => 0,
  close: async () => undefined,
})

type Mode = "pass" | Exclude<NetworkFault, "cut">

const delayMs = 150

export const openProxy = async (to: string): Promise<Proxy> => {
  const target = new URL(to)
  const pairs = new Set<() => void>()
  let mode: Mode = "pass"

  const join = (near: net.Socket): void => {
    const far = net.connect(Number(target.port || 5432), target.hostname)
    const end = () => {
      near.destroy()
      far.destroy()
      pairs.delete(end)
    }
    pairs.add(end)
    const forward = (from: net.Socket, into: net.Socket, back: boolean) => {
      let late = 0
      from.on("error", end)
      from.on("close", end)
      from.on("data", (chunk) => {
        if (mode === "blackhole" || (mode === "half-open" && back)) return
        if (mode !== "delay" && late === 0) {
          into.write(chunk)
          return
        }
        // also what comes when the fault is over: behind what is still on its way
        late++
        setTimeout(() => {
          late--
          into.write(chunk)
        }, delayMs)
      })
    }
    forward(near, far, false)
    forward(far, near, true)
  }

  const server = net.createServer(join).listen(0, "127.0.0.1")
  await new Promise((resolve) => server.once("listening", resolve))
  const own = new URL(to)
  own.hostname = "127.0.0.1"
  own.port = String((server.address() as net.AddressInfo).port)

  const cut = () => {
    for (const end of pairs) end()
  }
  return {
    url: own.href,
    suffers: () => mode !== "pass",
    connections: () => pairs.size,
    suffer: async (fault, milliseconds) => {
      if (fault === "cut") return cut()
      mode = fault
      await new Promise((resolve) => setTimeout(resolve, milliseconds))
      mode = "pass"
      if (fault !== "delay") cut()
    },
    close: async () => {
      cut()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
