/**
 * `defineWorkflow`: a plain async function as a workflow.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type { Engine } from "../Engine.ts"
import type { BodyEnd, Execution } from "../engine/Execution.ts"
import { anyValue, reasonOf } from "../engine/values.ts"
import { encodeError, type Revive } from "../ErrorPayload.ts"
import type { DuplicateWorkflow, InvalidInput } from "../FlowlyError.ts"
import { checkName } from "../Name.ts"
import { decode, encode, type Encoded } from "../Payload.ts"
import * as WorkflowBody from "../WorkflowBody.ts"
import { runBody } from "../WorkflowRun.ts"
import { makeContext, type WorkflowContext } from "./context.ts"
import { invalid, orThrow } from "./FlowlyError.ts"
import { checkKnown, type Names, optionOf } from "./knownOptions.ts"
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
  checkKnown(options, workflowNames, optionOf(`workflow "${name}"`))
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

const workflowNames: Names<WorkflowOptions<any>> = {
  version: true,
  input: true,
  compensateOn: true,
}

/**
 * The definition, registered with the engine for the life of the layer.
 */
export const layerOf = (
  definition: AnyWorkflow,
  options: { readonly trap?: Trap | null; readonly revive?: Revive } = {},
): Layer.Layer<never, DuplicateWorkflow | InvalidInput, Engine> => {
  const { trap = null, revive = asTheyAre } = options
  const { name, version, compensateOn, inputSchema } = definition
  return WorkflowBody.registerBody({ name, version, compensateOn }, (services) => {
    const run = (execution: Execution, input: unknown) => {
      const ctx = makeContext({ execution, services, revive })
      if (trap === null) return definition.run(ctx, input)
      return trap.watch(name, ctx, (watched) => definition.run(watched, input))
    }
    return (execution, onEnd) => {
      const body = new PlainBody(execution, run, onEnd)
      const { input } = execution.run
      if (inputSchema === null) {
        body.read(input)
        return () => body.abandon()
      }
      const read = Effect.flatMapEager(anyValue.decode(input), (value) =>
        Effect.mapErrorEager(validate(inputSchema, value), ({ reason }) => reason),
      )
      const begin = Effect.matchEager(read, {
        onSuccess: (value) => body.begin(value),
        onFailure: (reason) => body.unreadable(reason),
      })
      if (Exit.isExit(begin)) return () => body.abandon()
      // this schema takes its time
      const stopReading = runBody({ execution, services, body: begin })
      return () => {
        body.abandon()
        stopReading()
      }
    }
  })
}

const asTheyAre: Revive = (_, plain) => plain

/**
 * A function that executes as the body of a run, from its stored input to its stored end. No fiber: it
 * would cost a tenth of all that a run of three steps costs this process.
 */
class PlainBody {
  readonly #execution: Execution
  readonly #run: (execution: Execution, input: unknown) => unknown
  readonly #onEnd: (end: BodyEnd) => void
  #abandoned = false

  constructor(
    execution: Execution,
    run: (execution: Execution, input: unknown) => unknown,
    onEnd: (end: BodyEnd) => void,
  ) {
    this.#execution = execution
    this.#run = run
    this.#onEnd = onEnd
  }

  /** Its end is nobody's concern any more. */
  abandon(): void {
    this.#abandoned = true
  }

  read(stored: Encoded): void {
    let input: unknown
    try {
      input = decode(stored)
    } catch (error) {
      return this.unreadable(reasonOf(error))
    }
    this.begin(input)
  }

  unreadable(reason: string): void {
    this.#end(WorkflowBody.unreadable("input", reason))
  }

  begin(input: unknown): void {
    let returned: unknown
    try {
      returned = this.#run(this.#execution, input)
    } catch (error) {
      return this.#failed(error)
    }
    Promise.resolve(returned).then(
      (value) => this.#returned(value),
      (error: unknown) => this.#failed(error),
    )
  }

  #returned(value: unknown): void {
    let end: BodyEnd
    try {
      const result = Result.getOrThrow(encode(value, { field: "result of the workflow" }))
      end = { _tag: "Success", result }
    } catch (error) {
      return this.#failed(error)
    }
    this.#end(end)
  }

  #failed(raw: unknown): void {
    this.#end({ _tag: "Failure", error: encodeError(raw), raw })
  }

  #end(end: BodyEnd): void {
    if (!this.#abandoned) this.#onEnd(WorkflowBody.redacted(this.#execution, end))
  }
}
