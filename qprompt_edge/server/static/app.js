/** The frame of the page: heading, the view that the address names, notices, and what holds everywhere. */
import { link, onUnauthorised } from "./api.js";
import { askText, showShortcuts } from "./dialogs.js";
import { el, put, typing } from "./dom.js";
import { icon } from "./icons.js";
import { notice, noticeArea } from "./notices.js";
import { S } from "./strings.js";
import { mountTask } from "./task.js";
import { mountTasks } from "./tasks.js";
import { uploadTray } from "./upload_tray.js";

const main = el("main", { id: "content", tabIndex: -1 });
let leave = null;
let shown = null;

/** The parts of an address like #/task/belt/photos/ripe, decoded. */
function route() {
  try {
    return location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return [];
  }
}

async function show() {
  const [kind, name, ...rest] = route();
  if (kind === "task" && name && shown?.stay?.(name, rest)) return;
  leave?.abort();
  leave = new AbortController();
  const signal = leave.signal;
  const failed = (error) => {
    if (signal.aborted) return;
    const words = error.status === 404 ? S.notFound : error.message;
    put(
      main,
      el(
        "section.empty",
        {},
        icon("warn"),
        el("h1", {}, S.failed),
        el("p", {}, words),
        el("a.button", { href: "#/" }, S.allTasks),
      ),
    );
  };
  try {
    shown = null;
    const view =
      kind === "task" && name ? await mountTask(main, name, rest, signal) : await mountTasks(main, signal);
    if (signal.aborted) return;
    shown = view;
    if (!main.contains(document.activeElement)) main.focus({ preventScroll: true });
  } catch (error) {
    shown = null;
    failed(error);
    if (error.status === 0) link.addEventListener("found", show, { once: true, signal });
  }
}

let asking = null;
onUnauthorised(() => {
  asking ??= (async () => {
    const token = await askText({
      title: S.tokenTitle,
      label: S.token,
      help: S.tokenHelp,
      act: S.tokenSend,
      attributes: { type: "password" },
    });
    if (token === undefined) throw new DOMException(S.cancel, "AbortError");
    await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
  })().finally(() => (asking = null));
  return asking;
});

function frame() {
  const offline = el("div.offline", { role: "alert", hidden: true }, icon("offline"), el("p", {}, S.offline));
  link.addEventListener("lost", () => (offline.hidden = false));
  link.addEventListener("found", () => {
    offline.hidden = true;
    notice(S.online);
  });
  document.body.append(
    el("a.skip", { href: "#content", onclick: (event) => (event.preventDefault(), main.focus()) }, S.skip),
    el(
      "header.top",
      {},
      el(
        "a.brand",
        { href: "#/" },
        el("img", { src: "/static/icon.svg", alt: "", width: 28, height: 28 }),
        el("span", {}, S.product),
      ),
      el(
        "button.round.keys-button",
        { type: "button", "aria-label": S.shortcuts, title: S.shortcuts, onclick: showShortcuts },
        icon("keys"),
      ),
    ),
    offline,
    main,
    uploadTray(),
    ...noticeArea(),
  );
}

document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !typing(event) && !document.querySelector("dialog[open]")) showShortcuts();
});
window.addEventListener("hashchange", show);
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
frame();
show();
