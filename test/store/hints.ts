/**
 * Hints, given with every write, rightly or wrongly: a store may use them, and they change nothing that
 * can be seen.
 */
import type { RunWrite, WorkflowStore } from "../../src/WorkflowStore.ts"

/** Every record is said to be the first of its key, every run to be new, and none to have a parent. */
export const withHints = (store: WorkflowStore["Service"]): WorkflowStore["Service"] => ({
  ...store,
  commit: (writes) => store.commit(writes.map(hinted)),
  insertRuns: ({ runs, claimFor }) =>
    store.insertRuns({ runs: runs.map((run) => ({ ...run, fresh: true })), claimFor }),
})

const hinted = (write: RunWrite): RunWrite => ({
  ...write,
  records: write.records.map((record) => ({ ...record, first: true })),
  transition:
    write.transition?._tag === "Settle"
      ? { ...write.transition, wakesParent: false }
      : write.transition,
})
