/** What a version is worth: the same pieces as in its report, which the device makes. */
import { el, pieces } from "./dom.js";
import { icon } from "./icons.js";
import { S } from "./strings.js";

function estimates(version) {
  return el(
    "ul.plain",
    {},
    Object.entries(version.estimates ?? {})
      .filter(([, it]) => it.judged > 0)
      .map(([label, it]) => el("li", {}, S.verdictClass(label, Math.round(it.top1 * it.judged), it.judged))),
  );
}

/**
 * The verdict of a version.
 * @param {object} version As the device tells it: `parts`, `holdout`, `kind`.
 */
export function verdict({ parts, holdout, ...version }) {
  if (!parts) {
    const words = { update: S.verdictUpdated, upload: S.verdictUpload }[version.kind] ?? S.verdictNothing;
    return el("div.verdict", {}, el("p.lead", {}, icon("done"), words), estimates(version));
  }
  const { missing } = holdout;
  return el(
    "div.verdict",
    {},
    pieces(parts.verdict),
    missing.length > 0 && el("p.muted", {}, S.verdictMissing(missing)),
  );
}

/**
 * What else was measured of a version, a card for each piece.
 * @param {object} version As the device tells it: `parts`.
 */
export function measured({ parts }) {
  if (!parts) return [];
  return ["accuracy", "classes", "confusion"].map((name) =>
    el("section.card", {}, el("h2", {}, S.parts[name]), pieces(parts[name])),
  );
}
