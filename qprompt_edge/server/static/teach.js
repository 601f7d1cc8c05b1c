/** Teaching: start it, watch it, stop it; the verdict; and the versions that came of it. */
import { at, get, post } from "./api.js";
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { mistakeList } from "./mistakes.js";
import { guarded, notice } from "./notices.js";
import { showJob } from "./progress.js";
import { S } from "./strings.js";
import { taskAddress } from "./tasks.js";
import { measured, verdict } from "./verdict.js";
import { publish, versionList } from "./versions.js";

/** Why teaching cannot start yet, or null. */
function missing({ classes }) {
  if (classes.length < 2) return S.teachNeedsClasses;
  const without = classes.find(({ photos }) => photos === 0);
  return without ? S.teachNeedsPhotos(without.label) : null;
}

/**
 * Learn the photos that are new, and take the result into use.
 * @returns The number of the version, or null if it was stopped or the view was left.
 */
export async function learnNow(task, root, signal) {
  const { job } = await post(at`tasks/${task.name}/update`);
  const last = await showJob(root, S.teachRunning, job, signal);
  put(root);
  if (last?.state === "failed") throw new Error(last.error);
  if (last?.state !== "done") return null;
  await publish(task, last.result.n);
  return last.result.n;
}

function starter(task, start, resumable) {
  const why = missing(task.detail);
  const { classes, published, changed } = task.detail;
  const photos = classes.reduce((sum, it) => sum + it.photos, 0);
  if (why)
    return el(
      "div.empty",
      {},
      icon("teach"),
      el("h2", {}, S.teachTitle),
      el("p", {}, why),
      el("a.button.primary", { href: taskAddress(task.name, "photos") }, S.toPhotos),
    );
  return el(
    "section.card.starter",
    {},
    el("p", {}, S.teachText(classes.length, photos)),
    el(
      "div.actions",
      {},
      el(
        "button.primary",
        { type: "button", onclick: () => start("adapt") },
        icon("teach"),
        resumable ? S.teachResume : published ? S.teachAgain : S.teachRun,
      ),
      published && changed && el("button", { type: "button", onclick: () => start("update") }, S.teachUpdate),
    ),
  );
}

function shownVersion(task, version, again) {
  return [
    el(
      "section.card",
      { id: "verdict" },
      el(
        "h2",
        { tabIndex: -1 },
        S.resultTitle(version.n),
        version.published && el("span.pill.good", {}, S.versionInUse),
      ),
      verdict(version),
      el(
        "div.actions",
        {},
        version.published
          ? el("a.button.primary", { href: taskAddress(task.name, "try") }, icon("try"), S.tabs.try)
          : el(
              "button.primary",
              {
                type: "button",
                onclick: guarded(async () => (await publish(task, version.n), again(version.n))),
              },
              S.versionUse,
            ),
      ),
    ),
    version.mistakes?.length > 0 && mistakeList(task, version.mistakes),
    measured(version),
  ];
}

/**
 * Show the teaching of a task.
 * @param {Element} root What is filled.
 * @param {object} task The task.
 * @param {AbortSignal} signal Aborted when the view is left.
 */
export async function mountTeach(root, task, signal) {
  const top = el("div");
  const result = el("div.stack");
  const list = el("div");
  put(root, el("div.teach", {}, top, result, list));
  const comparison = el("div", { "aria-live": "polite" });
  let resumable = false;
  let known = 0;
  let watching = false;

  const show = async (wanted) => {
    const all = await get(at`tasks/${task.name}/versions`);
    const n = wanted ?? all.find((it) => it.published)?.n ?? all[all.length - 1]?.n ?? null;
    const version = n === null ? null : await get(at`tasks/${task.name}/versions/${n}`);
    if (signal.aborted) return;
    if (all.length !== known) put(comparison);
    known = all.length;
    put(result, version && shownVersion(task, version, again));
    put(list, (all.length > 0 || !missing(task.detail)) && versionList(task, all, n, again, comparison));
  };
  const again = guarded(async (n) => {
    await show(n);
    if (n !== null) document.querySelector("#verdict h2")?.focus();
  });
  const idle = () => put(top, starter(task, start, resumable));
  const watch = async (id, title) => {
    const last = await showJob(top, title, id, signal);
    if (!last || signal.aborted) return;
    await task.refresh();
    resumable = last.state === "cancelled";
    idle();
    if (last.state === "cancelled") notice(S.teachCancelled);
    if (last.state === "failed")
      put(
        top,
        el(
          "div.card.failed",
          { role: "alert" },
          el("h2", {}, icon("warn"), S.teachFailed),
          el("p", {}, last.error),
        ),
        starter(task, start, false),
      );
    if (last.state !== "done") return;
    const made = last.result.n ?? null;
    if (made !== null && !task.detail.published) await publish(task, made);
    idle();
    await again(made);
  };
  // one job is shown at a time, whoever started it
  const alone = (f) =>
    guarded(async (...args) => {
      if (watching) return;
      watching = true;
      try {
        await f(...args);
      } finally {
        watching = false;
      }
    });
  const start = alone(async (kind) => {
    const { job } = await post(at`tasks/${task.name}/${kind}`);
    await watch(job, S.teachRunning);
  });
  const follow = alone(async () => {
    const job = await get(at`jobs/${task.detail.job}`);
    await watch(job.id, job.kind === "check" ? S.checkRunning : S.teachRunning);
  });
  task.addEventListener(
    "change",
    () => {
      if (task.detail.job) follow();
      else if (!watching && !top.querySelector(".failed")) idle();
    },
    { signal },
  );
  idle();
  await show(null);
  if (task.detail.job) follow();
}
