/**
 * Bodies made by dice: steps, failing steps, sleeps, races, `Promise.all`, loops, `try/catch`,
 * retries, children, undos, pure asynchronous work between steps. The same seed makes the same body.
 *
 * What a body returns depends on nothing but its outcomes, and where no order of arrival decides, on
 * no crash either. In arms that run at once names are the arm's own: which of two arms asks first for
 * a name that they share is for the clock to decide, not for the history.
 */
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { gzip } from "node:zlib"
import { defineWorkflow } from "../../src/promise/workflow.ts"
import { diceOf } from "../support/dice.ts"
import { type Program, program, watched } from "./replay.ts"
import type { Watched } from "./world.ts"

type Node =
  | { readonly is: "step"; readonly name: string; readonly ms: number; readonly undo: boolean }
  | { readonly is: "flaky"; readonly name: string; readonly fails: number; readonly waitMs: number }
  | { readonly is: "shaky"; readonly name: string }
  | { readonly is: "sleep"; readonly name: string; readonly ms: number }
  | { readonly is: "effect"; readonly name: string }
  | { readonly is: "emit"; readonly name: string; readonly awaited: boolean }
  | { readonly is: "forget"; readonly name: string; readonly ms: number }
  | { readonly is: "pure"; readonly how: "gzip" | "turns" | "timer" }
  | { readonly is: "child"; readonly of: string }
  | { readonly is: "same"; readonly name: string; readonly count: number }
  | { readonly is: "all"; readonly arms: ReadonlyArray<Block> }
  | { readonly is: "settled"; readonly arms: ReadonlyArray<Block> }
  | { readonly is: "race"; readonly arms: ReadonlyArray<Block> }
  | { readonly is: "timeout"; readonly block: Block; readonly name: string }
  | { readonly is: "late"; readonly name: string; readonly ms: number }
  | { readonly is: "loop"; readonly times: number; readonly block: Block }
  | { readonly is: "try"; readonly block: Block; readonly name: string; readonly rescue: Block }
  | { readonly is: "if"; readonly name: string; readonly yes: Block; readonly no: Block }
  | { readonly is: "throw"; readonly message: string }

type Block = ReadonlyArray<Node>

/** Where a block stands: what may be in it. */
interface Place {
  /** Before each name: the arm's own, or nothing. */
  readonly prefix: string
  readonly depth: number
  /** Beside other arms: an uncaught failure or an undo would depend on the others. */
  readonly arm: boolean
  /** Beside arms that also end: no work that the history does not know. */
  readonly racing: boolean
  readonly children: ReadonlyArray<string>
  /** It is run for certain. */
  readonly undoes: boolean
}

const generate = (seed: number) => {
  const dice = diceOf(seed)
  let sites = 0
  let anyOrder = false

  const name = (place: Place) => place.prefix + dice.pick(["a", "b", "c", "d"])
  const arms = (place: Place, racing: boolean) =>
    Array.from({ length: dice.whole(2, 3) }, () => {
      const prefix = `${place.prefix}${++sites}.`
      return block(
        { ...place, prefix, arm: true, racing: place.racing || racing },
        dice.whole(1, 2),
      )
    })

  const leaf = (place: Place): Node => {
    const kinds: Array<() => Node> = [
      () => ({ is: "step", name: name(place), ms: dice.whole(0, 3), undo: false }),
      () => ({
        is: "step",
        name: name(place),
        ms: dice.whole(0, 3),
        undo: place.undoes && !place.arm && dice.chance(0.7),
      }),
      () => ({ is: "sleep", name: name(place), ms: dice.pick([0, 50, 200, 700, 1500]) }),
      () => ({
        is: "flaky",
        name: name(place),
        fails: dice.whole(1, 2),
        waitMs: dice.pick([20, 100, 800]),
      }),
      () => ({ is: "effect", name: name(place) }),
      () => ({ is: "emit", name: name(place), awaited: dice.chance(0.5) }),
      () => ({ is: "forget", name: name(place), ms: dice.whole(0, 10) }),
      () => ({ is: "same", name: name(place), count: dice.whole(2, 5) }),
      () => ({ is: "late", name: `${place.prefix}${++sites}`, ms: dice.pick([50, 900]) }),
    ]
    if (!place.racing) {
      const how = dice.pick(["gzip", "turns", "timer"] as const)
      kinds.push(() => ({ is: "pure", how }))
      kinds.push(() => ({ is: "pure", how }))
    }
    if (place.children.length > 0) {
      kinds.push(() => ({ is: "child", of: dice.pick(place.children) }))
    }
    return dice.pick(kinds)()
  }

  const branch = (place: Place): Node => {
    const inside = { ...place, depth: place.depth + 1 }
    const size = () => dice.whole(1, 2)
    const kinds: Array<() => Node> = [
      () => ({ is: "all", arms: arms(inside, false) }),
      () => ({ is: "settled", arms: arms(inside, false) }),
      () => {
        anyOrder = true
        return { is: "race", arms: arms(inside, true) }
      },
      () => ({ is: "timeout", block: block(inside, size()), name: `${place.prefix}${++sites}` }),
      () => ({ is: "loop", times: dice.whole(2, 3), block: block(inside, size()) }),
      () => ({
        is: "try",
        block: block(inside, 1),
        name: name(place),
        rescue: block(inside, size()),
      }),
      () => ({
        is: "if",
        name: name(place),
        yes: block({ ...inside, undoes: false }, size()),
        no: block({ ...inside, undoes: false }, size()),
      }),
    ]
    return dice.pick(kinds)()
  }

  const block = (place: Place, size: number): Block =>
    Array.from({ length: size }, () =>
      place.depth < 2 && dice.chance(0.4) ? branch(place) : leaf(place),
    )

  const top = { prefix: "", depth: 0, arm: false, racing: false, undoes: true }
  const child = block({ ...top, depth: 1, children: [] }, dice.whole(1, 2))
  const failingChild: Block = [
    ...block({ ...top, depth: 2, children: [] }, 1),
    { is: "throw", message: "the child gave up" },
  ]
  const main = [...block({ ...top, children: ["good child"] }, dice.whole(2, 4))]
  const retried = dice.chance(0.3)
  if (retried) main.splice(dice.whole(0, main.length), 0, { is: "shaky", name: "shaky" })
  if (dice.chance(0.25)) main.push({ is: "throw", message: "the end" })
  if (dice.chance(0.2)) {
    const rescue = block({ ...top, depth: 2, children: [] }, 1)
    main.unshift({ is: "try", block: [{ is: "child", of: "bad child" }], name: "z", rescue })
  }
  return { main, child, failingChild, retried, anyOrder }
}

// -----------------------------------------------------------------------------
// Running
// -----------------------------------------------------------------------------

const called = (name: string) => defineWorkflow<any, any>(name, () => undefined)

const pure = async (how: "gzip" | "turns" | "timer"): Promise<void> => {
  if (how === "gzip") await promisify(gzip)("flowly".repeat(5000))
  else if (how === "timer") await delay(5)
  else for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve))
}

const runBlock = async (watching: Watched, nodes: Block, site: string): Promise<string> => {
  const out: Array<string> = []
  for (const [index, node] of nodes.entries()) {
    out.push(await runNode(watching, node, `${site}/${index}`))
  }
  return out.join(" ")
}

const runArms = (watching: Watched, arms: ReadonlyArray<Block>, site: string) =>
  arms.map((arm, index) => runBlock(watching, arm, `${site}|${index}`))

const failing = async (ms: number, message: string): Promise<never> => {
  await delay(ms)
  throw new Error(message)
}

const runNode = async (watching: Watched, node: Node, site: string): Promise<string> => {
  const { ctx, world, note } = watching
  switch (node.is) {
    case "step":
      return ctx.step(node.name, {
        run: async () => {
          await delay(node.ms)
          return `${node.name}.`
        },
        ...(node.undo ? { compensate: () => delay(1) } : {}),
      })
    case "flaky":
      return ctx.step(node.name, {
        run: () => {
          world.fails(`${ctx.workflowRunId} ${site}`, node.fails)
          return "flaky."
        },
        retry: { maxAttempts: 4, initialDelayMs: node.waitMs, backoff: "fixed" },
      })
    case "shaky":
      return ctx.step(node.name, () => {
        world.fails("shaky", 1)
        return "shaky."
      })
    case "sleep":
      await ctx.sleep(node.name, node.ms)
      return "zz."
    case "effect":
      note(site, await ctx.sideEffect(node.name, () => Math.random()))
      return "effect."
    case "emit": {
      const emitted = ctx.emit(node.name, site)
      if (node.awaited) await emitted
      return "!"
    }
    case "forget":
      void ctx.step(node.name, () => delay(node.ms))
      return "?"
    case "pure":
      await pure(node.how)
      return "~"
    case "child":
      return `[${await ctx.workflow(called(node.of), undefined)}]`
    case "same": {
      const parts = Array.from({ length: node.count }, (_, i) =>
        ctx.step(node.name, () => delay(node.count - i, i)),
      )
      return (await Promise.all(parts)).join("+")
    }
    case "all":
      return `(${(await Promise.all(runArms(watching, node.arms, site))).join(" & ")})`
    case "settled": {
      const failed = ctx.step(`${site} fails`, () => failing(1, "no"))
      const ends = await Promise.allSettled([failed, ...runArms(watching, node.arms, site)])
      return `(${ends.map((end) => (end.status === "fulfilled" ? end.value : "x")).join(" ; ")})`
    }
    case "race": {
      const winner = await Promise.race(
        runArms(watching, node.arms, site).map((arm, i) => arm.then((value) => `${i}:${value}`)),
      )
      note(site, winner)
      return `<${winner}>`
    }
    case "timeout": {
      const value = await Promise.race([
        runBlock(watching, node.block, `${site}|0`),
        ctx.sleep(`limit ${node.name}`, "30 days").then(() => "too late"),
      ])
      note(site, value)
      return `<${value}>`
    }
    case "late": {
      const slow = ctx.step(`slow ${node.name}`, ({ signal }) => delay(1e6, "in time", { signal }))
      const winner = await Promise.race([
        slow,
        ctx.sleep(`late ${node.name}`, node.ms).then(() => "late"),
      ])
      note(site, winner)
      return `<${winner}>`
    }
    case "loop": {
      const rounds: Array<string> = []
      for (let i = 0; i < node.times; i++) {
        rounds.push(await runBlock(watching, node.block, `${site}@${i}`))
      }
      return `{${rounds.join(", ")}}`
    }
    case "try":
      try {
        const value = await runBlock(watching, node.block, `${site}t`)
        await ctx.step(node.name, () => failing(1, "expected"))
        return value
      } catch (error) {
        note(site, (error as Error).message.replaceAll(/[0-9a-f-]{36}/g, "id"))
        return `caught ${await runBlock(watching, node.rescue, `${site}c`)}`
      }
    case "if": {
      const yes = await ctx.step(node.name, () => site.length % 2 === 0)
      note(site, yes)
      return runBlock(watching, yes ? node.yes : node.no, `${site}${yes ? "y" : "n"}`)
    }
    case "throw":
      throw new Error(node.message)
  }
}

// -----------------------------------------------------------------------------
// Printing
// -----------------------------------------------------------------------------

const print = (nodes: Block, indent: string): string =>
  nodes
    .map((node) => {
      const { is, ...rest } = node
      const blocks: Array<string> = []
      const values: Array<string> = []
      for (const [key, value] of Object.entries(rest)) {
        if (key === "arms") {
          for (const arm of value as ReadonlyArray<Block>)
            blocks.push("arm", print(arm, `${indent}    `))
        } else if (Array.isArray(value)) {
          blocks.push(key, print(value as Block, `${indent}    `))
        } else values.push(`${key}=${JSON.stringify(value)}`)
      }
      const lines = blocks.map((text, i) => (i % 2 === 0 ? `${indent}  ${text}:` : text))
      return [`${indent}${is} ${values.join(" ")}`, ...lines].join("\n")
    })
    .join("\n")

/** The program of a seed, and its text. */
export const generated = (seed: number): { readonly program: Program; readonly text: string } => {
  const { main, child, failingChild, retried, anyOrder } = generate(seed)
  const text = [
    `seed ${seed}${retried ? ", retried" : ""}${anyOrder ? ", any order" : ""}`,
    print(main, "  "),
    "good child:",
    print(child, "  "),
    "bad child:",
    print(failingChild, "  "),
  ].join("\n")
  const throws = main.some((node) => node.is === "throw")
  const undoes = main.some(hasUndo)
  return {
    text,
    program: program("generated", (watching) => runBlock(watching, main, ""), {
      anyEnd: anyOrder,
      ...(retried ? { maxAttempts: 2 } : {}),
      ends: throws ? (undoes ? "compensated" : retried ? "dead_letter" : "failed") : "completed",
      children: [
        (world) => watched("good child", world, (watching) => runBlock(watching, child, "")),
        (world) => watched("bad child", world, (watching) => runBlock(watching, failingChild, "")),
      ],
    }),
  }
}

/** A step that is undone when the program fails. */
const hasUndo = (node: Node): boolean => {
  switch (node.is) {
    case "step":
      return node.undo
    case "loop":
    case "timeout":
      return node.block.some(hasUndo)
    case "try":
      return [...node.block, ...node.rescue].some(hasUndo)
    default:
      return false
  }
}
