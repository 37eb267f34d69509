/** The programs of the README as files, in a folder of the repository, where imports are found. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { fileOf, programOf, programs, root } from "./blocks.ts"

export function writePrograms(): { readonly folder: string; readonly remove: () => void } {
  mkdirSync(path.join(root, ".flowly"), { recursive: true })
  const folder = mkdtempSync(path.join(root, ".flowly", "readme-"))
  for (const block of programs) {
    writeFileSync(path.join(folder, fileOf(block)), `${programOf(block)}\nexport {}\n`)
  }
  const config = {
    extends: "../../tsconfig.json",
    // A reader leaves things unused; everything else is as strict as here.
    compilerOptions: { noUnusedLocals: false },
    include: ["*.ts"],
  }
  writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify(config))
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}
