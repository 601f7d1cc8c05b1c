/** How far the sending is, on every view; and at its end what was left out, and why. */
import { dialog } from "./dialogs.js";
import { el } from "./dom.js";
import { notice, say } from "./notices.js";
import { S } from "./strings.js";
import { uploads } from "./uploads.js";

const MOST_SHOWN = 500;

function showSkipped(skipped) {
  return dialog(S.sentTitle, () =>
    el(
      "ul.reasons",
      {},
      skipped
        .slice(0, MOST_SHOWN)
        .map(({ name, reason }) => el("li", {}, el("strong", {}, name), el("span", {}, reason))),
      skipped.length > MOST_SHOWN && el("li", {}, S.sentSkipped(skipped.length)),
    ),
  );
}

/** The tray, hidden while nothing is sent. */
export function uploadTray() {
  const words = el("p", { id: "sending" });
  const bar = el("progress", { max: 1, value: 0, "aria-labelledby": "sending" });
  const tray = el(
    "div.tray",
    { hidden: true },
    words,
    bar,
    el("button.quiet", { type: "button", onclick: () => uploads.cancel() }, S.sendStop),
  );
  uploads.addEventListener("change", () => {
    tray.hidden = !uploads.active;
    words.textContent = uploads.retrying ? S.sendingWaits : S.sending(uploads.finished, uploads.total);
    bar.value = uploads.progress;
  });
  uploads.addEventListener("done", ({ detail: { added, skipped } }) => {
    const line = [added > 0 && S.sent(added), skipped.length > 0 && S.sentSkipped(skipped.length)]
      .filter(Boolean)
      .join(" ");
    if (skipped.length) notice(line, { act: S.sentWhy, onact: () => showSkipped(skipped), bad: added === 0 });
    else if (line) say(line);
  });
  return tray;
}
