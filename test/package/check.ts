/** `npm run check:package`: is the shape of what we would publish right, for Node and for types? */
import { pack, root, run } from "./pack.ts"

const packed = pack()
try {
  for (const [file, ...args] of [
    ["publint", "run", packed.tarball, "--strict"],
    ["attw", packed.tarball, "--profile", "esm-only", "--no-color"],
  ] as const) {
    console.log(run(file, args, { cwd: root }).trim())
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
} finally {
  packed.remove()
}
