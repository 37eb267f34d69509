/** The workflow of `eventWorker.ts`, for those who start it. */
import * as Schema from "effect/Schema"
import * as Workflow from "../../src/Workflow.ts"

/** Its step is held until the event was noted. */
export const Listening = Workflow.make("listening", { success: Schema.String })
