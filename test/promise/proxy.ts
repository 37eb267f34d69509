/** A way to a server that a test can cut, hang and mend. */
import { type AddressInfo, createServer, type Server, Socket } from "node:net"

export interface Proxy {
  readonly url: string
  /** `pass` bytes, `hang` (accept, and say nothing more), or be `closed`. */
  readonly set: (mode: "pass" | "hang" | "closed") => Promise<void>
  readonly stop: () => Promise<void>
}

/** A proxy in front of a database's address, closed at first. */
export const makeProxy = async (databaseUrl: string): Promise<Proxy> => {
  const target = new URL(databaseUrl)
  const { hostname, port: targetPort } = target
  const sockets = new Set<Socket>()
  let mode: "pass" | "hang" | "closed" = "closed"
  let server: Server | null = null

  const accept = (near: Socket) => {
    const far = new Socket()
    sockets.add(near).add(far)
    const end = () => {
      for (const socket of [near, far]) {
        socket.destroy()
        sockets.delete(socket)
      }
    }
    for (const socket of [near, far]) {
      socket.on("error", end)
      socket.on("close", end)
    }
    far.connect(Number(targetPort || 5432), hostname)
    near.on("data", (data) => {
      if (mode === "pass") far.write(data)
    })
    far.on("data", (data) => {
      if (mode === "pass") near.write(data)
    })
  }

  const listen = (port: number) =>
    new Promise<number>((resolve, reject) => {
      const opened = createServer(accept)
      server = opened
      opened.on("error", reject)
      opened.listen(port, "127.0.0.1", () => resolve((opened.address() as AddressInfo).port))
    })

  const close = async () => {
    for (const socket of sockets) socket.destroy()
    sockets.clear()
    await new Promise<void>((resolve) => {
      if (server === null) resolve()
      else server.close(() => resolve())
    })
    server = null
  }

  const port = await listen(0)
  await close()
  target.hostname = "127.0.0.1"
  target.port = String(port)
  return {
    url: target.href,
    set: async (next) => {
      mode = next
      if (next === "closed") await close()
      else if (server === null) await listen(port)
    },
    stop: close,
  }
}
