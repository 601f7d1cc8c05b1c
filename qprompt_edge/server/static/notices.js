/** Short notices at the bottom, with at most one thing to do; and what a screen reader is told. */
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { S } from "./strings.js";

const SHOWN_MS = 8000;
const place = el("div.notices", { role: "status", "aria-live": "polite" });
const spoken = el("div.unseen", { role: "status", "aria-live": "polite" });

/** Where notices appear; put into the page once. */
export const noticeArea = () => [place, spoken];

/** Tell a screen reader, and nobody else. */
export function say(line) {
  if (spoken.textContent !== line) spoken.textContent = line;
}

/**
 * Show a line for a while.
 * @param {string} line What happened.
 * @param {{act?: string, onact?: () => void, bad?: boolean}} options A button, or that it is an error.
 */
export function notice(line, { act = "", onact = null, bad = false } = {}) {
  const close = () => {
    clearTimeout(timer);
    box.remove();
  };
  const box = el(
    bad ? "div.notice.bad" : "div.notice",
    {},
    icon(bad ? "warn" : "done"),
    el("p", {}, line),
    act && el("button.quiet", { type: "button", onclick: () => (close(), onact()) }, act),
    el("button.round", { type: "button", "aria-label": S.close, onclick: close }, icon("close")),
  );
  let timer = setTimeout(close, SHOWN_MS);
  box.addEventListener("pointerenter", () => clearTimeout(timer));
  box.addEventListener("focusin", () => clearTimeout(timer));
  box.addEventListener("pointerleave", () => (timer = setTimeout(close, SHOWN_MS)));
  while (place.childElementCount >= 3) place.firstElementChild.remove();
  place.append(box);
}

/** Show what went wrong, in the device's words. */
export const complain = (error) => {
  if (error.name === "AbortError") return;
  if (error.status === undefined) console.error(error);
  if (error.status !== 0) notice(error.message, { bad: true });
};

/** `f` as a listener: what it throws is shown. */
export const guarded =
  (f) =>
  async (...args) => {
    try {
      return await f(...args);
    } catch (error) {
      complain(error);
      return undefined;
    }
  };
