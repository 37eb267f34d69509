/**
 * S8: the connection of each write is cut around its commit. Who sent it cannot know what became of
 * it, and must find out without doing it twice.
 */
import { cutEngines } from "../commitCut/engine.ts"
import { cutVerbs } from "../commitCut/verbs.ts"
import type { Scenario } from "../scenario.ts"

export const commitCut: Scenario = {
  id: "S8",
  title: "Connections cut around the commit, for every verb that writes",
  tiers: ["T0", "T1", "T2"],
  run: async (context) => {
    const { dice, sized, count, say, violate } = context
    const each = { T0: 2, T1: 25, T2: 250 }
    const perVerb = context.times(each)
    try {
      const report = await cutVerbs({ url: await context.database(), dice, perVerb, log: say })
      count("cuts", report.cuts)
      count("verbs", Object.keys(report.cutsPerVerb).length)
    } catch (error) {
      violate({ invariant: "S8", message: (error as Error).message, workflowRunId: null })
    }
    const { quota, maxRounds } = sized({
      T0: { quota: 1, maxRounds: 1 },
      T1: { quota: 4, maxRounds: 30 },
      T2: { quota: 40, maxRounds: 300 },
    })
    // with fewer cuts of each verb, as many rounds fewer
    const share = perVerb / sized(each)
    await cutEngines(context, { quota, maxRounds: Math.ceil(maxRounds * share) })
  },
}
