/**
 * Where frames to try come from: the browser's camera, or a camera of the device. Each calls back until it
 * is stopped.
 */
import { at, send } from "./api.js";
import { pause } from "./dom.js";
import { openWebcam, snapshot } from "./webcam.js";

const LONGEST_SIDE = 640;
const LEAST_PAUSE_MS = 120;
const ACCEPT = 0.95; // share of known photos that "none of these" lets pass

/**
 * Ask the device what a picture shows.
 * @param {string} task The task's name.
 * @param {Blob} blob The picture, in a type that the device reads.
 * @param {boolean} allowNone Whether "none of these" is an answer.
 * @param {AbortSignal} [signal]
 */
export function predict(task, blob, allowNone, signal) {
  return send(at`tasks/${task}/predict` + (allowNone ? `?accept=${ACCEPT}` : ""), blob, { signal });
}

/**
 * Frames of the browser's camera, one after the other; none while the page is hidden.
 * @param {string} task The task's name.
 * @param {HTMLVideoElement} video Shows the camera.
 * @param {() => boolean} allowNone
 * @param {(answer: object, blob: Blob) => void} onanswer
 * @param {AbortSignal} signal Stops it.
 */
export async function webcamFrames(task, video, allowNone, onanswer, signal) {
  await openWebcam(video, "environment", signal);
  while (!signal.aborted) {
    const blob = document.hidden ? null : await snapshot(video, LONGEST_SIDE);
    if (blob) {
      try {
        const answer = await predict(task, blob, allowNone(), signal);
        if (!signal.aborted) onanswer(answer, blob);
      } catch (error) {
        if (signal.aborted) return;
        if (!error.passing) throw error;
        await pause(1000 * (error.retryAfter || 1));
      }
    }
    await pause(blob ? LEAST_PAUSE_MS : 300);
  }
}

/**
 * Answers on a camera of the device, as the device tells them.
 * @param {string} task The task's name.
 * @param {string} source The camera.
 * @param {boolean} allowNone Whether "none of these" is an answer.
 * @param {(answer: object, blob: Blob) => void} onanswer
 * @param {(line: string) => void} onerror Told what is wrong with the camera.
 * @param {AbortSignal} signal Stops it.
 */
export function deviceFrames(task, source, allowNone, onanswer, onerror, signal) {
  return new Promise((resolve) => {
    const query = new URLSearchParams({ source });
    const events = new EventSource(
      at`tasks/${task}/live` + `?${query}` + (allowNone ? `&accept=${ACCEPT}` : ""),
    );
    let fetching = false;
    events.onmessage = async (event) => {
      const answer = JSON.parse(event.data);
      if (answer.error) {
        onerror(answer.error);
        return;
      }
      if (fetching || document.hidden) return;
      fetching = true;
      try {
        const response = await fetch(at`tasks/${task}/live/frame` + `?${query}`, {
          cache: "no-store",
          signal,
        });
        if (response.ok) onanswer(answer, await response.blob());
      } catch {
        // the next answer brings the next frame
      } finally {
        fetching = false;
      }
    };
    signal.addEventListener("abort", () => {
      events.close();
      resolve();
    });
  });
}
