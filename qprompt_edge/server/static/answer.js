/**
 * An answer of the device as people read it: what it is, how sure, what else it may be; and a strip of the
 * last ones.
 */
import { el, put } from "./dom.js";
import { icon } from "./icons.js";
import { percent, S } from "./strings.js";

const SHOWN = 3;
const KEPT = 12;

/** The words of an answer: its label, or that it is none of these. */
export const answerLabel = ({ predictions, none_of_these: none }) =>
  none ? S.tryNone : predictions[0].label;

/** A place that shows one answer after another without moving. */
export function answerCard() {
  const card = el(
    "section.answer.waiting",
    { "aria-label": S.tryAnswer },
    el("p.answer-label", {}, S.tryWaiting),
    el("p.muted", {}, S.tryWaitingHelp),
  );
  return {
    card,
    /**
     * @param {{predictions: {label: string, probability: number}[], none_of_these: boolean | null,
     * seconds?: number}} answer
     */
    show(answer) {
      const { predictions, none_of_these: none, seconds } = answer;
      const [best, ...others] = predictions;
      card.className = none ? "answer none" : "answer";
      const bar = ({ label, probability }) => {
        const line = el("span.bar");
        line.style.setProperty("--share", percent(probability));
        return el("li", {}, el("span", {}, label), line, el("strong", {}, percent(probability)));
      };
      put(
        card,
        el("p.answer-label", {}, none ? S.tryNone : best.label),
        el(
          "p.muted",
          {},
          none ? S.tryNoneHelp : S.trySure(best.probability),
          seconds ? ` · ${S.tryTook(seconds)}` : "",
        ),
        el("ul.plain.bars", {}, (none ? predictions : [best, ...others]).slice(0, SHOWN).map(bar)),
      );
    },
    reset() {
      card.className = "answer waiting";
      put(card, el("p.answer-label", {}, S.tryWaiting), el("p.muted", {}, S.tryWaitingHelp));
    },
  };
}

/** The last answers with their pictures. */
export function answerStrip() {
  const list = el("ol.answers");
  const box = el("section.last", { "aria-label": S.tryStrip, hidden: true }, el("h2", {}, S.tryStrip), list);
  return {
    box,
    /**
     * @param {object} answer
     * @param {Blob} blob Its picture.
     */
    add(answer, blob) {
      box.hidden = false;
      const url = URL.createObjectURL(blob);
      const label = answerLabel(answer);
      const image = el("img", { src: url, alt: "" });
      image.addEventListener("error", () => image.replaceWith(icon("photos")));
      const item = el(
        "li",
        {},
        image,
        el("span", {}, label),
        el("small.muted", {}, percent(answer.predictions[0].probability)),
      );
      item.release = () => URL.revokeObjectURL(url);
      list.prepend(item);
      while (list.childElementCount > KEPT) {
        list.lastElementChild.release();
        list.lastElementChild.remove();
      }
    },
    clear() {
      for (const item of list.children) item.release();
      put(list);
      box.hidden = true;
    },
  };
}
