/**
 * flowly for Effect applications: each module is a namespace.
 *
 * @since 0.1.0
 */
export * as Attributes from "./Attributes.ts"
export * as Child from "./Child.ts"
export * as Compensation from "./Compensation.ts"
export * as Control from "./Control.ts"
export * as Engine from "./Engine.ts"
export * as EngineClock from "./EngineClock.ts"
export * as Event from "./Event.ts"
export * as FlowlyError from "./FlowlyError.ts"
export * as Journal from "./Journal.ts"
export * as MemoryStore from "./MemoryStore.ts"
export * as Payload from "./Payload.ts"
export * as PayloadCodec from "./PayloadCodec.ts"
export * as PostgresStore from "./PostgresStore.ts"
export * as Redaction from "./Redaction.ts"
export * as RetryPolicy from "./RetryPolicy.ts"
export * as Run from "./Run.ts"
export * as Sleep from "./Sleep.ts"
export * as Step from "./Step.ts"
export * as Token from "./Token.ts"
export * as Worker from "./Worker.ts"
export * as Workflow from "./Workflow.ts"
export * as WorkflowRun from "./WorkflowRun.ts"
export * as WorkflowStore from "./WorkflowStore.ts"
