/** What happens to the server: it dies and recovers, takes no writes, takes no more sessions. */
import pg from "pg"
import type { Dice } from "../../support/dice.ts"
import { withClient } from "../../support/provision.ts"
import type { Observer } from "../observer.ts"
import type { Server } from "../server.ts"
import type { Harm } from "./nemesis.ts"

interface Given {
  readonly server: Server
  /** The scenario's database. */
  readonly url: string
  readonly observer: Observer
  readonly dice: Dice
  readonly times: number
  readonly everyMs: number
  readonly tell: (who: string, what: string) => void
  /** One at a time. */
  readonly alone: (act: () => Promise<boolean>) => Promise<boolean>
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

export const crashing = (given: Given): Harm => ({
  name: "server crashes",
  times: given.times,
  everyMs: given.everyMs,
  act: () =>
    given.alone(async () => {
      const { server, dice, tell } = given
      const ms = dice.whole(100, 2500)
      tell("nemesis", `stops the server at once, for ${ms} ms`)
      await server.crash()
      await pause(ms)
      await server.restart()
      tell("nemesis", "the server is back")
      return true
    }),
})

/**
 * New transactions cannot write, as on a standby (25006); sessions that are open included. For a while;
 * or on and off, as quickly as that goes: what was refused just now is taken, and the other way round.
 */
export const readOnly = (given: Given): Harm => {
  const during = (act: (set: (on: boolean) => Promise<void>) => Promise<void>) =>
    withClient(given.url, async (client) => {
      await client.query("set default_transaction_read_only = off")
      await act(async (on) => {
        await client.query(`alter system set default_transaction_read_only = ${on ? "on" : "off"}`)
        await client.query("select pg_reload_conf()")
      })
    })
  return {
    name: "read-only windows",
    times: given.times,
    everyMs: given.everyMs,
    act: () =>
      given.alone(async () => {
        const { dice, tell } = given
        const flickers = dice.chance(0.5) ? dice.whole(10, 30) : 0
        const ms = dice.whole(500, 3000)
        tell(
          "nemesis",
          flickers > 0
            ? `makes the server read-only ${flickers} times, for a moment each`
            : `makes the server read-only for ${ms} ms`,
        )
        await during(async (set) => {
          for (let i = 0; i < flickers; i++) {
            await set(true)
            await pause(dice.whole(1, 40))
            await set(false)
            await pause(dice.whole(20, 150))
          }
          if (flickers > 0) return
          await set(true)
          await pause(ms)
          await set(false)
        })
        tell("nemesis", "the server takes writes")
        return true
      }),
    relent: () => during((set) => set(false)),
  }
}

/** Every free connection is taken, while the engine's own are ended: none can come back (53300). */
export const exhausting = (given: Given): Harm => ({
  name: "exhaustions",
  times: given.times,
  everyMs: given.everyMs,
  act: () =>
    given.alone(async () => {
      const { url, observer, dice, tell } = given
      const ms = dice.whole(500, 3000)
      const taken: Array<pg.Client> = []
      tell("nemesis", `takes all connections for ${ms} ms`)
      // not a superuser: some connections are kept for those
      const full = async () => {
        while (taken.length < 400) {
          const client = new pg.Client({
            connectionString: url,
            application_name: "torture-crowd",
            connectionTimeoutMillis: 2000,
          })
          client.on("error", () => undefined)
          try {
            await client.connect()
          } catch {
            return
          }
          taken.push(client)
        }
      }
      await full()
      await observer.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'flowly%'`,
      )
      await full()
      await pause(ms)
      await Promise.allSettled(taken.map((client) => client.end()))
      tell("nemesis", `gives ${taken.length} connections back`)
      return true
    }),
})
