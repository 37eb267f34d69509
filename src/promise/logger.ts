/**
 * Where the engine's log lines go: a logger of the application, or the console for warnings.
 * Payloads are never logged.
 */
import * as Layer from "effect/Layer"
import * as EffectLogger from "effect/Logger"

/**
 * Anything shaped like pino.
 */
export interface Logger {
  readonly debug: (message: string) => void
  readonly info: (message: string) => void
  readonly warn: (message: string) => void
  readonly error: (message: string) => void
}

const toConsole: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message) => console.warn(message),
  error: (message) => console.error(message),
}

/**
 * Sends Effect's log lines to the logger.
 */
export const loggerLayer = (logger: Logger = toConsole): Layer.Layer<never> =>
  EffectLogger.layer([
    EffectLogger.make(({ logLevel, message }) => {
      const text = Array.isArray(message) ? message.map(String).join(" ") : String(message)
      if (logLevel === "Fatal" || logLevel === "Error") logger.error(text)
      else if (logLevel === "Warn") logger.warn(text)
      else if (logLevel === "Info") logger.info(text)
      else logger.debug(text)
    }),
  ])
