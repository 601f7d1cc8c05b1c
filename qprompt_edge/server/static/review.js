/** The review queue: frames that a camera loop was unsure of, each confirmed or corrected with one key. */
import { at, get, post } from "./api.js";
import { el, put, typing } from "./dom.js";
import { icon } from "./icons.js";
import { guarded, notice, say } from "./notices.js";
import { S, day } from "./strings.js";
import { learnNow } from "./teach.js";

const ASKED = 20;

function empty(task) {
  return el(
    "div.empty",
    {},
    icon("review"),
    el("h2", {}, S.reviewEmpty),
    el("p", {}, S.reviewEmptyHelp),
    el("code", {}, S.reviewCommand(task.name)),
  );
}

function question(task, item, total, act) {
  const { id, source, time, predictions, none_of_these: none } = item;
  const [best] = predictions;
  const from = source ? S.reviewFrom(source, day(time)) : day(time);
  const chip = ({ label }, i) =>
    el(
      "button.chip",
      { type: "button", onclick: () => act.label(label) },
      i < 9 && el("kbd", { "aria-hidden": "true" }, String(i + 1)),
      el("span", {}, label),
    );
  return el(
    "section.review-item",
    { "aria-label": S.reviewTitle },
    el("div.finder", {}, el("img", { src: at`tasks/${task.name}/review/${id}/file`, alt: S.reviewFrame })),
    el(
      "div.review-side",
      {},
      el("p.muted", { role: "status" }, S.reviewLeft(total)),
      el("p.lead", {}, none ? S.reviewSaidNone(best.label) : S.reviewSaid(best.label, best.probability)),
      el("p.hint", {}, from),
      el(
        "button.primary.big",
        { type: "button", onclick: () => act.label(best.label) },
        icon("done"),
        S.reviewConfirm(best.label),
      ),
      el("p", {}, S.reviewWhat),
      el("div.chips", {}, task.detail.classes.map(chip)),
      el(
        "div.actions",
        {},
        el("button", { type: "button", onclick: act.discard }, icon("trash"), S.reviewDiscard),
        el("button", { type: "button", onclick: act.undo }, icon("undo"), S.undo),
      ),
      el("p.hint.no-touch", {}, S.reviewKeys),
    ),
  );
}

function keyboard(task, state, act, signal) {
  document.addEventListener(
    "keydown",
    (event) => {
      if (
        typing(event) ||
        document.querySelector("dialog[open]") ||
        event.ctrlKey ||
        event.metaKey ||
        event.altKey ||
        event.repeat
      )
        return;
      const item = state.items[0];
      const one = task.detail.classes[Number(event.key) - 1];
      const onButton = event.target instanceof Element && event.target.closest("button, a");
      if (event.key.toLowerCase() === "u") act.undo();
      else if (!item) return;
      else if (event.key === "Enter" && !onButton) act.label(item.predictions[0].label);
      else if (/^[1-9]$/.test(event.key) && one) act.label(one.label);
      else if (event.key === "Delete" || event.key === "Backspace") act.discard();
      else return;
      event.preventDefault();
    },
    { signal },
  );
}

/**
 * Show the review queue of a task.
 * @param {Element} root What is filled.
 * @param {object} task The task.
 * @param {AbortSignal} signal Aborted when the view is left.
 */
export async function mountReview(root, task, signal) {
  const state = { items: [], total: 0, done: 0 };
  const place = el("div");
  const progress = el("div");
  const finished = el("section.card.starter", { hidden: true });
  put(root, el("div.review", {}, progress, finished, place));

  const show = () => {
    if (signal.aborted) return;
    const item = state.items[0];
    if (item) put(place, question(task, item, state.total, act));
    else if (state.total === 0) put(place, empty(task));
    place.querySelector("button.primary")?.focus({ preventScroll: true });
    finished.hidden = state.done === 0;
    for (const { id } of state.items.slice(1, 4)) new Image().src = at`tasks/${task.name}/review/${id}/file`;
  };
  const load = async () => {
    const { total, items } = await get(at`tasks/${task.name}/review` + `?limit=${ASKED}`);
    Object.assign(state, { total, items });
    summary();
    show();
  };
  // the next frame is shown at once; the device is told one after the other
  let telling = Promise.resolve();
  const tell = (f) => {
    telling = telling.then(guarded(f));
    return telling;
  };
  const decide = (body, line, labelled) => {
    const item = state.items.shift();
    if (!item) return;
    state.total -= 1;
    state.done += labelled;
    say(line);
    summary();
    show();
    const last = state.items.length === 0;
    tell(async () => {
      try {
        await post(at`tasks/${task.name}/review/${item.id}`, body);
      } catch (error) {
        state.done -= labelled;
        await load();
        throw error;
      }
      if (last) await load();
      await task.refresh();
    });
  };
  const act = {
    label: (label) => decide({ class: label }, S.reviewSaved(label), 1),
    discard: () => decide({ discard: true }, S.reviewDiscarded, 0),
    undo: () =>
      tell(async () => {
        await task.undo();
        state.done = Math.max(0, state.done - 1);
        await load();
      }),
  };
  const learn = guarded(async () => {
    const n = await learnNow(task, progress, signal);
    if (n === null) return;
    state.done = 0;
    notice(S.tryLearned(n));
    await load();
  });
  const summary = () =>
    put(
      finished,
      el("p", {}, el("strong", {}, S.reviewDone(state.done)), " ", S.reviewLearnHelp),
      el(
        "div.actions",
        {},
        el("button.primary", { type: "button", onclick: learn }, icon("teach"), S.reviewLearn),
      ),
    );
  keyboard(task, state, act, signal);
  await load();
}
