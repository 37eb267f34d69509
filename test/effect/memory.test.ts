/** The Effect API on the memory store. */
import { newMemoryStore } from "./place.ts"
import { childrenSuite } from "./suiteChildren.ts"
import { compensationSuite } from "./suiteCompensation.ts"
import { controlSuite } from "./suiteControl.ts"
import { bodiesSuite } from "./suiteBodies.ts"
import { eventsSuite } from "./suiteEvents.ts"
import { stepControlSuite } from "./suiteStepControl.ts"
import { valuesSuite } from "./suiteValues.ts"

valuesSuite("in memory", newMemoryStore)
bodiesSuite("in memory", newMemoryStore)
eventsSuite("in memory", newMemoryStore)
childrenSuite("in memory", newMemoryStore)
compensationSuite("in memory", newMemoryStore)
stepControlSuite("in memory", newMemoryStore)
controlSuite("in memory", newMemoryStore)
