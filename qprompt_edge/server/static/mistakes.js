/** The photos that a version got wrong. */
import { at, post } from "./api.js";
import { el } from "./dom.js";
import { guarded } from "./notices.js";
import { S } from "./strings.js";

/**
 * The photos that a version got wrong, each with what it was taken for, and a way to mend its label.
 * @param {object} task The task.
 * @param {{id: string | null, label: string, predicted: string, probability: number}[]} mistakes
 */
export function mistakeList(task, mistakes) {
  const act = (words, f) => el("button", { type: "button", onclick: guarded(f) }, words);
  const item = ({ id, label, predicted, probability }) => {
    const box = el(
      "li.finding-photo",
      {},
      id &&
        el("img", {
          src: at`tasks/${task.name}/photos/${id}/thumb` + "?size=320",
          alt: S.photoAlt(label),
          loading: "lazy",
        }),
      el(
        "p",
        {},
        el("strong", {}, S.mistakeIs(label)),
        el("span", {}, S.mistakeSaid(predicted, probability)),
      ),
      id &&
        el(
          "div.actions",
          {},
          act(S.checkMoveTo(predicted), async () => {
            await post(at`tasks/${task.name}/photos/move`, { ids: [id], class: predicted });
            box.classList.add("mended");
            await task.changed(S.moved(1, predicted));
          }),
          act(S.checkDelete, async () => {
            await post(at`tasks/${task.name}/photos/delete`, { ids: [id] });
            box.classList.add("mended");
            await task.changed(S.deleted(1));
          }),
        ),
    );
    return box;
  };
  return el(
    "section.card",
    {},
    el("h2", {}, S.mistakes),
    el("p.muted", {}, S.mistakesHelp),
    el("ul.finding-photos", {}, mistakes.map(item)),
  );
}
