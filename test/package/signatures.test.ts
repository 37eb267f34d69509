import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { foreignTypes } from "./signatures.ts"

const isForeign = (specifier: string) => specifier.startsWith("foreign")

describe("foreignTypes", () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), "flowly-signatures-"))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const trails = (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(path.join(folder, `${name}.d.ts`), text)
    }
    return foreignTypes(path.join(folder, "index.d.ts"), isForeign).map((one) => one.join(" > "))
  }

  it("finds a type behind re-exports, aliases, namespaces and inline imports", () => {
    expect(
      trails({
        index: `export { type A as Alias } from "./a.ts";
export declare const direct: import("foreign/Direct").Direct;
import { Late } from "./late.ts";
export { Late };
`,
        a: `import * as B from "./b.ts";
export interface A {
    readonly b: B.Bee;
}
`,
        b: `import type { Type } from "foreign/Type";
export type Bee = string | Local;
type Local = { nested: Array<Type> };
`,
        late: `import type * as Foreign from "foreign";
export declare class Late {
    #private;
    method(): Foreign.Thing;
}
`,
      }).toSorted(),
    ).toEqual(["A > Bee > Local > foreign/Type", "Late > foreign", "direct > foreign/Direct"])
  })

  it("leaves alone what a module uses for itself, and names that only look alike", () => {
    expect(
      trails({
        index: `export type { A } from "./a.ts";
`,
        a: `import * as Foreign from "foreign";
export declare const helper: Foreign.Thing;
/** A {@link Foreign.Thing}. */
export interface A {
    helper: "Foreign";
    Foreign?: string;
    Foreign(): void;
}
`,
      }),
    ).toEqual([])
  })
})
