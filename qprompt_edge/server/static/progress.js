/**
 * A job on the device as it goes: what it does, how far it is, how long it will take, and a way to stop it.
 */
import { at, remove } from "./api.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { follow } from "./jobs.js";
import { guarded, say } from "./notices.js";
import { S } from "./strings.js";

const SAID_EVERY_MS = 8000;

/**
 * Show a job until it ends.
 * @param {Element} root Filled with the progress; emptied by nobody.
 * @param {string} title What the job does.
 * @param {string} id The job's id.
 * @param {AbortSignal} signal Ends the showing, not the job.
 * @returns The job's last state, or null if the view was left.
 */
export async function showJob(root, title, id, signal) {
  const bar = el("progress", { max: 1, "aria-label": title });
  const stage = el("p", {}, S.teachQueued);
  const left = el("p.muted");
  const stop = el(
    "button",
    { type: "button", onclick: guarded(() => remove(at`jobs/${id}`)) },
    icon("stop"),
    S.cancel,
  );
  root.replaceChildren(
    el("div.card.job", {}, el("h2", {}, title), bar, el("div.job-words", {}, stage, left), stop),
  );
  let said = 0;
  return follow(
    id,
    (job) => {
      if (job.total > 0) bar.value = job.done / job.total;
      else bar.removeAttribute("value");
      stage.textContent = job.state === "queued" ? S.teachQueued : job.stage || title;
      const parts = [
        job.total > 0 && S.progressOf(job.done, job.total),
        job.seconds_left > 0 && S.timeLeft(job.seconds_left),
      ];
      left.textContent = parts.filter(Boolean).join(", ");
      if (Date.now() - said > SAID_EVERY_MS) {
        said = Date.now();
        say(`${stage.textContent}. ${left.textContent}`);
      }
    },
    signal,
  );
}
