import * as MemoryStore from "../../src/MemoryStore.ts"
import { storeConformance } from "./conformance.ts"

storeConformance("MemoryStore", () => MemoryStore.layer)
