/**
 * Processes with an engine in them: the promise facade, as an application uses it, on the network's
 * store. A process that could not start dies and is replaced, as a supervisor of processes would.
 */
import { inspect } from "node:util"
import * as Layer from "effect/Layer"
import { DurableEngine } from "../../src/promise/DurableEngine.ts"
import { FlowlyError } from "../../src/promise/FlowlyError.ts"
import { MemoryWorkflowStore } from "../../src/promise/MemoryWorkflowStore.ts"
import type { DurableEngineOptions } from "../../src/promise/options.ts"
import type { TriggerItem } from "../../src/promise/trigger.ts"
import { layUnder } from "../../src/promise/underlay.ts"
import type { AnyWorkflow } from "../../src/promise/workflow.ts"
import { layerStore } from "../../src/EngineClock.ts"
import { WorkflowStore } from "../../src/WorkflowStore.ts"
import type { Options } from "./faults.ts"
import type { Machine, Process } from "./machine.ts"
import type { Network } from "./network.ts"
import type { effectWorkflows } from "./effectBody.ts"
import type { Timeline } from "./timeline.ts"
import { canary } from "./watched.ts"

/** A run to start. */
export type Item = TriggerItem<any>

export interface Outcome {
  readonly status: string
  readonly value: unknown
}

/** A process and the engine in it. */
export interface Node {
  readonly process: Process
  readonly engine: DurableEngine
  /** Answers the id of the run. */
  readonly trigger: (
    workflow: number,
    item: Item & { readonly deadline: number },
  ) => Promise<string>
  readonly triggerMany: (
    workflow: number,
    items: ReadonlyArray<Item>,
    deadlineMs: number,
  ) => Promise<ReadonlyArray<string>>
  readonly schedule: (
    workflow: number,
    options: { readonly cron: string; readonly key: string },
  ) => Promise<unknown>
  /** How the run ended. */
  readonly result: (workflow: number, workflowRunId: string) => Promise<Outcome>
  started: boolean
  stopping: boolean
}

/** How long a worker that stops waits for its runs. */
export const shutdownTimeoutMs = 3000

export interface WorkersOptions {
  readonly machine: Machine
  readonly network: Network
  readonly options: Options
  readonly timeline: Timeline
  readonly logs: Array<string>
  readonly workflows: () => ReadonlyArray<AnyWorkflow>
  /** Those whose bodies are effects, by name. */
  readonly effects: () => ReturnType<typeof effectWorkflows>
}

export class Workers {
  readonly nodes: Array<Node> = []
  /** Triggers, cancels and sends; executes nothing. */
  readonly client: Node
  readonly #given: WorkersOptions
  #booted = 0

  constructor(given: WorkersOptions) {
    this.#given = given
    this.client = this.#make("client", false)
  }

  alive(): ReadonlyArray<Node> {
    return this.nodes.filter(({ process, stopping }) => process.state !== "dead" && !stopping)
  }

  boot(): void {
    this.nodes.push(this.#make(`w${++this.#booted}`, true))
  }

  kill(node: Node, reason: string): void {
    const { machine, timeline } = this.#given
    timeline.add(node.process, reason)
    machine.kill(node.process)
  }

  /** Stops gracefully; `then` when the process may go. */
  stop(node: Node, then: () => void): void {
    const { machine, timeline } = this.#given
    node.stopping = true
    node.process.stoppingAt = machine.now
    timeline.add(node.process, "stops")
    machine.task(node.process, () => {
      void (async () => {
        try {
          await node.engine.stop()
          timeline.add(node.process, "has stopped")
          then()
        } catch (error) {
          machine.crashes.push(error)
        }
      })()
    })
  }

  #make(name: string, works: boolean): Node {
    const { machine, network, options, timeline, workflows, effects, logs } = this.#given
    const process = machine.spawn(name)
    const known = workflows()
    const layers = effects()
    const given: DurableEngineOptions = { workflows: known, logger: loggerTo(logs) }
    layUnder(given, {
      clock: Layer.empty,
      engineClock: layerStore,
      layerOf: ({ name: workflow }) => layers.get(workflow) ?? null,
      store: () => Layer.succeed(WorkflowStore, network.clientOf(process)),
      worker: {
        pollIntervalMs: options.pollMs,
        maxConcurrent: options.maxConcurrent,
        leaseMs: options.leaseMs,
        shutdownTimeoutMs,
        limits: {
          shortWaitMs: options.shortWaitMs,
          // bodies do no asynchronous work of their own here
          parkGraceMs: 0,
          divergenceGraceMs: 20,
          drainMs: 5000,
        },
      },
      onEngine: () => {},
      onWorker: () => {},
    })
    const engine = new DurableEngine(given)
    engine.setStore(new MemoryWorkflowStore())
    const node: Node = {
      process,
      engine,
      ...callsOf(engine, known),
      started: false,
      stopping: false,
    }
    if (works) {
      timeline.add(process, "boots")
      machine.task(process, () => {
        void (async () => {
          try {
            await engine.start()
            node.started = true
          } catch {
            this.kill(node, "could not start")
            machine.after(machine.nature, 500, () => this.boot())
          }
        })()
      })
    }
    return node
  }
}

/** What the promise API offers to those who start runs and wait for them. */
const callsOf = (
  engine: DurableEngine,
  known: ReadonlyArray<AnyWorkflow>,
): Pick<Node, "trigger" | "triggerMany" | "schedule" | "result"> => {
  const at = (index: number) => {
    const workflow = known[index]
    if (workflow === undefined) throw new Error("no such workflow")
    return workflow
  }
  return {
    trigger: async (index, item) => (await engine.trigger(at(index), item)).workflowRunId,
    triggerMany: async (index, items, deadline) => {
      const settled = await engine.triggerMany(at(index), items, { deadline })
      return settled.map((one) => {
        if (one.status === "rejected") throw one.reason
        return one.value.workflowRunId
      })
    },
    schedule: (index, options) =>
      engine.schedule(at(index), { ...options, input: { secret: canary } }),
    result: async (index, workflowRunId) => {
      try {
        const value = await engine.handle(at(index), workflowRunId).result()
        return { status: "completed", value }
      } catch (error) {
        if (!(error instanceof FlowlyError) || error.code !== "RunFailed") throw error
        return { status: String(error.details["status"]), value: null }
      }
    },
  }
}

const loggerTo = (logs: Array<string>) => {
  const write = (...given: ReadonlyArray<unknown>) => {
    logs.push(inspect(given, { depth: 8 }))
  }
  return { debug: write, info: write, warn: write, error: write }
}
