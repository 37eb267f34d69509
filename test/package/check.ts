/** `npm run check:package`: is the shape of what we would publish right, for Node and for types? */
import { root, run, withPackage } from "./pack.ts"

withPackage(({ tarball }) => {
  for (const [file, ...args] of [
    ["publint", "run", tarball, "--strict"],
    ["attw", tarball, "--profile", "esm-only", "--no-color"],
  ] as const) {
    console.log(run(file, args, { cwd: root }).trim())
  }
})
