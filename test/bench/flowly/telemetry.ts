/**
 * What an application adds to see its runs with OpenTelemetry: a span for each run, one below it for
 * each try of a step, counters and a histogram, made of the engine's lifecycle and sent over OTLP.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Otlp from "effect/observability/Otlp"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { Engine } from "../../../src/effect.ts"

/** The exporters, as they are without options: JSON, batches of 1000 spans or what 5 s brought. */
const exporting = (collector: string) =>
  Otlp.layer({ baseUrl: collector, resource: { serviceName: "bench" } }).pipe(
    Layer.provide(OtlpSerialization.layerJson),
    Layer.provide(FetchHttpClient.layer),
  )

const runsEnded = Metric.counter("runs_ended", { incremental: true })
const stepsEnded = Metric.counter("steps_ended", { incremental: true })
const runSeconds = Metric.histogram("run_seconds", {
  boundaries: Metric.exponentialBoundaries({ start: 0.001, factor: 2, count: 16 }),
})

interface OpenRun {
  readonly span: Tracer.Span
  readonly startedAt: bigint
  readonly steps: Map<string, Tracer.Span>
}

const watching = Effect.gen(function* () {
  const engine = yield* Engine.Engine
  const tracer = yield* Effect.tracer
  const clock = yield* Clock.Clock
  const open = new Map<string, OpenRun>()
  const spanOf = (name: string, parent: Option.Option<Tracer.AnySpan>, startTime: bigint) =>
    tracer.span({
      name,
      parent,
      annotations: Context.empty(),
      links: [],
      startTime,
      kind: "internal",
      root: Option.isNone(parent),
      sampled: true,
    })
  const endRun = (id: string, exit: Exit.Exit<unknown, unknown>) => {
    const run = open.get(id)
    if (run === undefined) return
    const now = clock.currentTimeNanosUnsafe()
    open.delete(id)
    run.span.end(now, exit)
    runsEnded.updateUnsafe(1, Context.empty())
    runSeconds.updateUnsafe(Number(now - run.startedAt) / 1e9, Context.empty())
  }
  engine.onLifecycle((told) => {
    const { workflowRunId: id } = told
    if (told.type === "workflow:started") {
      const startedAt = clock.currentTimeNanosUnsafe()
      const span = spanOf(told.workflow, Option.none(), startedAt)
      span.attribute("workflow_run_id", id)
      span.attribute("attempt", told.attempt)
      open.set(id, { span, startedAt, steps: new Map() })
    } else if (told.type === "workflow:completed") {
      endRun(id, Exit.void)
    } else if (told.type === "workflow:failed") {
      endRun(id, Exit.fail(told.status))
    } else if (told.type === "step") {
      const { event } = told
      const run = open.get(id)
      if (run === undefined) return
      const now = clock.currentTimeNanosUnsafe()
      if (event._tag === "step:started") {
        const span = spanOf(event.stepKey, Option.some(run.span), now)
        span.attribute("attempt", event.attempt)
        run.steps.set(event.stepKey, span)
      } else if (event._tag === "step:completed" || event._tag === "step:failed") {
        const exit = event._tag === "step:completed" ? Exit.void : Exit.fail(event.error.message)
        run.steps.get(event.stepKey)?.end(now, exit)
        run.steps.delete(event.stepKey)
        stepsEnded.updateUnsafe(1, Context.empty())
      }
    }
  })
})

/** Spans and metrics of all runs that this process executes, sent to a collector. */
export const telemetry = (collector: string) =>
  Layer.effectDiscard(watching).pipe(Layer.provideMerge(exporting(collector)))
