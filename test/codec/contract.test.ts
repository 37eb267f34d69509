/** Behind a payload codec a store keeps its contract, and the Effect API is what it was. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { MemoryStore, PayloadCodec } from "../../src/effect.ts"
import { bodiesSuite } from "../effect/suiteBodies.ts"
import { childrenSuite } from "../effect/suiteChildren.ts"
import { eventsSuite } from "../effect/suiteEvents.ts"
import { valuesSuite } from "../effect/suiteValues.ts"
import { storeConformance } from "../store/conformance.ts"
import { aes } from "./aes.ts"

const coded = PayloadCodec.withCodecs({ write: aes("k1") })

storeConformance("MemoryStore behind a payload codec", () =>
  coded(Layer.unwrap(Effect.sync(() => MemoryStore.makeUnsafe({ client: "client" }).layer))),
)

const newStore = () => Layer.orDie(coded(MemoryStore.makeUnsafe().layer))

valuesSuite("behind a payload codec", newStore)
bodiesSuite("behind a payload codec", newStore)
eventsSuite("behind a payload codec", newStore)
childrenSuite("behind a payload codec", newStore)
