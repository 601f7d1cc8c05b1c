/** Ways to add photos: files, folders, the phone's camera, the live camera, and dropping. */
import { openCamera } from "./camera.js";
import { makeClass } from "./classes.js";
import { askClass } from "./dialogs.js";
import { el } from "./dom.js";
import { bring, chosen, dropped } from "./files_in.js";
import { icon } from "./icons.js";
import { guarded } from "./notices.js";
import { S } from "./strings.js";

/** A button that opens the browser's choice of files; with `capture`, the phone's camera. */
export function fileButton(words, name, attributes, onfiles, kind = "button") {
  const input = el("input.unseen", { type: "file", tabIndex: 0, ...attributes });
  input.addEventListener("change", () => {
    if (input.files.length) onfiles(chosen(input));
    input.value = "";
  });
  return el(`label.${kind}`, { title: words }, input, icon(name), el("span", {}, words));
}

const CAPTURE = { accept: "image/*", capture: "environment" };

function adder(task, label) {
  return guarded((found) =>
    bring(found, {
      task: task.name,
      label,
      ask: () => askClass(S.whichClass, task.detail.classes, true),
      make: (name) => makeClass(task, name),
    }),
  );
}

/** The buttons above the photos of a class, or of all. */
export function toolbar(task, label) {
  const add = adder(task, label);
  return el(
    "div.toolbar",
    {},
    fileButton(S.takePhoto, "camera", CAPTURE, add, "button.primary.only-touch"),
    el(
      "button.live",
      { type: "button", onclick: () => openCamera(task, label) },
      icon("video"),
      el("span", {}, S.liveCamera),
    ),
    fileButton(
      S.addFiles,
      "files",
      { accept: "image/*,.heic,.heif,.zip,application/zip", multiple: true },
      add,
    ),
    fileButton(S.addFolder, "folder", { webkitdirectory: true }, add, "button.no-touch"),
  );
}

/**
 * Takes photos of a class: with the phone's camera by touch, with the live camera by mouse. `kind`:
 * `button...`, or `round` with an icon alone.
 */
export function takeButton(task, label, kind) {
  const words = kind !== "round";
  return el(
    "span.take",
    {},
    fileButton(
      words ? S.takePhoto : S.takePhotoOf(label),
      "camera",
      CAPTURE,
      adder(task, label),
      `${kind}.only-touch`,
    ),
    el(
      `button.${kind}.no-touch`,
      {
        type: "button",
        "aria-label": S.liveCameraOf(label),
        title: S.liveCameraOf(label),
        onclick: () => openCamera(task, label),
      },
      icon("video"),
      words && S.liveCamera,
    ),
  );
}

/** What shows that files may be dropped, anywhere on the page, and takes them. */
export function dropZone(task, label, signal) {
  const veil = el(
    "div.veil",
    { hidden: true, "aria-hidden": "true" },
    el("p", {}, icon("upload"), label === null ? S.dropHere : S.dropInto(label)),
  );
  const add = adder(task, label);
  const over = (on) => (veil.hidden = !on);
  window.addEventListener("dragover", (event) => over(event.dataTransfer?.types.includes("Files")), {
    signal,
  });
  window.addEventListener("dragleave", (event) => event.relatedTarget === null && over(false), { signal });
  window.addEventListener(
    "drop",
    guarded(async (event) => {
      over(false);
      await add(await dropped(event.dataTransfer));
    }),
    { signal },
  );
  return veil;
}
