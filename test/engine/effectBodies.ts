/**
 * Hand-written bodies of the Effect API: fibers, interruption, typed errors, dice and clock.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Child from "../../src/Child.ts"
import { anyValue } from "../../src/engine/values.ts"
import * as Event from "../../src/Event.ts"
import type { RunStatus } from "../../src/Run.ts"
import * as Sleep from "../../src/Sleep.ts"
import * as Step from "../../src/Step.ts"
import * as Workflow from "../../src/Workflow.ts"
import * as WorkflowBody from "../../src/WorkflowBody.ts"
import { WorkflowRun } from "../../src/WorkflowRun.ts"
import type { Program } from "./replay.ts"
import type { Execution, World } from "./world.ts"

class Refused extends Schema.TaggedError<Refused>("test/Refused")("Refused", {
  by: Schema.String,
}) {}

interface Watched {
  readonly world: World
  readonly note: (site: string, value: unknown) => void
  /** A watched step; `undo` gives it a compensation. */
  readonly step: <A>(
    name: string,
    run: Effect.Effect<A, Refused>,
    options?: { readonly undo?: boolean; readonly retries?: number },
  ) => Effect.Effect<A, Refused, WorkflowRun>
}

const watch = (world: World, execution: Execution): Watched => ({
  world,
  note: (site, value) => {
    execution.notes.set(site, String(value))
  },
  step: (name, run, options) =>
    Step.make<any, Refused>(name, {
      error: Refused,
      run: (info) =>
        Effect.andThen(
          Effect.sync(() => world.runs(info)),
          run,
        ),
      retry: { maxAttempts: 1 + (options?.retries ?? 0), initialDelayMs: 700, backoff: "fixed" },
      ...(options?.undo ? { compensate: (_, info) => Effect.sync(() => world.undoes(info)) } : {}),
    }).pipe(
      Effect.tap(() => Effect.sync(() => execution.seen.push(`${name} completed`))),
      Effect.tapError(() => Effect.sync(() => execution.seen.push(`${name} failed`))),
    ),
})

type Body = (watched: Watched) => Effect.Effect<unknown, unknown, WorkflowRun>

const layerOf = (name: string, world: World, body: Body) =>
  WorkflowBody.register({
    name,
    version: null,
    payload: anyValue,
    success: anyValue,
    error: Refused,
    body: () =>
      Effect.flatMap(WorkflowRun, ({ workflowRunId, attempt }) =>
        body(watch(world, world.begin(workflowRunId, attempt))),
      ),
  })

const program = (
  name: string,
  body: Body,
  options: {
    readonly result?: unknown
    readonly ends?: RunStatus
    readonly attempts?: number
    readonly maxAttempts?: number
    readonly anyEnd?: boolean
    readonly child?: Body
  } = {},
): Program => ({
  name,
  main: name,
  input: undefined,
  code: (world) => [
    layerOf(name, world, body),
    ...(options.child ? [layerOf("the child", world, options.child)] : []),
  ],
  maxAttempts: options.maxAttempts,
  attempts: options.attempts,
  anyEnd: options.anyEnd ?? false,
  ends: options.ends ?? "completed",
  result: options.result,
})

const child = Workflow.make("the child", { success: Schema.Unknown, error: Refused })

const after = <A>(ms: number, value: A) => Effect.as(Effect.sleep(ms), value)

export const effectBodies: ReadonlyArray<Program> = [
  program(
    "steps in a generator",
    ({ step }) =>
      Effect.gen(function* () {
        const a = yield* step("a", Effect.succeed(1))
        yield* Sleep.make("nap", "2 seconds")
        const b = yield* step("a", Effect.succeed(a + 1))
        yield* Event.emit("done", { a, b })
        return [a, b]
      }),
    { result: [1, 2] },
  ),

  program(
    "Effect.race: a step beats a sleep",
    ({ step, note }) =>
      Effect.gen(function* () {
        const winner = yield* Effect.race(
          step("fast", Effect.succeed("fast")),
          Effect.as(Sleep.make("limit", "1 day"), "late"),
        )
        note("race", winner)
        yield* Sleep.make("nap", "2 seconds")
        return [winner, yield* step(`after ${winner}`, Effect.succeed(1))]
      }),
    { result: ["fast", 1] },
  ),

  program(
    "Effect.race: a sleep beats a step, which is interrupted",
    ({ step, note }) =>
      Effect.gen(function* () {
        const winner = yield* Effect.race(
          step("endless", Effect.never),
          Effect.as(Sleep.make("limit", "500 millis"), "late"),
        )
        note("race", winner)
        yield* Sleep.make("nap", "2 seconds")
        return [winner, yield* step("end", Effect.succeed("end"))]
      }),
    { result: ["late", "end"] },
  ),

  program(
    "races of different depth",
    ({ step, note }) =>
      Effect.gen(function* () {
        const deep = step("deep", after(40, "deep")).pipe(
          Effect.tap(() => Effect.yieldNow),
          Effect.flatMap((value) => Effect.yieldNow.pipe(Effect.as(value))),
        )
        const winners: Array<string> = []
        for (let i = 0; i < 3; i++) {
          const inner = Effect.race(deep, Effect.race(step("flat", after(40, "flat")), deep))
          const winner = yield* Effect.race(inner, Effect.as(Sleep.make("never", "1 day"), "late"))
          note(`race ${i}`, winner)
          winners.push(winner, yield* step(`after ${winner}`, Effect.succeed("!")))
        }
        return winners
      }),
    { anyEnd: true },
  ),

  program(
    "Effect.all, unbounded",
    ({ step }) =>
      Effect.gen(function* () {
        const all = yield* Effect.all(
          [
            step("a", after(60, "a")),
            Sleep.make("short", "100 millis"),
            step("b", after(20, "b")),
            Sleep.make("long", "2 seconds"),
            step("same", Effect.succeed(1)),
            step("same", Effect.succeed(2)),
          ],
          { concurrency: "unbounded" },
        )
        return [...all, yield* step("end", Effect.succeed("end"))]
      }),
    { result: ["a", undefined, "b", undefined, 1, 2, "end"] },
  ),

  program(
    "Effect.forEach, two at a time",
    ({ step }) =>
      Effect.forEach([1, 2, 3, 4, 5], (n) => step("item", after(n * 7, n)), { concurrency: 2 }),
    { result: [1, 2, 3, 4, 5] },
  ),

  program(
    "a forked fiber that is joined",
    ({ step }) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(
          Effect.andThen(Sleep.make("inside", "1500 millis"), step("forked", Effect.succeed("f"))),
        )
        const main = yield* step("main", Effect.succeed("m"))
        return [main, yield* Fiber.join(fiber), yield* step("end", Effect.succeed("e"))]
      }),
    { result: ["m", "f", "e"] },
  ),

  program(
    "a branch that is interrupted by the body",
    ({ step, note }) =>
      Effect.gen(function* () {
        let cleaned = false
        const fiber = yield* Effect.forkChild(
          step("branch", Effect.never).pipe(Effect.ensuring(Effect.sync(() => (cleaned = true)))),
        )
        yield* step("a", Effect.succeed("a"))
        yield* Fiber.interrupt(fiber)
        note("cleaned", cleaned)
        yield* Sleep.make("nap", "2 seconds")
        return [cleaned, yield* step("b", Effect.succeed("b"))]
      }),
    { result: [true, "b"] },
  ),

  program(
    "a branch that is interrupted while it backs off",
    ({ step, world }) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(
          step(
            "hopeless",
            Effect.suspend(() => {
              world.count("hopeless")
              return Effect.fail(new Refused({ by: "the service" }))
            }),
            { retries: 100 },
          ),
        )
        yield* Sleep.make("nap", "1 second")
        yield* Fiber.interrupt(fiber)
        yield* Sleep.make("long nap", "3 seconds")
        return yield* step("end", Effect.succeed("end"))
      }),
    { result: "end" },
  ),

  program(
    "a retry written in the body",
    ({ step, world }) =>
      Effect.gen(function* () {
        const value = yield* step(
          "shaky",
          Effect.suspend(() =>
            world.count("shaky") <= 2
              ? Effect.fail(new Refused({ by: "the service" }))
              : Effect.succeed("at last"),
          ),
        ).pipe(Effect.retry({ times: 4 }))
        return [value, yield* step("end", Effect.succeed("end"))]
      }),
    { result: ["at last", "end"] },
  ),

  program(
    "a typed error, caught",
    ({ step, note }) =>
      Effect.gen(function* () {
        const by = yield* step("refuse", Effect.fail(new Refused({ by: "them" }))).pipe(
          Effect.catchTag("Refused", (refused) => {
            note("instance", refused instanceof Refused)
            return step("fallback", Effect.succeed(refused.by))
          }),
        )
        return by
      }),
    { result: "them" },
  ),

  program(
    "dice and clock in the body",
    ({ step, note }) =>
      Effect.gen(function* () {
        const seen: Array<number> = []
        for (let i = 0; i < 4; i++) {
          const dice = yield* Random.next
          const at = yield* Clock.currentTimeMillis
          note(`dice ${i}`, dice)
          note(`clock ${i}`, at)
          seen.push(dice, at)
          yield* step(dice < 0.5 ? "low" : "high", Effect.succeed(1))
          if (i === 1) yield* Sleep.make("nap", "2 seconds")
        }
        const monotone = seen.filter((_, i) => i % 2 === 1)
        return monotone.every((at, i) => i === 0 || at >= (monotone[i - 1] ?? 0))
      }),
    { anyEnd: true },
  ),

  program(
    "dice in parallel branches",
    ({ step, note }) =>
      Effect.all(
        ["x", "y", "z"].map((name, i) =>
          Effect.gen(function* () {
            yield* step(name, after(20 * (3 - i), i))
            const dice = yield* Random.nextIntBetween(0, 1000)
            note(name, dice)
            return yield* step(`${name} ${dice}`, Effect.succeed(name))
          }),
        ),
        { concurrency: "unbounded" },
      ),
    { result: ["x", "y", "z"] },
  ),

  program(
    "UUIDs in branches, and a branch that the dice chose before a failure that is retried",
    ({ step, note, world }) =>
      Effect.gen(function* () {
        const dice = yield* Random.nextIntBetween(0, 1_000_000)
        yield* Effect.all(
          ["x", "y"].map((name, i) =>
            Effect.gen(function* () {
              yield* step(`${name} ${dice}`, after(10 * (2 - i), i))
              const id = yield* Workflow.uuid
              note(name, id)
              yield* step(`${name} ${id}`, Effect.void)
            }),
          ),
          { concurrency: "unbounded" },
        )
        yield* step(
          "shaky",
          Effect.suspend(() =>
            world.count("shaky") < 3 ? Effect.fail(new Refused({ by: "luck" })) : Effect.void,
          ),
        )
        return "done"
      }),
    { attempts: 3, maxAttempts: 4, result: "done" },
  ),

  program(
    "patches, also of a branch that lost its race",
    ({ step, note }) =>
      Effect.gen(function* () {
        const winner = yield* Effect.raceFirst(
          step("fast", after(5, "fast")),
          Effect.andThen(Workflow.patched("one"), Sleep.make("never", "1 day")),
        )
        const answers = yield* Effect.all(
          ["one", "two", "one"].map((id) => Workflow.patched(id)),
          { concurrency: "unbounded" },
        )
        note("answers", answers)
        yield* step(`after ${answers.join()}`, Effect.void)
        return [winner, ...answers]
      }),
    { result: ["fast", true, true, true] },
  ),

  program(
    "a finalizer with a step",
    ({ step }) =>
      Effect.gen(function* () {
        const log: Array<string> = []
        yield* step("a", Effect.fail(new Refused({ by: "a" }))).pipe(
          Effect.ensuring(
            Effect.orDie(
              Effect.map(step("finally", Effect.succeed("f")), (value) => log.push(value)),
            ),
          ),
          Effect.catchTag("Refused", () =>
            Effect.map(step("catch", Effect.succeed("c")), (value) => log.push(value)),
          ),
        )
        return log
      }),
    { result: ["f", "c"] },
  ),

  program(
    "a child, and a child that fails",
    ({ step, note }) =>
      Effect.gen(function* () {
        const first = yield* Child.run(child, undefined, { name: "one" }).pipe(
          Effect.catchTag("Refused", ({ by }) => Effect.succeed(by)),
          Effect.catchTag("ChildFailed", ({ status }) => Effect.succeed(status)),
        )
        note("first", first)
        return [first, yield* step("end", Effect.succeed("end"))]
      }),
    {
      result: ["the child", "end"],
      child: ({ step }) =>
        Effect.andThen(
          Sleep.make("think", "1500 millis"),
          step("c", Effect.fail(new Refused({ by: "the child" }))),
        ),
    },
  ),

  program(
    "a saga",
    ({ step }) =>
      Effect.gen(function* () {
        yield* step("a", Effect.succeed(1), { undo: true })
        yield* Effect.all(
          [step("b", after(30, 2), { undo: true }), step("c", after(10, 3), { undo: true })],
          { concurrency: "unbounded" },
        )
        return yield* step("d", Effect.fail(new Refused({ by: "d" })), { undo: true })
      }),
    { ends: "compensated" },
  ),

  program(
    "a run that is retried",
    ({ step, world }) =>
      Effect.gen(function* () {
        const a = yield* step("a", Effect.succeed("a"))
        const [, b] = yield* Effect.all(
          [
            step(
              "shaky",
              Effect.suspend(() =>
                world.count("shaky") <= 1
                  ? Effect.fail(new Refused({ by: "the service" }))
                  : Effect.succeed("steady"),
              ),
            ),
            step("b", Effect.succeed("b")),
          ],
          { concurrency: "unbounded" },
        )
        return [a, b]
      }),
    { maxAttempts: 3, attempts: 2, result: ["a", "b"] },
  ),
]
