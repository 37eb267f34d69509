import * as MemoryStore from "../../src/MemoryStore.ts"
import { cronTicks } from "./cronTicks.ts"

cronTicks("ticks on the memory store", MemoryStore.layer)
