/** Programs as text, for those who read why a seed has failed. */
import type { Block, Program } from "./program.ts"

/** A block as text, a command a line. */
export const printBlock = (block: Block, indent = "    "): string =>
  block
    .map((command) => {
      const { is, ...rest } = command
      const values: Array<string> = []
      const parts: Array<string> = []
      for (const [key, value] of Object.entries(rest)) {
        if (key === "arms") {
          for (const arm of value as ReadonlyArray<Block>) {
            parts.push(`${indent}  arm:`, printBlock(arm, `${indent}    `))
          }
        } else if (Array.isArray(value)) {
          parts.push(`${indent}  ${key}:`, printBlock(value as Block, `${indent}    `))
        } else values.push(`${key}=${String(value)}`)
      }
      return [`${indent}${is} ${values.join(" ")}`, ...parts].join("\n")
    })
    .join("\n")

export const printProgram = ({ workflows, starts, bulk = [], schedules = [] }: Program): string =>
  [
    ...workflows.map(({ name, block, api = "promise" }) => {
      const how = api === "promise" ? "" : ` (${api})`
      return `  ${name}${how}:\n${printBlock(block)}`
    }),
    ...starts.map(
      (start) =>
        `  ${start.key}: w${start.workflow} at ${start.atMs} ms` +
        (start.maxAttempts === null ? "" : `, ${start.maxAttempts} attempts`) +
        (start.timeoutMs === null ? "" : `, within ${start.timeoutMs} ms`) +
        (start.triggers === 1 ? "" : `, triggered ${start.triggers} times`) +
        (start.cancel === null ? "" : `, cancelled after ${start.cancel.afterMs} ms`) +
        (start.cancel?.compensate === false ? " without undoing" : "") +
        (start.pause === null
          ? ""
          : `, paused after ${start.pause.afterMs} ms for ${start.pause.forMs} ms`) +
        (start.terminateAfterMs === null ? "" : `, terminated after ${start.terminateAfterMs} ms`) +
        (start.retryAfterMs === null ? "" : `, retried after ${start.retryAfterMs} ms`) +
        (start.delayMs == null ? "" : `, for ${start.delayMs} ms later`) +
        (start.batch == null ? "" : `, with all of batch ${start.batch}`) +
        (start.fork == null
          ? ""
          : `, forked from ${start.fork.position ?? "its end"} after ${start.fork.afterMs} ms`),
    ),
    ...bulk.map(({ atMs, verb, workflow }) => `  all of w${workflow}: ${verb} at ${atMs} ms`),
    ...schedules.map(
      ({ key, workflow, everyMin, atMs, untilMs, againMs }) =>
        `  ${key}: w${workflow} every ${everyMin} minutes, ${atMs} to ${untilMs} ms` +
        (againMs === null ? "" : `, again at ${againMs} ms`),
    ),
  ].join("\n")
