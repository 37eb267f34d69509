/**
 * `defineWorkflow`: a plain async function as a workflow.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Engine } from "../Engine.ts"
import { anyValue } from "../engine/values.ts"
import type { Revive } from "../ErrorPayload.ts"
import type { DuplicateWorkflow, InvalidInput } from "../FlowlyError.ts"
import { checkName } from "../Name.ts"
import * as Workflow from "../Workflow.ts"
import { WorkflowRun } from "../WorkflowRun.ts"
import { makeContext, type WorkflowContext } from "./context.ts"
import { ErrorClasses } from "./errorClasses.ts"
import { invalid, orThrow } from "./FlowlyError.ts"
import type { Trap } from "./trap.ts"
import { checkSchema, type StandardSchema, validate } from "./standardSchema.ts"

/**
 * What a workflow may say beside its function.
 */
export interface WorkflowOptions<I> {
  /**
   * Of this code. A run belongs to the version that started it, and is executed by it alone: keep
   * the old definitions in `workflows` as long as there are runs of them.
   */
  readonly version?: string | undefined
  /** Checks the input: when a run is triggered, and each time a worker reads it. */
  readonly input?: StandardSchema<I> | undefined
  /**
   * Which endings of a run undo its completed steps. Default: all three. Who cancels a run may say
   * otherwise for that run.
   */
  readonly compensateOn?:
    | {
        readonly failure?: boolean | undefined
        readonly cancel?: boolean | undefined
        readonly timeout?: boolean | undefined
      }
    | undefined
}

/**
 * Which endings of a run undo its completed steps.
 */
export interface CompensateOn {
  readonly failure: boolean
  readonly cancel: boolean
  readonly timeout: boolean
}

/**
 * A workflow: its name, and the function that the engine runs, and replays.
 */
export interface WorkflowDefinition<in out I, in out O> {
  readonly name: string
  readonly version: string | null
  readonly inputSchema: StandardSchema<I> | null
  readonly compensateOn: CompensateOn
  readonly run: (ctx: WorkflowContext, input: I) => Promise<O> | O
}

/**
 * Any definition: also of a workflow that never returns, which `WorkflowDefinition<any, any>` is not.
 */
export interface AnyWorkflow {
  readonly name: string
  readonly version: string | null
  readonly inputSchema: StandardSchema<any> | null
  readonly compensateOn: CompensateOn
  readonly run: (ctx: WorkflowContext, input: any) => unknown
}

/**
 * Defines a workflow. The function must be deterministic: what touches the world belongs into
 * `ctx.step`.
 */
export const defineWorkflow = <I = undefined, O = void>(
  name: string,
  run: (ctx: WorkflowContext, input: I) => Promise<O> | O,
  options?: WorkflowOptions<I>,
): WorkflowDefinition<I, O> => {
  orThrow(checkName(name, "workflow name"))
  const { version, input, compensateOn } = options ?? {}
  if (typeof run !== "function") throw invalid(`workflow "${name}"`, "its run must be a function")
  if (version !== undefined) orThrow(checkName(version, `version of workflow "${name}"`))
  if (input !== undefined) checkSchema(input, `input of workflow "${name}"`)
  for (const [key, value] of Object.entries(compensateOn ?? {})) {
    if (!["failure", "cancel", "timeout"].includes(key) || typeof value !== "boolean") {
      throw invalid(
        `compensateOn of workflow "${name}"`,
        "may have failure, cancel and timeout, each true or false",
      )
    }
  }
  const { failure = true, cancel = true, timeout = true } = compensateOn ?? {}
  return {
    name,
    version: version ?? null,
    inputSchema: input ?? null,
    compensateOn: { failure, cancel, timeout },
    run,
  }
}

/**
 * The definition, registered with the engine for the life of the layer.
 */
export const layerOf = (
  definition: AnyWorkflow,
  { trap = null, revive }: { readonly trap?: Trap | null; readonly revive?: Revive } = {},
): Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine> => {
  const { inputSchema } = definition
  return Workflow.register({
    name: definition.name,
    version: definition.version,
    compensateOn: definition.compensateOn,
    payload:
      inputSchema === null
        ? anyValue
        : {
            encode: anyValue.encode,
            decode: (encoded) =>
              Effect.flatMap(anyValue.decode(encoded), (value) =>
                Effect.mapError(validate(inputSchema, value), ({ reason }) => reason),
              ),
          },
    success: anyValue,
    error: null,
    body: (input) =>
      Effect.flatMap(Effect.context<WorkflowRun>(), (context) => {
        const services = revive === undefined ? context : Context.add(context, ErrorClasses, revive)
        const run = Context.get(context, WorkflowRun)
        return Effect.tryPromise({
          try: async () => {
            const ctx = makeContext(services, run)
            if (trap === null) return definition.run(ctx, input)
            return trap.watch(definition.name, ctx, (watched) => definition.run(watched, input))
          },
          catch: (error) => error,
        })
      }),
  })
}
