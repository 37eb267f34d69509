/**
 * A proxy that understands the wire: it cuts a connection exactly around one unit of work.
 *
 * A unit is what a client sends up to its Sync (or one simple Query): the server answers it with one
 * ReadyForQuery. A unit is forwarded whole or not at all. What was pipelined before a cut unit is
 * answered first; what was pipelined behind it is lost with the connection. Cuts:
 *
 * - `before`: the server never sees the unit; the connection ends. A transaction is rolled back.
 * - `after`: the server has carried it out, its answer is swallowed, the connection ends.
 * - `late`: the client's connection ends at once; the server gets the unit a little later, when the
 *   client may have asked again already.
 */
import * as net from "node:net"

export type Cut = "before" | "after" | "late"

export const cutKinds: ReadonlyArray<Cut> = ["before", "after", "late"]

/** What a client sends as one. */
export interface Unit {
  /** The texts of the statements that it executes. */
  readonly statements: ReadonlyArray<string>
  /** What it writes is durable, or not, with its answer: it commits, or stands alone. */
  readonly commits: boolean
}

/** A cut that was asked for. */
export interface Order {
  /** Its unit was found, and both ends are done with it. */
  readonly done: Promise<Unit>
  /** Its unit was found. */
  readonly isTaken: () => boolean
  /** It is not wanted any more; nothing happens if it was carried out. */
  readonly withdraw: () => void
}

interface Pending extends Order {
  readonly matches: (unit: Unit) => boolean
  readonly cut: Cut
  readonly lateMs: number
  readonly take: () => void
  readonly carriedOut: (unit: Unit) => void
}

export interface WireProxy {
  readonly url: string
  /** Cuts the first unit that matches. */
  readonly cut: (
    cut: Cut,
    matches: (unit: Unit) => boolean,
    options?: { readonly lateMs?: number; readonly onTaken?: () => void },
  ) => Order
  /** Is told of each unit before it is forwarded or cut. Answers how to stop it. */
  readonly watch: (watcher: (unit: Unit) => void) => () => void
  /** How many connections were cut. */
  readonly cuts: () => number
  readonly close: () => Promise<void>
}

const sslRequest = 80_877_103
const gssRequest = 80_877_104
const cancelRequest = 80_877_102

/** Between the client and the server at `target`. */
export const startWireProxy = async (target: string): Promise<WireProxy> => {
  const { hostname, port } = new URL(target)
  const sockets = new Set<net.Socket>()
  const orders = new Set<Pending>()
  const watchers = new Set<(unit: Unit) => void>()
  let cuts = 0

  const orderFor = (unit: Unit): Pending | undefined => {
    for (const watch of watchers) watch(unit)
    for (const order of orders) {
      if (!order.matches(unit)) continue
      orders.delete(order)
      order.take()
      cuts++
      return order
    }
    return undefined
  }

  const server = net.createServer((near) => {
    const far = net.connect(Number(port || 5432), hostname)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on("error", () => undefined)
      socket.on("close", () => sockets.delete(socket))
    }
    relay(near, far, orderFor)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const own = new URL(target)
  own.hostname = "127.0.0.1"
  own.port = String((server.address() as net.AddressInfo).port)
  return {
    url: own.href,
    cut: (cut, matches, { lateMs = 15, onTaken } = {}) => {
      let isTaken = false
      const { promise: done, resolve: carriedOut } = Promise.withResolvers<Unit>()
      const order: Pending = {
        matches,
        cut,
        lateMs,
        done,
        carriedOut,
        take: () => {
          isTaken = true
          onTaken?.()
        },
        isTaken: () => isTaken,
        withdraw: () => void orders.delete(order),
      }
      orders.add(order)
      return order
    },
    watch: (watcher) => {
      watchers.add(watcher)
      return () => void watchers.delete(watcher)
    },
    cuts: () => cuts,
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

interface Sent extends Unit {
  readonly order: Pending | undefined
}

/** One connection. */
const relay = (
  near: net.Socket,
  far: net.Socket,
  orderFor: (unit: Unit) => Pending | undefined,
): void => {
  /** Prepared statements by name, and portals by theirs. */
  const prepared = new Map<string, string>()
  const portals = new Map<string, string>()
  /** Sent to the server, and not answered. */
  const open: Array<Sent> = []
  let held: Array<Buffer> = []
  let statements: Array<string> = []
  let inTransaction = false
  let started = false
  let ready = false
  /** To be cut when what was sent before it is answered. */
  let doomed: { readonly order: Pending; readonly unit: Unit; readonly bytes: Buffer } | null = null
  let isCut = false

  const end = () => {
    near.destroy()
    far.destroy()
  }
  far.on("close", end)
  // a client that was cut must not take the server's half with it before the server is done
  near.on("close", () => {
    if (!isCut) far.destroy()
  })

  const carryOut = () => {
    if (doomed === null || open.length > 0) return
    const { order, unit, bytes } = doomed
    isCut = true
    if (order.cut === "before") {
      order.carriedOut(unit)
      end()
      return
    }
    open.push({ ...unit, order })
    if (order.cut === "after") far.write(bytes)
    else {
      near.destroy()
      setTimeout(() => far.write(bytes), order.lateMs)
    }
  }

  const sendUnit = () => {
    const bytes = Buffer.concat(held)
    const begins = statements.some((text) => /^\s*begin\b/i.test(text))
    const ends = statements.some((text) => /^\s*(commit|rollback(?!\s+to)|end)\b/i.test(text))
    const commits =
      statements.length > 0 &&
      (inTransaction ? statements.some((text) => /^\s*(commit|end)\b/i.test(text)) : !begins)
    const unit: Unit = { statements, commits }
    held = []
    statements = []
    if (begins) inTransaction = true
    if (ends) inTransaction = false
    if (doomed !== null) return // lost with the connection
    const order = orderFor(unit)
    if (order === undefined) {
      open.push({ ...unit, order })
      far.write(bytes)
      return
    }
    doomed = { order, unit, bytes }
    carryOut()
  }

  const fromClient = framesOf((type, frame) => {
    if (!started) {
      const code = frame.readInt32BE(4)
      if (code !== sslRequest && code !== gssRequest && code !== cancelRequest) started = true
      far.write(frame)
      return started
    }
    if (!ready && type !== "Q" && type !== "P") {
      far.write(frame) // the exchange of passwords
      return true
    }
    held.push(frame)
    if (type === "P") {
      const [name, text] = stringsOf(frame, 2)
      prepared.set(name ?? "", text ?? "")
    } else if (type === "B") {
      const [portal, name] = stringsOf(frame, 2)
      portals.set(portal ?? "", prepared.get(name ?? "") ?? "")
    } else if (type === "E") {
      statements.push(portals.get(stringsOf(frame, 1)[0] ?? "") ?? "")
    } else if (type === "Q") {
      statements.push(stringsOf(frame, 1)[0] ?? "")
      sendUnit()
    } else if (type === "S") sendUnit()
    else if (type === "H" || type === "X") {
      if (doomed === null) far.write(Buffer.concat(held))
      held = []
    }
    return true
  })

  let swallowing = false
  const fromServer = framesOf((type, frame) => {
    const first = open[0]
    swallowing = isCut && first?.order !== undefined
    if (!swallowing && !near.destroyed) near.write(frame)
    if (type !== "Z") return true
    if (!ready) {
      ready = true
      return true
    }
    open.shift()
    if (open.length === 0 && doomed === null) inTransaction = frame[5] !== 0x49
    if (swallowing && first !== undefined) {
      first.order?.carriedOut(first)
      end()
    } else carryOut()
    return true
  })

  near.on("data", (chunk: Buffer) => fromClient(chunk, () => started))
  let oneByte = false
  far.on("data", (chunk: Buffer) => {
    // the answer to a question about encryption is one byte
    if (!started && !oneByte && chunk.length === 1) {
      near.write(chunk)
      return
    }
    oneByte = true
    fromServer(chunk, () => true)
  })
}

/** Whole messages out of chunks; before the start they have no type. */
const framesOf = (take: (type: string, frame: Buffer) => boolean) => {
  let rest: Buffer = Buffer.alloc(0)
  return (chunk: Buffer, typed: () => boolean): void => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      const head = typed() ? 1 : 0
      if (rest.length < head + 4) return
      const size = head + rest.readInt32BE(head)
      if (rest.length < size) return
      const frame = rest.subarray(0, size)
      rest = rest.subarray(size)
      take(head === 1 ? String.fromCharCode(frame[0] ?? 0) : "", frame)
    }
  }
}

/** The zero-terminated strings that a message begins with. */
const stringsOf = (frame: Buffer, count: number): ReadonlyArray<string> => {
  const found: Array<string> = []
  let at = 5
  while (found.length < count) {
    const end = frame.indexOf(0, at)
    if (end < 0) break
    found.push(frame.toString("utf8", at, end))
    at = end + 1
  }
  return found
}
