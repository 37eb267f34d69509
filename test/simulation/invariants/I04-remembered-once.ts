/** What was recorded stands, and is what a body of the step answered. */
import * as Payload from "../../../src/Payload.ts"
import type { StepRecord } from "../../../src/WorkflowStore.ts"
import { type Invariant, writtenBy } from "../scene.ts"

interface Standing {
  readonly attempt: number
  readonly status: string
  readonly result: string | null
  readonly position: number | null
}

export const I4: Invariant = {
  id: "I4",
  claim:
    "a recorded outcome never changes, and a note of tries only for a newer one; an outcome is that of a try that really ended so",
  watch: (scene) => {
    const standing = new Map<string, Map<string, Standing>>()
    const positions = new Map<string, Set<string>>()
    const notes = new Map<string, readonly [attempts: number, revision: number]>()

    /** A copy of an older note that comes late changes nothing. */
    const checkNote = (workflowRunId: string, attempt: number, record: StepRecord) => {
      const key = `${workflowRunId} ${attempt} ${record.stepKey}`
      const [attempts, revision] = notes.get(key) ?? [0, 0]
      notes.set(key, [record.attempts, record.revision])
      const isOlder =
        record.attempts < attempts || (record.attempts === attempts && record.revision < revision)
      if (!isOlder) return
      const message = `the note of ${record.stepKey} goes back from try ${attempts}.${revision}`
      scene.violate("I4", workflowRunId, `${message} to ${record.attempts}.${record.revision}`)
    }

    /** Steps answer with the nonce of their try. */
    const checkWitness = (workflowRunId: string, record: StepRecord) => {
      if (record.kind !== "step" || record.status !== "completed" || record.result === null) return
      const answer = Payload.decode(record.result) as { readonly nonce?: string } | null
      const one = scene.ledger.tries.find(({ nonce }) => nonce === answer?.nonce)
      const same = one?.workflowRunId === workflowRunId && one.stepKey === record.stepKey
      if (!same || one.end !== "completed") {
        scene.violate(
          "I4",
          workflowRunId,
          `${record.stepKey}: no try ever answered what is recorded`,
        )
      }
    }

    return {
      onChange: ({ applied }) => {
        for (const workflowRunId of writtenBy(applied)) {
          const attempt = scene.rows().get(workflowRunId)?.attempt ?? 0
          const known = standing.get(workflowRunId) ?? new Map<string, Standing>()
          standing.set(workflowRunId, known)
          const records = scene.records(workflowRunId)
          const now = new Map(records.map((record) => [record.stepKey, record]))
          for (const [stepKey, old] of known) {
            const record = now.get(stepKey)
            const wrong = (message: string) =>
              scene.violate("I4", workflowRunId, `the record of ${stepKey} ${message}`)
            if (record === undefined || record.status === "retrying") {
              // the next attempt of a run begins without what failed
              if (old.attempt < attempt && old.status === "failed") known.delete(stepKey)
              else wrong("is gone")
            } else if (
              record.status !== old.status ||
              record.position !== old.position ||
              (record.result?.json ?? null) !== old.result
            ) {
              if (old.attempt < attempt && old.status === "failed") known.delete(stepKey)
              else wrong(`changed from ${old.status} to ${record.status}`)
            }
          }
          for (const record of records) {
            if (record.status === "retrying") checkNote(workflowRunId, attempt, record)
            if (record.status === "retrying" || known.has(record.stepKey)) continue
            const { status, position } = record
            known.set(record.stepKey, {
              attempt,
              status,
              position,
              result: record.result?.json ?? null,
            })
            if (!scene.inherited(workflowRunId).has(record.stepKey)) {
              checkWitness(workflowRunId, record)
            }
            const place = `${attempt} ${position}`
            const taken = positions.get(workflowRunId) ?? new Set()
            positions.set(workflowRunId, taken)
            if (taken.has(place)) {
              scene.violate("I4", workflowRunId, `position ${position} was given twice`)
            }
            taken.add(place)
          }
        }
      },
    }
  },
}
