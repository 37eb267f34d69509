/**
 * Bugs to plant in the engine for the goldens to find: each reads the histories of an earlier day
 * otherwise than the version that wrote them. How many of the 138 tests found each (`plant.ts`):
 *
 * | bug | found by |
 * |---|---|
 * | order-by-key | 74 |
 * | other-keys, keys-from-zero | 31 each |
 * | undone-forwards | 10 |
 * | other-dice | 8 |
 * | other-uuids | 4 |
 * | clock-of-the-wall | 2 |
 * | other-patch-names, patches-turned, undone-beyond-return, rich-as-text, leftovers-ignored | 1 each |
 * | tries-forgotten | none: no history ends in the middle of tries that decide about the end |
 */
import { type Bug, bug } from "../support/planting.ts"

export const bugs: ReadonlyArray<Bug> = [
  bug(
    "other-keys",
    "a name that is used again has another key",
    "engine/machine.ts",
    "used === 1 ? name : `${name}#${used}`",
    "used === 1 ? name : `${name}~${used}`",
  ),
  bug(
    "keys-from-zero",
    "keys count from another number",
    "engine/machine.ts",
    "used === 1 ? name : `${name}#${used}`",
    "used === 1 ? name : `${name}#${used - 1}`",
  ),
  bug(
    "order-by-key",
    "records are delivered by their keys, not by their numbers",
    "engine/machine.ts",
    "    queue.sort((a, b) => a.position - b.position)\n    carried",
    "    queue.sort((a, b) => (a.key < b.key ? -1 : 1))\n    carried",
  ),
  bug(
    "other-uuids",
    "UUIDs are made of the number of the call alone, and another separator",
    "engine/bodyValues.ts",
    "uuidv5(`${seed}:${++uuids}`, namespace)",
    "uuidv5(`${seed}/${++uuids}`, namespace)",
  ),
  bug(
    "other-dice",
    "the dice have another seed",
    "engine/bodyValues.ts",
    "Random.withSeed(Random.Random, seed)",
    "Random.withSeed(Random.Random, `${seed}.`)",
  ),
  bug(
    "clock-of-the-wall",
    "the body's time is that of the execution, not of the completion it was given",
    "engine/bodyValues.ts",
    "now: () => execution.nowForBody",
    "now: () => execution.storeNow()",
  ),
  bug(
    "other-patch-names",
    "the answer to a patch stands under another name",
    "engine/patches.ts",
    "name: `patch:${id}`",
    "name: `patch/${id}`",
  ),
  bug(
    "patches-turned",
    "what a patch had answered is read as its opposite",
    "engine/patches.ts",
    'outcome._tag === "Success" && outcome.result?.json === "true"',
    'outcome._tag === "Success" && outcome.result?.json !== "true"',
  ),
  bug(
    "undone-forwards",
    "completed steps are undone in the order of completion",
    "engine/undoing.ts",
    ".toSorted((a, b) => (b.position ?? 0) - (a.position ?? 0)),",
    ".toSorted((a, b) => (a.position ?? 0) - (b.position ?? 0)),",
  ),
  bug(
    "undone-beyond-return",
    "a point of no return keeps nothing",
    "engine/undoing.ts",
    'if (record.kind === "no_return") noReturn',
    'if (record.kind === "no_return") void noReturn; else if (record.kind === "patch") noReturn',
  ),
  bug(
    "rich-as-text",
    "values beyond JSON are read as their text",
    "Payload.ts",
    "return decodeRich(JSON.parse(encoded.json), (stored) => decodeError(stored as StoredError))",
    "return JSON.parse(encoded.json)",
  ),
  bug(
    "tries-forgotten",
    "a stored backoff begins its tries anew",
    "engine/tries.ts",
    "  issued.attempts = notes.ended\n",
    "  issued.attempts = 0\n",
  ),
  bug(
    "leftovers-ignored",
    "records that the code does not ask for are no divergence",
    "engine/machine.ts",
    "        return diverge(record, calledInstead(record))\n      }\n      if (!isSameKind",
    "        continue\n      }\n      if (!isSameKind",
  ),
]
