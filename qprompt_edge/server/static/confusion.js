/** What is taken for what: as a table, as the pairs that matter, and as the photos themselves. */
import { at, post } from "./api.js";
import { el } from "./dom.js";
import { guarded } from "./notices.js";
import { S } from "./strings.js";

const MOST_PAIRS = 5;
const MOST_IN_TABLE = 20;

function cell(labels, i, j, n, most) {
  const node = el(
    i === j ? "td.right" : "td",
    { title: S.confusionCell(labels[i], labels[j], n) },
    n === 0 ? "" : String(n),
  );
  if (n > 0 && i !== j) node.classList.add("wrong");
  if (n > 0) node.style.setProperty("--share", `${Math.round(20 + (60 * n) / most)}%`);
  return node;
}

/**
 * The confusion of a version.
 * @param {{labels: string[], counts: number[][]}} confusion Rows are true classes.
 */
export function confusionTable({ labels, counts }) {
  const pairs = counts
    .flatMap((row, i) => row.map((n, j) => ({ n, a: labels[i], b: labels[j], off: i !== j })))
    .filter(({ n, off }) => off && n > 0)
    .sort((x, y) => y.n - x.n);
  const most = Math.max(1, ...counts.flat());
  const table = el(
    "table.confusion",
    {},
    el("caption.unseen", {}, S.confusionHelp),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("td"),
        labels.map((label) => el("th", { scope: "col" }, el("span", {}, label))),
      ),
    ),
    el(
      "tbody",
      {},
      counts.map((row, i) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, labels[i]),
          row.map((n, j) => cell(labels, i, j, n, most)),
        ),
      ),
    ),
  );
  return el(
    "section.card",
    {},
    el("h2", {}, S.confusion),
    pairs.length === 0
      ? el("p", {}, S.confusionNone)
      : el(
          "ul.plain",
          {},
          pairs.slice(0, MOST_PAIRS).map(({ a, b, n }) => el("li", {}, S.confusionPair(a, b, n))),
        ),
    labels.length <= MOST_IN_TABLE && [
      el("p.hint", {}, S.confusionHelp),
      el("div.scroll", { tabIndex: 0, role: "region", "aria-label": S.confusion }, table),
    ],
  );
}

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
