/** What a version is worth, in plain words and one small chart. */
import { el, svg } from "./dom.js";
import { icon } from "./icons.js";
import { percent, S } from "./strings.js";

const [LEFT, WIDTH] = [60, 210];
const Z = 1.959964; // of the normal distribution, for 95%

/**
 * Wilson's 95% interval of a share.
 * @param {number} share From 0 to 1.
 * @param {number} n Number of photos, at least 1.
 * @returns {[number, number]}
 */
export function wilson(share, n) {
  const middle = (share + (Z * Z) / (2 * n)) / (1 + (Z * Z) / n);
  const half = (Z / (1 + (Z * Z) / n)) * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function bar(y, name, share, [low, high], kind) {
  const x = (value) => LEFT + WIDTH * value;
  return [
    svg("text", { x: 0, y: y + 15, class: "chart-name" }, name),
    svg("rect", { x: x(0), y, width: WIDTH, height: 20, class: "chart-ground" }),
    svg("rect", { x: x(0), y, width: Math.max(1, WIDTH * share), height: 20, class: `chart-bar ${kind}` }),
    ["chart-halo", "chart-range"].map((kind) =>
      svg("path", {
        d: `M${x(low)} ${y + 10}H${x(high)}M${x(low)} ${y + 4}v12M${x(high)} ${y + 4}v12`,
        class: kind,
      }),
    ),
    svg("text", { x: 320, y: y + 15, class: "chart-share" }, percent(share)),
  ];
}

/** Before and after as bars, each with its interval. */
function chart({ n, zero_shot: before, adapted: after }) {
  const rows = [
    [S.chartBefore, before.top1, "before"],
    [S.chartAfter, after.top1, "after"],
  ];
  const words = `${S.chartLabel}. ` + rows.map(([name, share]) => `${name}: ${percent(share)}`).join(", ");
  return svg(
    "svg",
    { class: "chart", viewBox: "0 0 320 62", role: "img", "aria-label": words },
    rows.map(([name, share, kind], i) => bar(4 + 32 * i, name, share, wilson(share, n), kind)),
  );
}

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
 * @param {object} version As the device tells it: `holdout`, `helped`, `interval`, `kind`.
 */
export function verdict(version) {
  const { holdout, helped, interval, kind } = version;
  if (!holdout) {
    const words = { update: S.verdictUpdated, upload: S.verdictUpload }[kind] ?? S.verdictNothing;
    return el("div.verdict.unsure", {}, el("p.lead", {}, icon("done"), words), estimates(version));
  }
  const { n, missing, probe } = holdout;
  const [before, after] = [holdout.zero_shot.top1, holdout.adapted.top1];
  const [mood, line, sign] =
    helped === true
      ? ["good", S.verdictHelped(before, after), "done"]
      : helped === false
        ? ["bad", S.verdictWorse(before, after), "warn"]
        : ["unsure", S.verdictUnsure(before, after), "warn"];
  return el(
    `div.verdict.${mood}`,
    {},
    el("p.lead", {}, icon(sign), S.verdictGood(Math.round(after * n), n)),
    el("p", {}, line),
    chart(holdout),
    el("p", {}, S.verdictRange(...wilson(after, n))),
    el("p.muted", {}, S.verdictGain(...interval)),
    el("p.muted", {}, S.verdictProbe(probe.top1)),
    missing.length > 0 && el("p.muted", {}, S.verdictMissing(missing)),
    helped !== true && el("p", {}, S.verdictMore),
  );
}
