/** A way to a server that is a given time long, in a process of its own. */
import { type AddressInfo, createServer, Socket } from "node:net"
import type { Working } from "./meter.ts"

export interface ProxyJob {
  readonly kind: "proxy"
  readonly target: string
  readonly port: number
  /** From the client to the server; the way back takes no time. */
  readonly latencyMs: number
}

/** A free port, for a moment. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

/** The address of a database, through the proxy. */
export const through = (url: string, port: number): string => {
  const proxied = new URL(url)
  proxied.hostname = "127.0.0.1"
  proxied.port = String(port)
  return proxied.href
}

export const serveProxy = async ({ target, port, latencyMs }: ProxyJob): Promise<Working> => {
  const { hostname, port: targetPort } = new URL(target)
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (near) => {
    const far = new Socket()
    sockets.add(near).add(far)
    const end = () => {
      for (const socket of [near, far]) {
        socket.destroy()
        sockets.delete(socket)
      }
    }
    for (const socket of [near, far]) socket.on("error", end).on("close", end)
    far.setNoDelay(true).connect(Number(targetPort || 5432), hostname)
    near.on(
      "data",
      delayed(latencyMs, (data) => void far.write(data)),
    )
    far.on("data", (data) => void near.write(data))
  })
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject)
    server.listen(port, "127.0.0.1", resolve)
  })
  return {
    start: async () => {},
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}

/** Each chunk as much later, in order. A timer is a millisecond at least: the rest is waited for. */
const delayed = (milliseconds: number, pass: (data: Buffer) => void) => {
  const queue: Array<readonly [due: number, data: Buffer]> = []
  let pumping = false
  const pump = () => {
    const now = performance.now()
    while (queue[0] !== undefined && queue[0][0] <= now) pass(queue.shift()![1])
    if (queue[0] === undefined) pumping = false
    else if (queue[0][0] - now > 1.2) setTimeout(pump, 1)
    else setImmediate(pump)
  }
  return (data: Buffer) => {
    queue.push([performance.now() + milliseconds, data])
    if (!pumping) {
      pumping = true
      pump()
    }
  }
}
