/**
 * Worker processes and what they hold.
 *
 * @since 0.1.0
 */
import type { WorkflowRef } from "./runs.ts"

/**
 * A worker process announcing itself. `workerId` is a fresh incarnation id (UUID) at every start;
 * `label` is what the user configured and authorizes nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface WorkerRegistration {
  readonly workerId: string
  readonly label: string
  readonly leaseMs: number
  readonly workflows: ReadonlyArray<WorkflowRef>
  readonly capacity: number
}

/**
 * The right to advance a run.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly workflowRunId: string
  readonly token: number
}
