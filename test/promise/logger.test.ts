/** Log lines on their way to a logger of the application, or to the console. */
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { afterEach, expect, it, vi } from "vitest"
import { type Logger, loggerLayer } from "../../src/promise/logger.ts"

afterEach(() => vi.restoreAllMocks())

const sayAll = (logger?: Logger) =>
  Effect.gen(function* () {
    yield* Effect.logTrace("trace")
    yield* Effect.logDebug("debug")
    yield* Effect.logInfo("info", 2)
    yield* Effect.logWarning("warning")
    yield* Effect.logError("error")
    yield* Effect.logFatal("fatal")
  }).pipe(
    Effect.provide(loggerLayer(logger)),
    Effect.provideService(References.MinimumLogLevel, "All"),
    Effect.runPromise,
  )

it("a logger hears each line at its level, with all its parts", async () => {
  const heard: Array<string> = []
  const at = (level: string) => (message: string) => void heard.push(`${level}: ${message}`)
  await sayAll({ debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") })
  expect(heard).toEqual([
    "debug: trace",
    "debug: debug",
    "info: info 2",
    "warn: warning",
    "error: error",
    "error: fatal",
  ])
})

it("without a logger, the console is told warnings and errors alone", async () => {
  const heard: Array<string> = []
  for (const level of ["log", "debug", "info", "warn", "error"] as const) {
    vi.spyOn(console, level).mockImplementation((line) => void heard.push(`${level}: ${line}`))
  }
  await sayAll()
  expect(heard).toEqual(["warn: warning", "error: error", "error: fatal"])
})
