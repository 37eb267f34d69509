/**
 * A run: one execution of a workflow, its statuses, and the one table of legal transitions.
 *
 * Both stores and the tests read the table below; a status change that it does not name is a bug.
 * Terminal is final (promise 6), but for an explicit retry of a `failed` or `dead_letter` run, or of
 * its undos.
 *
 * ```text
 *   pending ──claim──▶ running ──▶ completed
 *     ▲  ▲              │ │ │ └──▶ failed / cancelled / dead_letter
 *     │  └── wake ── sleeping/waiting
 *     └──── resume ──── paused        running ──▶ compensating ──▶ compensated / failed
 * ```
 *
 * @since 0.1.0
 */

/**
 * The statuses of a run.
 *
 * `pending`: claimable now or at its due time. `running`: claimed, its body executes.
 * `sleeping`: parked until a time. `waiting`: parked until an event or a child, perhaps with a
 * timeout. `paused`: stopped, visibly, for a person (`resume`). `compensating`: undoing.
 *
 * @category models
 * @since 0.1.0
 */
export type RunStatus =
  | "pending"
  | "running"
  | "sleeping"
  | "waiting"
  | "paused"
  | "compensating"
  | TerminalStatus

/**
 * The statuses that a run never leaves by itself.
 *
 * @category models
 * @since 0.1.0
 */
export type TerminalStatus = "completed" | "failed" | "compensated" | "cancelled" | "dead_letter"

/**
 * Every status, in the order in which a reader would list them.
 *
 * @category models
 * @since 0.1.0
 */
export const statuses: ReadonlyArray<RunStatus> = [
  "pending",
  "running",
  "sleeping",
  "waiting",
  "paused",
  "compensating",
  "completed",
  "failed",
  "compensated",
  "cancelled",
  "dead_letter",
]

/**
 * From each status, the statuses that may follow it.
 *
 * @category models
 * @since 0.1.0
 */
export const transitions: Readonly<Record<RunStatus, ReadonlyArray<RunStatus>>> = {
  // dead_letter: the claims without progress passed their limit (promise 11)
  // paused: by an operator, as wherever a run is in nobody's hands
  pending: ["running", "paused", "cancelled", "dead_letter"],
  running: [
    "pending",
    "sleeping",
    "waiting",
    "paused",
    "compensating",
    "completed",
    "failed",
    "cancelled",
    "dead_letter",
  ],
  sleeping: ["running", "pending", "paused", "cancelled"],
  waiting: ["running", "pending", "paused", "cancelled"],
  paused: ["pending", "compensating", "cancelled"],
  // paused: by an operator, or the code that should undo does not offer every undo (divergence)
  // cancelled: terminated, which undoes no more
  compensating: ["compensated", "failed", "paused", "cancelled", "dead_letter"],
  completed: [],
  // compensating: an operator has undos tried again, or skipped; so also below
  failed: ["pending", "compensating"],
  compensated: [],
  cancelled: [],
  dead_letter: ["pending", "compensating"],
}

const terminal: ReadonlySet<RunStatus> = new Set<RunStatus>([
  "completed",
  "failed",
  "compensated",
  "cancelled",
  "dead_letter",
])

/**
 * Whether a run in this status has settled.
 *
 * @category guards
 * @since 0.1.0
 */
export const isTerminal = (status: RunStatus): status is TerminalStatus => terminal.has(status)

/**
 * Whether the transition table allows `to` after `from`. A status may always follow itself while
 * it is not terminal (a claim of a compensating run, a hand-back).
 *
 * @category guards
 * @since 0.1.0
 */
export const canTransition = (from: RunStatus, to: RunStatus): boolean =>
  (from === to && !terminal.has(from)) || transitions[from].includes(to)
