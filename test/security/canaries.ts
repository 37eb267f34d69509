/**
 * Secrets that must stay where they were put, and what to look for them in: whatever of a thing can
 * be read by a person, a log shipper or a tracer.
 */
import { inspect } from "node:util"

/** One for each place that a secret enters by; each is found in whatever encoding. */
export const canaries = {
  input: "canary-input-3f9a",
  result: "canary-result-81bc",
  step: "canary-step-77d0",
  event: "canary-event-a2e4",
  emitted: "canary-emitted-5c1f",
  attribute: "canary-attribute-d903",
  status: "canary-status-6eb2",
  heartbeat: "canary-heartbeat-40aa",
  key: "canary-key-9d17",
  error: "canary-error-b651",
  password: "canary-password-e8f3",
} as const

export type CanaryName = keyof typeof canaries

/** The secrets that can be read in a value: its text, its JSON, all that `inspect` shows, its causes. */
export const leaksIn = (value: unknown): ReadonlyArray<CanaryName> => {
  const texts: Array<string> = []
  const seen = new Set<unknown>()
  const look = (one: unknown): void => {
    texts.push(
      attempt(() => String(one)),
      attempt(() => JSON.stringify(one) ?? ""),
    )
    texts.push(attempt(() => inspect(one, { depth: 12, showHidden: true, getters: true })))
    if (typeof one !== "object" || one === null || seen.has(one)) return
    seen.add(one)
    // what is not enumerable, too: message, stack, cause
    for (const key of Reflect.ownKeys(one)) {
      if (key === "toJSON") continue
      look(attempt(() => (one as Record<PropertyKey, unknown>)[key] as string))
    }
  }
  look(value)
  const all = texts.join("\n")
  return (Object.keys(canaries) as Array<CanaryName>).filter((name) => all.includes(canaries[name]))
}

const attempt = (body: () => string): string => {
  try {
    return body()
  } catch {
    return ""
  }
}
