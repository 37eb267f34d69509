/** The parent's side of a process of one system. */
import { fork } from "node:child_process"
import { join } from "node:path"
import type { Order } from "./child.ts"

export interface PeerProcess {
  readonly tell: <A = void>(order: Order) => Promise<A>
  readonly kill: () => void
}

export const openPeer = (): PeerProcess => {
  const child = fork(join(import.meta.dirname, "child.ts"), {
    execArgv: ["--disable-warning=ExperimentalWarning", "--disable-warning=DeprecationWarning"],
  })
  return {
    // one order at a time
    tell: <A>(order: Order) =>
      new Promise<A>((resolve, reject) => {
        const ended = (code: number | null) => reject(new Error(`the process ended with ${code}`))
        child.once("exit", ended)
        child.once("message", (answer: { readonly value?: A; readonly error?: string }) => {
          child.off("exit", ended)
          if (answer.error === undefined) resolve(answer.value as A)
          else reject(new Error(answer.error))
        })
        child.send(order)
      }),
    kill: () => void child.kill("SIGKILL"),
  }
}
