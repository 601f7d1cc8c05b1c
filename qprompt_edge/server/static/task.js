/** One task: its name, its parts as tabs, what to do next, and the part that is open. */
import { takeButton } from "./adding.js";
import { at, get, post } from "./api.js";
import { mountCheck } from "./check.js";
import { el, put, throttled, typing } from "./dom.js";
import { icon } from "./icons.js";
import { complain, guarded, notice } from "./notices.js";
import { mountPhotos } from "./photos.js";
import { mountReview } from "./review.js";
import { S } from "./strings.js";
import { taskAddress } from "./tasks.js";
import { mountTeach } from "./teach.js";
import { mountTry } from "./try.js";
import { uploads } from "./uploads.js";

/** Photos of each class that are a good start. */
export const GOAL = 12;

const LOOK_MS = 10000;
const PARTS = {
  photos: mountPhotos,
  check: mountCheck,
  teach: mountTeach,
  try: mountTry,
  review: mountReview,
};

/** What a person would do next: words, and where that leads. */
function nextStep({ name, classes, versions, changed, job }) {
  if (job) return null;
  if (classes.length === 0) return { words: S.nextFirstClass };
  if (classes.length === 1 && classes[0].photos >= 2) return { words: S.nextSecondClass };
  const short = classes.find(({ photos }) => photos < GOAL);
  const teach = { act: S.nextTeachGo, to: taskAddress(name, "teach") };
  if (!versions && short) return { words: S.nextPhotos(short.label, short.photos, GOAL), label: short.label };
  if (classes.length === 1) return { words: S.nextSecondClass };
  if (!versions) return { words: S.nextTeach, ...teach };
  if (changed) return { words: S.nextAgain, ...teach, act: S.nextAgainGo };
  return { words: S.nextTry, act: S.nextTryGo, to: taskAddress(name, "try") };
}

/** The state of a task that its parts share: the last answer of the device, and who is told of a new one. */
class Task extends EventTarget {
  constructor(name) {
    super();
    this.name = name;
    this.detail = null;
  }

  async refresh() {
    this.detail = await get(at`tasks/${this.name}`);
    this.dispatchEvent(new Event("change"));
    return this.detail;
  }

  /** Undo the last change of classes and photos. */
  undo = guarded(async () => {
    try {
      const { undone } = await post(at`tasks/${this.name}/undo`);
      notice(S.undone(undone));
    } catch (error) {
      if (error.status !== 409) throw error;
      notice(S.nothingToUndo);
    }
    await this.refresh();
    this.dispatchEvent(new Event("photos"));
  });

  /** Say what was changed, with a way back; show the new state. */
  async changed(line) {
    notice(line, { act: S.undo, onact: this.undo });
    await this.refresh();
    this.dispatchEvent(new Event("photos"));
  }
}

function shell(root, task) {
  const tabs = Object.keys(PARTS).map((part) =>
    el(
      "a.tab",
      { href: taskAddress(task.name, part), dataset: { part } },
      icon(part),
      el("span", {}, S.tabs[part]),
      el("span.badge", { hidden: true }),
    ),
  );
  const next = el("aside.next", { "aria-label": S.nextLabel, hidden: true });
  const body = el("div.part");
  put(
    root,
    el(
      "header.task-head",
      {},
      el("a.round", { href: "#/", "aria-label": S.allTasks }, icon("back")),
      el("h1", {}, task.name),
      el(
        "button.quiet.undo",
        { type: "button", hidden: true, onclick: task.undo },
        icon("undo"),
        el("span", {}, S.undo),
      ),
    ),
    el("nav.tabs", { "aria-label": S.tabsLabel }, tabs),
    next,
    body,
  );
  return { tabs, next, body, undo: root.querySelector(".undo") };
}

function showState({ tabs, next, undo }, task, open) {
  const { detail } = task;
  for (const tab of tabs) {
    const { part } = tab.dataset;
    if (part === open) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
    const badge = tab.querySelector(".badge");
    const busy = part === "teach" && Boolean(detail.job);
    const number = part === "review" ? detail.review : 0;
    badge.hidden = !busy && !number;
    badge.classList.toggle("busy", busy);
    badge.textContent = busy ? "" : number > 99 ? "99+" : String(number);
  }
  undo.hidden = !detail.undo || open !== "photos";
  if (detail.undo) undo.title = `${S.undo}: ${detail.undo}`;
  const step = nextStep(detail);
  next.hidden = !step || !["photos", "check"].includes(open) || (!step.to && open !== "photos");
  // it stays while its words do: a phone's camera may be open from it
  if (step && next.dataset.words !== step.words) {
    const act = step.to
      ? el("a.button.primary", { href: step.to }, step.act)
      : step.label && takeButton(task, step.label, "button.primary");
    put(next, el("p", {}, el("strong", {}, `${S.nextLabel}: `), step.words), act);
    next.dataset.words = step.words;
  }
}

function keys(task, signal) {
  document.addEventListener(
    "keydown",
    (event) => {
      if (document.querySelector("dialog[open]") || typing(event)) return;
      const part = Object.keys(PARTS)[Number(event.key) - 1];
      if (event.altKey && /^[1-5]$/.test(event.key) && part) {
        event.preventDefault();
        location.hash = taskAddress(task.name, part);
      } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
        event.preventDefault();
        task.undo();
      }
    },
    { signal },
  );
}

/**
 * Show a task.
 * @param {Element} root What is filled.
 * @param {string} name The task's name.
 * @param {string[]} rest The rest of the address: the part, and what is open in it.
 * @param {AbortSignal} signal Aborted when the view is left.
 */
export async function mountTask(root, name, rest, signal) {
  const task = new Task(name);
  await task.refresh();
  if (signal.aborted) return null;
  const frame = shell(root, task);
  let part = null;
  let leave = new AbortController();
  const open = async (wanted, more) => {
    const to = wanted in PARTS ? wanted : "photos";
    leave.abort();
    leave = new AbortController();
    signal.addEventListener("abort", () => leave.abort(), { signal: leave.signal });
    part = to;
    document.title = `${S.tabs[part]} · ${name} · ${S.product}`;
    showState(frame, task, part);
    window.scrollTo(0, 0);
    put(frame.body);
    await PARTS[part](frame.body, task, leave.signal, more);
  };
  task.addEventListener("change", () => showState(frame, task, part));
  uploads.addEventListener(
    "added",
    throttled(() => signal.aborted || task.refresh().catch(complain), 700),
    { signal },
  );
  const refresh = () => task.refresh().catch(complain);
  window.addEventListener("focus", refresh, { signal });
  // somebody else may be at work on the same task
  const look = setInterval(() => document.hidden || refresh(), LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(look));
  keys(task, signal);
  await open(rest[0] ?? "photos", rest.slice(1));
  return {
    /** Go to another part of the same task; false if it is another task. */
    stay: (other, [wanted = "photos", ...more]) => {
      if (other !== name) return false;
      open(wanted, more).catch(complain);
      return true;
    },
  };
}
