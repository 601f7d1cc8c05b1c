/** The classes of a task: numbered as the keys are, with how many photos each has; made, renamed, deleted. */
import { at, patch, post, remove } from "./api.js";
import { askText, menu } from "./dialogs.js";
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { guarded } from "./notices.js";
import { S } from "./strings.js";
import { GOAL } from "./task.js";
import { taskAddress } from "./tasks.js";

async function rename(task, label) {
  const name = await askText({
    title: S.classRename,
    label: S.classField,
    value: label,
    act: S.rename,
    help: S.classesHelp,
  });
  if (!name || name === label) return;
  await patch(at`tasks/${task.name}/classes/${label}`, { label: name });
  await task.refresh();
  location.hash = taskAddress(task.name, "photos", name);
}

async function removeClass(task, { label, photos }) {
  await remove(at`tasks/${task.name}/classes/${label}`);
  location.hash = taskAddress(task.name, "photos");
  await task.changed(S.classDeleted(label, photos));
}

/** A new class, unless it is there. */
export async function makeClass(task, label) {
  if (task.detail.classes.some((it) => it.label === label)) return;
  await post(at`tasks/${task.name}/classes`, { label });
  await task.refresh();
}

function row(task, label, i, open, take) {
  const one = () => task.detail.classes.find((it) => it.label === label);
  const more = () =>
    menu(label, [
      ["edit", S.rename, guarded(() => rename(task, label))],
      ["trash", S.remove, guarded(() => removeClass(task, one()))],
    ]);
  return el(
    "li.class",
    { "aria-current": label === open && "true" },
    el(
      "a.class-link",
      { href: taskAddress(task.name, "photos", label) },
      el("kbd", { "aria-hidden": "true" }, i < 9 ? String(i + 1) : ""),
      el("span.label", {}, label),
      el("small"),
      el("meter", { min: 0, max: GOAL, "aria-hidden": "true" }),
    ),
    take(label),
    el("button.round", { type: "button", "aria-label": S.more(label), onclick: more }, icon("more")),
  );
}

/**
 * The list of classes.
 * @param {object} task The task.
 * @param {string | null} open The class that is shown.
 * @param {(label: string) => Element} take Makes the button that takes a photo of a class.
 * @param {AbortSignal} signal
 */
export function classList(task, open, take, signal) {
  const list = el("ul.class-list");
  const input = el("input", { required: true, autocomplete: "off", maxlength: 100 });
  const all = el(
    "a.all-link",
    { href: taskAddress(task.name, "photos"), "aria-current": open === null && "true" },
    el("kbd", { "aria-hidden": "true" }, "0"),
    el("span.label", {}, S.allPhotos),
    el("small"),
  );
  const add = guarded(async (event) => {
    event.preventDefault();
    const label = input.value.trim();
    if (!label) return;
    await post(at`tasks/${task.name}/classes`, { label });
    input.value = "";
    await task.refresh();
    input.focus();
  });
  const show = () => {
    const { classes } = task.detail;
    const labels = JSON.stringify(classes.map(({ label }) => label));
    // rows stay while their names do: a phone's camera may be open for one of them
    if (list.dataset.labels !== labels)
      put(
        list,
        classes.map(({ label }, i) => row(task, label, i, open, take)),
      );
    list.dataset.labels = labels;
    classes.forEach(({ photos }, i) => {
      list.children[i].querySelector("small").textContent = S.classCount(photos, GOAL);
      list.children[i].querySelector("meter").value = Math.min(photos, GOAL);
    });
    all.hidden = classes.length === 0;
    all.querySelector("small").textContent = String(classes.reduce((sum, { photos }) => sum + photos, 0));
    input.placeholder = classes.length ? S.classExampleMore : S.classExample;
  };
  task.addEventListener("change", show, { signal });
  show();
  return el(
    "section.classes",
    { "aria-label": S.classes },
    all,
    list,
    el(
      "form.inline.one-line",
      { onsubmit: add },
      el("label.field", {}, el("span", {}, S.classField), input),
      el("button", {}, icon("add"), S.classAdd),
    ),
  );
}
