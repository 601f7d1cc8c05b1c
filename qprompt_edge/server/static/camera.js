/**
 * Taking photos with the live camera: one at a press, a burst while it is held; number keys choose the
 * class.
 */
import { dialog } from "./dialogs.js";
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { complain, say } from "./notices.js";
import { S } from "./strings.js";
import { uploads } from "./uploads.js";
import { cameraAllowed, cameraProblem, countCameras, openWebcam, snapshot } from "./webcam.js";

const BURST_MS = 250;

/** Why there is no live camera: plain http from another address, or a browser without one. */
export function cameraExplained() {
  if (window.isSecureContext) return el("p", {}, S.cameraMissing);
  return el(
    "div.stack",
    {},
    S.cameraInsecure.slice(0, 2).map((line) => el("p", {}, line)),
    el("code", {}, S.cameraTlsCommand),
    el("p", {}, S.cameraInsecure[2]),
  );
}

/** Takes photos while something is held; `shoot` is run at once, then at each beat. */
function burst(shoot) {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
  };
  const start = (...args) => {
    if (timer) return;
    shoot(...args);
    timer = setInterval(() => shoot(...args), BURST_MS);
  };
  return { start, stop };
}

function classChoice(classes, first) {
  let current = first;
  const group = el("div.chips", { role: "radiogroup", "aria-label": S.classes });
  const show = () => {
    for (const chip of group.children) chip.querySelector("input").checked = chip.dataset.label === current;
  };
  put(
    group,
    classes.map(({ label }, i) =>
      el(
        "label.chip",
        { dataset: { label } },
        el("input.unseen", { type: "radio", name: "camera-class", onchange: () => (current = label) }),
        i < 9 && el("kbd", { "aria-hidden": "true" }, String(i + 1)),
        el("span", {}, label),
      ),
    ),
  );
  show();
  return {
    group,
    get: () => current,
    set: (label) => {
      current = label;
      show();
    },
  };
}

/**
 * Open the live camera for a class.
 * @param {object} task The task.
 * @param {string | null} label The class to begin with; null takes the first.
 */
export function openCamera(task, label) {
  const { classes } = task.detail;
  if (!cameraAllowed()) return dialog(S.cameraInsecureTitle, cameraExplained);
  if (classes.length === 0) return dialog(S.cameraTitle, () => el("p", {}, S.noClassesHelp));
  const over = new AbortController();
  const choice = classChoice(classes, label ?? classes[0].label);
  const video = el("video", { playsinline: true, muted: true });
  const words = el("p.camera-words", { role: "status" }, S.cameraWaiting);
  const strip = el("div.strip", { "aria-hidden": "true" });
  const taken = new Map();

  const shoot = async (into) => {
    const blob = await snapshot(video);
    if (!blob || over.signal.aborted) return;
    taken.set(into, (taken.get(into) ?? 0) + 1);
    words.textContent = S.cameraTaken(taken.get(into), into);
    video.classList.remove("flash");
    requestAnimationFrame(() => video.classList.add("flash"));
    const url = URL.createObjectURL(blob);
    strip.prepend(el("img", { src: url, alt: "" }));
    while (strip.childElementCount > 8) {
      URL.revokeObjectURL(strip.lastElementChild.src);
      strip.lastElementChild.remove();
    }
    uploads.add(task.name, into, [{ blob, name: `${into}.jpg` }]);
  };
  const { start, stop } = burst((into) => shoot(into).catch(complain));

  let facing = "environment";
  let opened = new AbortController();
  const open = async () => {
    opened.abort();
    opened = new AbortController();
    try {
      await openWebcam(video, facing, opened.signal);
      words.textContent = S.shutterHelp;
      flip.hidden = (await countCameras()) < 2;
    } catch (error) {
      if (!opened.signal.aborted) words.textContent = cameraProblem(error);
      say(words.textContent);
    }
  };
  const flip = el(
    "button.round",
    {
      type: "button",
      "aria-label": S.cameraFlip,
      hidden: true,
      onclick: () => ((facing = facing === "user" ? "environment" : "user"), open()),
    },
    icon("flip"),
  );
  const shutter = el(
    "button.shutter",
    { type: "button", "aria-label": S.shutter, autofocus: true },
    icon("camera"),
  );
  shutter.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    shutter.setPointerCapture(event.pointerId);
    start(choice.get());
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture", "contextmenu"])
    shutter.addEventListener(kind, stop);
  shutter.addEventListener("contextmenu", (event) => event.preventDefault());

  const done = dialog(
    S.cameraTitle,
    () => {
      const body = el(
        "div.camera",
        {},
        el("div.finder", {}, video),
        choice.group,
        el("div.camera-acts", {}, strip, shutter, flip),
        words,
      );
      queueMicrotask(() => {
        const box = body.closest("dialog");
        box.addEventListener("keydown", (event) => {
          const byKey = classes[Number(event.key) - 1];
          const isShutter = event.key === " " || (event.key === "Enter" && event.target === shutter);
          if (/^[1-9]$/.test(event.key) && byKey) choice.set(byKey.label);
          else if (!isShutter || event.target.closest?.(".chip, header")) return;
          event.preventDefault();
          if (!event.repeat) start(choice.get());
        });
        box.addEventListener("keyup", (event) => {
          if (event.key === " " || event.key === "Enter") event.preventDefault();
          stop();
        });
      });
      return body;
    },
    "camera-dialog",
  );
  open();
  window.addEventListener("blur", stop, { signal: over.signal });
  return done.then(() => {
    stop();
    over.abort();
    opened.abort();
    for (const image of strip.children) URL.revokeObjectURL(image.src);
  });
}
