/** Long work on the device, followed by server-sent events; where those end early, asked for. */
import { at, get } from "./api.js";
import { pause } from "./dom.js";

const ENDED = new Set(["done", "failed", "cancelled"]);

/** Whether a job will not change any more. */
export const ended = (job) => ENDED.has(job.state);

function events(id, onchange, signal) {
  return new Promise((resolve) => {
    const source = new EventSource(at`jobs/${id}/events`);
    const stop = (job) => {
      source.close();
      resolve(job);
    };
    source.onmessage = (event) => {
      const job = JSON.parse(event.data);
      onchange(job);
      if (ended(job)) stop(job);
    };
    source.onerror = () => stop(null);
    signal.addEventListener("abort", () => stop(null), { once: true });
  });
}

/**
 * Follow a job to its end.
 * @param {string} id The job's id.
 * @param {(job: object) => void} onchange Called with each state that is told.
 * @param {AbortSignal} signal Ends the following, not the job.
 * @returns The last state, or null if the following was ended.
 */
export async function follow(id, onchange, signal) {
  while (!signal.aborted) {
    const last = await events(id, onchange, signal);
    if (last) return last;
    if (signal.aborted) break;
    await pause(700);
    try {
      const job = await get(at`jobs/${id}`);
      onchange(job);
      if (ended(job)) return job;
    } catch (error) {
      if (error.status !== 0) throw error;
      await pause(2000);
    }
  }
  return null;
}
