/**
 * No server outlives the process that started it, however that process ends.
 *
 * A handler for signals cannot see SIGKILL, and would change what signals do to the application. So
 * a shell of a few hundred kilobytes waits at the end of a pipe from us: when we are gone, for any
 * reason, the kernel closes the pipe, and the shell shuts the server down and removes a temporary
 * folder. Where there is no shell (Windows, distroless images) only an orderly exit is covered;
 * what then survives a kill is found and replaced by the next start.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process"
import * as path from "node:path"
import type { ServerPlan } from "./server.ts"

/**
 * Arguments: the server's process, its pid file, a folder to remove ("" for none). The pid file is
 * looked at too: an orphan whose end nobody reaps (process 1 of a container may not) looks alive.
 */
const WAIT_AND_STOP = `
read _
kill -INT "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ -e "$2" ] && [ $n -lt 300 ]; do
  sleep 0.1
  n=$((n + 1))
  [ $n -eq 200 ] && kill -QUIT "$1"
done
[ -n "$3" ] && rm -rf -- "$3"
`

/** Watches over a started server. Call the answer when the server has ended. */
export function guard(options: {
  readonly child: ChildProcess
  readonly plan: ServerPlan
}): () => void {
  const { child, plan } = options
  const pid = child.pid ?? 0
  const onExit = () => {
    if (process.platform === "win32") spawnSync(plan.binaries.pgCtl, ["kill", "INT", String(pid)])
    else child.kill("SIGINT")
  }
  process.on("exit", onExit)
  const shell = process.platform === "win32" ? undefined : startShell(pid, plan)
  const release = () => {
    process.off("exit", onExit)
    shell?.kill("SIGKILL")
  }
  // A process id is used again: nobody may signal it once the server is gone.
  child.once("exit", release)
  return release
}

/** Runs as us: the server's account may not be allowed to remove a folder that we made for it. */
function startShell(pid: number, plan: ServerPlan): ChildProcess {
  const { data } = plan
  const pidFile = path.join(data.cluster, "postmaster.pid")
  const args = [String(pid), pidFile, data.temporary ? data.root : ""]
  const shell = spawn("/bin/sh", ["-c", WAIT_AND_STOP, "flowly", ...args], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  })
  shell.on("error", () => {}) // no shell: the exit handler is what there is
  shell.stdin?.on("error", () => {})
  shell.unref()
  if (shell.stdin !== null && "unref" in shell.stdin) (shell.stdin as { unref(): void }).unref()
  return shell
}
