/**
 * flowly: durable workflows on the Postgres you already have. The API of ordinary Node code.
 *
 * @since 0.1.0
 */
export type { ControlVerb } from "./Control.ts"
export type { DurationInput } from "./DurationInput.ts"
export type { ChildHandle, ChildOptions } from "./promise/children.ts"
export type { WorkflowContext } from "./promise/context.ts"
export type {
  CompensateFunction,
  CompensateOptions,
  RetryOptions,
  StepInfo,
  StepOptions,
  TryInfo,
} from "./promise/step.ts"
export { NonRetryableError, RetryAfterError } from "./StepError.ts"
export type { EventReceived, EventTimedOut, WaitFor, WaitOptions } from "./promise/events.ts"
export { DurableEngine } from "./promise/DurableEngine.ts"
export type { RunHandle, SendOptions } from "./promise/handle.ts"
export type { Health } from "./promise/health.ts"
export type { ErrorClass } from "./promise/errorClasses.ts"
export type { GrantOptions } from "./postgres/grants.ts"
export { grants } from "./promise/grants.ts"
export { FlowlyError } from "./promise/FlowlyError.ts"
export type { EmittedEvent, HookEvent, HookName } from "./promise/hooks.ts"
export type { Logger } from "./promise/logger.ts"
export { MemoryWorkflowStore } from "./promise/MemoryWorkflowStore.ts"
export type { StandardResult, StandardSchema } from "./promise/standardSchema.ts"
export type { DurableEngineOptions, PoolLike } from "./promise/options.ts"
export type { PayloadCodec, PayloadCodecs } from "./PayloadCodec.ts"
export type { Redact } from "./Redaction.ts"
export type { Attributes, AttributeValue } from "./Attributes.ts"
export type { ControlOptions, ManyAnswer } from "./engine/control.ts"
export type { PageOptions, RunFilter } from "./engine/selection.ts"
export type { RunExplanation, RunWaitsFor } from "./promise/explanation.ts"
export type { RecordedStep, RunInfo, RunPage } from "./promise/runInfo.ts"
export type { ControlLogEntry, ForkFrom, ForkOptions, RunControls } from "./promise/RunControls.ts"
export type { RunStatusBase, StepCompensation, WorkflowStatus } from "./promise/status.ts"
export type { TriggerItem, TriggerLimits, TriggerOptions } from "./promise/trigger.ts"
export type {
  CallersClient,
  TransactionClient,
  TransactionOptions,
  TransactionStep,
} from "./promise/transaction.ts"
export {
  type AnyWorkflow,
  type CompensateOn,
  defineWorkflow,
  type WorkflowDefinition,
  type WorkflowOptions,
} from "./promise/workflow.ts"
