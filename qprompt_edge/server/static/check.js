/** A look at the photos before teaching: each finding with its photos, and one click to mend it. */
import { ApiError, at, get, post } from "./api.js";
import { learningCurve } from "./curve.js";
import { el, put } from "./dom.js";
import { findings } from "./findings.js";
import { icon } from "./icons.js";
import { complain, guarded } from "./notices.js";
import { showJob } from "./progress.js";
import { S } from "./strings.js";
import { taskAddress } from "./tasks.js";

const SHOWN = 60;

function photo(task, one) {
  const mend = (words, f) =>
    el(
      "button",
      {
        type: "button",
        onclick: guarded(async () => {
          await f();
          box.classList.add("mended");
          for (const button of box.querySelectorAll("button")) button.disabled = true;
          box.querySelector("p").append(el("span.pill.good", {}, S.checkDone));
        }),
      },
      words,
    );
  const removed = async () => {
    await post(at`tasks/${task.name}/photos/delete`, { ids: [one.id] });
    await task.changed(S.deleted(1));
  };
  const moved = async () => {
    await post(at`tasks/${task.name}/photos/move`, { ids: [one.id], class: one.to });
    await task.changed(S.moved(1, one.to));
  };
  const image = el("img", {
    src: at`tasks/${task.name}/photos/${one.id}/thumb` + "?size=320",
    alt: S.photoAlt(one.label),
    loading: "lazy",
  });
  image.addEventListener("error", () => image.replaceWith(el("span.no-picture", {}, icon("broken"))));
  const box = el(
    "li.finding-photo",
    {},
    image,
    el("p", {}, el("strong", {}, one.label), one.why && el("span", {}, one.why)),
    el(
      "div.actions",
      {},
      one.to && mend(S.checkMoveTo(one.to), moved),
      !one.keep && mend(S.checkDelete, removed),
    ),
  );
  return box;
}

function group(task, { title, text, photos, all, label }) {
  const everything = guarded(async () => {
    const ids = all.map(({ id }) => id);
    await post(at`tasks/${task.name}/photos/delete`, { ids });
    box.classList.add("mended");
    await task.changed(S.deleted(ids.length));
  });
  const box = el(
    "section.card.finding",
    {},
    el("h3", {}, title),
    el("p.muted", {}, text),
    label &&
      el("a.button", { href: taskAddress(task.name, "photos", label) }, icon("camera"), S.checkMorePhotos),
    all?.length > 1 &&
      el(
        "div.actions",
        {},
        el("button", { type: "button", onclick: everything }, icon("trash"), S.checkDeleteAll(all.length)),
      ),
    photos?.length > 0 &&
      el(
        "ul.finding-photos",
        {},
        photos.slice(0, SHOWN).map((one) => photo(task, one)),
      ),
    photos?.length > SHOWN && el("p.hint", {}, S.checkNotShown(photos.length - SHOWN)),
  );
  return box;
}

const lastFindings = async (task) => (task.detail.checked ? get(at`tasks/${task.name}/check`) : null);

/**
 * Show what a check of the photos found.
 * @param {Element} root What is filled.
 * @param {object} task The task.
 * @param {AbortSignal} signal Aborted when the view is left.
 */
export async function mountCheck(root, task, signal) {
  const photos = task.detail.classes.reduce((sum, it) => sum + it.photos, 0);
  if (photos === 0) {
    put(
      root,
      el(
        "div.empty",
        {},
        icon("check"),
        el("h2", {}, S.checkTitle),
        el("p", {}, S.checkNeeds),
        el("a.button.primary", { href: taskAddress(task.name, "photos") }, S.toPhotos),
      ),
    );
    return;
  }
  const top = el("div");
  const list = el("div.stack");
  put(root, el("div.check", {}, top, list));
  const idle = (found) =>
    put(
      top,
      el(
        "section.card.starter",
        {},
        el("h2", {}, S.checkTitle),
        el("p", {}, S.checkText),
        found?.changed && el("p.old", {}, icon("warn"), S.checkOld),
        el(
          "div.actions",
          {},
          el(
            found && !found.changed ? "button" : "button.primary",
            { type: "button", onclick: run },
            icon("check"),
            found ? S.checkAgain : S.checkRun,
          ),
        ),
      ),
    );
  const show = (found) => {
    idle(found);
    if (!found) return;
    const groups = findings(found);
    put(
      list,
      el("h2", { tabIndex: -1 }, groups.length ? S.checkFound(groups.length) : S.checkClean),
      learningCurve(found.curve),
      groups.map((it) => group(task, it)),
    );
  };
  const watch = async (id) => {
    const last = await showJob(top, S.checkRunning, id, signal);
    if (!last || signal.aborted) return;
    await task.refresh();
    show(await lastFindings(task));
    if (last.state === "failed") complain(new ApiError(422, last.error));
    list.querySelector("h2")?.focus();
  };
  const run = guarded(async () => {
    const { job } = await post(at`tasks/${task.name}/check`);
    put(list);
    await watch(job);
  });
  show(await lastFindings(task));
  if (task.detail.job) {
    const job = await get(at`jobs/${task.detail.job}`);
    if (job.kind === "check") watch(job.id).catch(complain);
  }
}
