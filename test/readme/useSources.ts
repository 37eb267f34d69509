/** For `node --import`: "flowly" is its sources, so that a program of its users runs without a build. */
import { registerHooks } from "node:module"

registerHooks({
  resolve: (specifier, context, next) => {
    const name = /^flowly(?:\/(\w+))?$/.exec(specifier)
    if (name === null) return next(specifier, context)
    const url = new URL(`../../src/${name[1] ?? "index"}.ts`, import.meta.url)
    return { url: url.href, shortCircuit: true }
  },
})
