/** The first view: the tasks, and a way to make one. */
import { at, get, patch, post, remove } from "./api.js";
import { askText, menu } from "./dialogs.js";
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { complain, guarded, notice } from "./notices.js";
import { S } from "./strings.js";

export const taskAddress = (name, ...rest) =>
  "#/" + ["task", name, ...rest].map(encodeURIComponent).join("/");

function newTask(first) {
  const input = el("input", {
    required: true,
    maxlength: 60,
    autocomplete: "off",
    placeholder: S.taskExample,
    "aria-describedby": "task-rule",
  });
  const make = guarded(async (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (!name) return;
    await post("/api/tasks", { name });
    location.hash = taskAddress(name);
  });
  return el(
    first ? "form.inline.one-line.start" : "form.inline.one-line.card",
    { onsubmit: make },
    el("label.field", {}, el("span", {}, first ? S.taskField : S.newTask), input),
    el("button.primary", {}, S.taskAdd),
    el("p.hint", { id: "task-rule" }, S.taskNameRule),
  );
}

function hero() {
  return el(
    "section.hero",
    {},
    el("h1", {}, S.heroTitle),
    el("p.lead", {}, S.heroText),
    newTask(true),
    el(
      "ol.steps",
      {},
      S.steps.map(([title, text], i) =>
        el(
          "li",
          {},
          icon(["edit", "camera", "teach"][i]),
          el("div", {}, el("strong", {}, title), el("span", {}, text)),
        ),
      ),
    ),
  );
}

async function rename(task, again) {
  const name = await askText({
    title: S.taskRename,
    label: S.taskField,
    value: task.name,
    act: S.rename,
    help: S.taskNameRule,
    attributes: { maxlength: 60 },
  });
  if (!name || name === task.name) return;
  await patch(at`tasks/${task.name}`, { name });
  await again();
}

async function removeTask(task, again) {
  await remove(at`tasks/${task.name}`);
  const undo = guarded(async () => {
    await post("/api/undo");
    await again();
  });
  notice(S.taskDeleted(task.name), { act: S.undo, onact: undo });
  await again();
}

function card(task, again) {
  const state = task.job ? S.taskBusy : task.published ? S.taskInUse(task.published) : S.taskNone;
  const more = () =>
    menu(task.name, [
      ["edit", S.rename, guarded(() => rename(task, again))],
      ["trash", S.remove, guarded(() => removeTask(task, again))],
    ]);
  return el(
    "li.card.task",
    {},
    el(
      "a.task-link",
      { href: taskAddress(task.name) },
      el("strong", {}, task.name),
      el("span.muted", {}, S.taskFacts(task.classes, task.photos)),
      el(
        "span.pills",
        {},
        el(task.published ? "span.pill.good" : "span.pill", {}, state),
        task.review > 0 && el("span.pill.warn", {}, S.toReview(task.review)),
      ),
    ),
    el("button.round", { type: "button", "aria-label": S.more(task.name), onclick: more }, icon("more")),
  );
}

/**
 * Show the tasks.
 * @param {Element} root What is filled.
 * @param {AbortSignal} signal Aborted when the view is left.
 */
export async function mountTasks(root, signal) {
  const again = async () => {
    const { tasks } = await get("/api/tasks");
    if (signal.aborted) return;
    document.title = S.product;
    if (tasks.length === 0) put(root, hero());
    else
      put(
        root,
        el(
          "section",
          {},
          el("h1", {}, S.tasks),
          el(
            "ul.cards",
            {},
            tasks.map((task) => card(task, again)),
          ),
          newTask(false),
        ),
      );
  };
  await again();
  window.addEventListener("focus", () => again().catch(complain), { signal });
  return null;
}
