/** Try it: show it something, see the answer, and say what it is where the answer is not right. */
import { at, get, send } from "./api.js";
import { answerCard, answerStrip } from "./answer.js";
import { cameraExplained } from "./camera.js";
import { dialog } from "./dialogs.js";
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { complain, guarded, notice, say } from "./notices.js";
import { fileButton } from "./adding.js";
import { deviceFrames, predict, webcamFrames } from "./sources.js";
import { S } from "./strings.js";
import { taskAddress } from "./tasks.js";
import { learnNow } from "./teach.js";
import { cameraAllowed, cameraProblem } from "./webcam.js";

/** Buttons that say what the last picture is; it becomes a photo of that class. */
function corrector(task, current, progress, signal) {
  const learn = el("div.learn", { hidden: true });
  const keep = guarded(async (label) => {
    const { blob } = current;
    if (!blob) return;
    const answer = await send(at`tasks/${task.name}/classes/${label}/photos`, blob, {
      name: `${label}.jpg`,
      signal,
    });
    if (answer.added?.length) await task.changed(S.tryKept(label));
    else notice(answer.skipped?.[0]?.reason ?? S.sendRepeated, { bad: true });
    learn.hidden = !answer.added?.length;
  });
  const learnClick = guarded(async () => {
    learn.hidden = true;
    const n = await learnNow(task, progress, signal);
    if (n !== null) notice(S.tryLearned(n));
  });
  put(learn, el("button.primary", { type: "button", onclick: learnClick }, icon("teach"), S.tryLearn));
  const chips = el("div.chips");
  const show = () =>
    put(
      chips,
      task.detail.classes.map(({ label }, i) =>
        el(
          "button.chip",
          { type: "button", onclick: () => keep(label) },
          i < 9 && el("kbd", { "aria-hidden": "true" }, String(i + 1)),
          el("span", {}, label),
        ),
      ),
    );
  task.addEventListener("change", show, { signal });
  show();
  const box = el(
    "section.correct",
    { hidden: true, "aria-label": S.tryWrong },
    el("p", {}, S.tryWrong),
    chips,
    learn,
  );
  document.addEventListener(
    "keydown",
    (event) => {
      const one = task.detail.classes[Number(event.key) - 1];
      if (
        !box.hidden &&
        /^[1-9]$/.test(event.key) &&
        one &&
        !event.altKey &&
        !event.ctrlKey &&
        !event.metaKey &&
        !document.querySelector("dialog[open]")
      )
        keep(one.label);
    },
    { signal },
  );
  return box;
}

function nothingYet(task) {
  return el(
    "div.empty",
    {},
    icon("try"),
    el("h2", {}, S.tryNeeds),
    el("p", {}, S.tryNeedsHelp),
    el("a.button.primary", { href: taskAddress(task.name, "teach") }, S.tabs.teach),
  );
}

/** What shows the picture: the camera's video, or a still. */
function stage() {
  const video = el("video", { playsinline: true, muted: true, hidden: true });
  const still = el("img", { alt: "", hidden: true });
  const words = el("p.muted", { hidden: true }, S.tryCannotShow);
  let url = "";
  still.addEventListener("error", () => {
    still.hidden = true;
    words.hidden = false;
  });
  const clear = () => {
    URL.revokeObjectURL(url);
    video.hidden = still.hidden = words.hidden = true;
  };
  return {
    box: el("div.finder.try-stage", {}, icon("try"), video, still, words),
    video,
    clear,
    showVideo: () => {
      clear();
      video.hidden = false;
    },
    showStill: (blob) => {
      const before = url;
      url = URL.createObjectURL(blob);
      still.src = url;
      still.hidden = false;
      video.hidden = words.hidden = true;
      URL.revokeObjectURL(before);
    },
  };
}

/**
 * Show the trying of a task.
 * @param {Element} root What is filled.
 * @param {object} task The task.
 * @param {AbortSignal} signal Aborted when the view is left.
 */
export async function mountTry(root, task, signal) {
  if (!task.detail.versions) {
    put(root, nothingYet(task));
    return;
  }
  const { cameras } = await get("/api/status");
  if (signal.aborted) return;
  const current = { blob: null };
  const progress = el("div");
  const view = stage();
  const { card, show } = answerCard();
  const strip = answerStrip();
  const correct = corrector(task, current, progress, signal);
  const allow = el("input", { type: "checkbox", checked: true });
  let running = new AbortController();
  let lastSaid = "";

  const stopButton = el(
    "button.stop",
    { type: "button", hidden: true, onclick: () => stop() },
    icon("stop"),
    S.tryStop,
  );
  const stop = () => {
    running.abort();
    running = new AbortController();
    stopButton.hidden = true;
    root.firstElementChild?.classList.remove("live");
  };
  const answered = (answer, blob) => {
    current.blob = blob;
    correct.hidden = false;
    show(answer);
    strip.add(answer, blob);
    const label = card.querySelector(".answer-label").textContent;
    if (label !== lastSaid) say((lastSaid = label));
  };
  const live = async (frames) => {
    stop();
    stopButton.hidden = false;
    root.firstElementChild.classList.add("live");
    const mine = running;
    try {
      await frames(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) {
        stop();
        view.clear();
        if (error.status === undefined) notice(cameraProblem(error), { bad: true });
        else complain(error);
      }
    }
  };
  const webcam = () => {
    if (!cameraAllowed()) return dialog(S.cameraInsecureTitle, cameraExplained);
    view.showVideo();
    return live((over) => webcamFrames(task.name, view.video, () => allow.checked, answered, over));
  };
  const device = (source) =>
    live((over) =>
      deviceFrames(
        task.name,
        source,
        allow.checked,
        (answer, blob) => (view.showStill(blob), answered(answer, blob)),
        (line) => notice(line, { bad: true }),
        over,
      ),
    );
  const photo = guarded(async ([{ file }]) => {
    stop();
    view.showStill(file);
    answered(await predict(task.name, file, allow.checked, signal), file);
  });
  signal.addEventListener("abort", () => {
    stop();
    view.clear();
    strip.clear();
  });
  const sources = el(
    "div.toolbar",
    { role: "group", "aria-label": S.trySource },
    el("button.primary", { type: "button", onclick: webcam }, icon("video"), el("span", {}, S.tryWebcam)),
    fileButton(
      S.tryPhoto,
      "camera",
      { accept: "image/*", capture: "environment" },
      photo,
      "button.only-touch",
    ),
    fileButton(S.tryFile, "files", { accept: "image/*,.heic,.heif" }, photo),
    (cameras ?? []).map((source) =>
      el(
        "button",
        { type: "button", onclick: () => device(source) },
        icon("camera"),
        el("span", {}, S.tryDevice(source)),
      ),
    ),
    stopButton,
  );
  const option = el("label.switch", {}, allow, el("span", {}, S.tryAllowNone));
  put(
    root,
    el(
      "div.try",
      {},
      el("div.try-left", {}, sources, view.box),
      el("div.try-right", {}, card, progress, correct, option),
      strip.box,
    ),
  );
}
