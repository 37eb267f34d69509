/** What a person sees: one line per happening with its time, and one that counts down below them. */
import { styleText } from "node:util"

type Style = Parameters<typeof styleText>[0]

const out = process.stdout
const isTerminal = out.isTTY === true
const began = performance.now()
let below = ""
let silent = false

/** Colours on a terminal only, and not where NO_COLOR is set. */
export const paint = (style: Style, text: string): string => styleText(style, text, { stream: out })

export const elapsedSeconds = (): number => (performance.now() - began) / 1000

/** A line without a time. */
export function print(text = ""): void {
  if (silent) return
  out.write(`${isTerminal && below !== "" ? "\r\x1b[K" : ""}${text}\n${isTerminal ? below : ""}`)
}

/** The last line. What is still under way has nothing more to say. */
export function printLast(text: string): void {
  clearBelow()
  print(text)
  silent = true
}

/** A line with the time, who speaks, and what happened. */
export function say(who: string, text: string): void {
  const time = paint("dim", `${elapsedSeconds().toFixed(1).padStart(6)} s`)
  print(`${time}  ${paint("cyan", who.padEnd(9))} ${text}`)
}

export const heading = (text: string): void => print(`\n${paint("bold", text)}`)

/** The line below all others. Without a terminal it is printed once a second. */
function setBelow(text: string, isWholeSecond: boolean): void {
  if (silent) return
  if (isTerminal) {
    below = text
    out.write(`\r\x1b[K${text}`)
  } else if (isWholeSecond) {
    out.write(`${text}\n`)
  }
}

function clearBelow(): void {
  if (isTerminal && below !== "") out.write("\r\x1b[K")
  below = ""
}

/** Counts down, until told that it is over. */
export async function countdown(options: {
  readonly label: string
  readonly remainingMs: () => number
  readonly until: () => boolean
}): Promise<void> {
  const width = 24
  const total = Math.max(1, options.remainingMs())
  let told = Infinity
  try {
    while (!options.until()) {
      const left = Math.max(0, options.remainingMs())
      const seconds = Math.ceil(left / 1000)
      const full = Math.round((width * left) / total)
      const bar = `${"█".repeat(full)}${"░".repeat(width - full)}`
      const text = `          ${bar} ${(left / 1000).toFixed(1)} s ${options.label}`
      setBelow(isTerminal ? text : `          ${seconds} s ${options.label}`, seconds < told)
      told = Math.min(told, seconds)
      await new Promise((resolve) => {
        setTimeout(resolve, 100)
      })
    }
  } finally {
    clearBelow()
  }
}
