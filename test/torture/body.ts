/** Programs as workflows of the promise API, watched by the witness. */
import { randomBytes } from "node:crypto"
import { type AnyWorkflow, defineWorkflow, type TransactionClient } from "../../src/index.ts"
import type { Program } from "../simulation/program.ts"
import { promiseWorkflows } from "../simulation/promiseBody.ts"
import { stepKeyOf, type Watch } from "../simulation/watched.ts"
import type { Told, Witness } from "./witness.ts"

/** The workflows of a program. Without a witness they can be triggered, and no more. */
export const workflowsOf = (
  program: Program,
  witness: Witness | null,
): ReadonlyArray<AnyWorkflow> => {
  if (witness !== null) return promiseWorkflows(program, watchedBy(witness), writeBy(witness))
  return program.workflows.map(({ name }) =>
    defineWorkflow<any, string>(name, () => {
      throw new Error("this process executes nothing")
    }),
  )
}

const writeBy =
  ({ worker }: Witness) =>
  (client: unknown, row: { workflowRunId: string; stepKey: string; nonce: string }) =>
    (client as TransactionClient).query(
      "insert into torture.transfers (run, step, nonce, worker) values ($1, $2, $3, $4)",
      [row.workflowRunId, row.stepKey, row.nonce, worker],
    )

const watchedBy =
  (witness: Witness): Watch =>
  ({ workflowRunId: run, attempt: runAttempt }) => {
    const execution = randomBytes(6).toString("base64url")
    const tell = (kind: Told["kind"], site: string, value: string): void =>
      witness.tell({ execution, run, attempt: runAttempt, kind, site, value })
    tell("begun", "", "")
    let beats = 0
    return {
      saw: (key, how) => tell("seen", "", `${key} ${how}`),
      note: (site, what) => tell("note", site, String(what)),
      asksSleep: (stepKey, ms) => tell("sleep", stepKey, String(ms)),
      // nobody here answers tokens
      holdsToken: () => {},
      beat: () => ++beats,
      begins: async (what, info) => {
        const nonce = await witness.begin({
          what,
          run: info.workflowRunId,
          key: info.idempotencyKey,
          step: stepKeyOf(info),
          attempt: info.attempt,
          runAttempt,
        })
        return { nonce, ended: (how) => witness.end(nonce, how) }
      },
      ended: () => {},
    }
  }
