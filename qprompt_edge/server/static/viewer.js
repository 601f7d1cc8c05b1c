/** One photo, large; arrows go to the next. */
import { at } from "./api.js";
import { dialog } from "./dialogs.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { complain } from "./notices.js";
import { S } from "./strings.js";

/**
 * Look at the photos of a grid, from one of them on.
 * @param {object} task The task.
 * @param {import("./grid.js").Grid} grid Where they come from.
 * @param {number} start The place of the first.
 */
export function viewPhotos(task, grid, start) {
  let index = start;
  const image = el("img.large", { alt: "" });
  const words = el("p.muted", { role: "status" });
  const show = async (to) => {
    const next = Math.max(0, Math.min(grid.total - 1, to));
    const [photo] = await grid.between(next, next);
    if (!photo) return;
    index = next;
    image.alt = S.photoAlt(photo.class);
    image.src = at`tasks/${task.name}/photos/${photo.id}/file`;
    words.textContent = `${photo.class} · ${S.position(index + 1, grid.total)} · ${photo.name}`;
  };
  const go = (step) => show(index + step).catch(complain);
  image.addEventListener("error", () => (words.textContent = S.photoBroken));
  const done = dialog(
    S.photosTitle,
    () => {
      const stage = el(
        "div.stage",
        {},
        el("button.round", { type: "button", "aria-label": S.previous, onclick: () => go(-1) }, icon("back")),
        image,
        words,
        el(
          "button.round",
          { type: "button", "aria-label": S.nextPhoto, autofocus: true, onclick: () => go(1) },
          icon("next"),
        ),
      );
      queueMicrotask(() =>
        stage.closest("dialog").addEventListener("keydown", (event) => {
          if (event.key === "ArrowLeft") go(-1);
          if (event.key === "ArrowRight") go(1);
        }),
      );
      return stage;
    },
    "wide",
  );
  go(0);
  return done.then(() => grid.focus(index));
}
