/**
 * "Have I enough photos?": how good a classifier is with ever more of them, as a small chart and in words.
 */
import { el, svg } from "./dom.js";
import { percent, S } from "./strings.js";

const [LEFT, TOP, WIDTH, HEIGHT] = [40, 10, 300, 120];

/**
 * The learning curve.
 * @param {object | null} curve {points: [{photos, top1, interval}], gain, interval, enough}; null if there
 *   were too few.
 */
export function learningCurve(curve) {
  const title = el("h3", {}, S.curveTitle);
  if (!curve) return el("section.card", {}, title, el("p", {}, S.curveNone));
  const { points, gain, interval, enough } = curve;
  const most = Math.max(...points.map((it) => it.photos));
  const least = Math.floor(10 * Math.min(...points.map((it) => it.interval[0]))) / 10;
  const x = (photos) => LEFT + (WIDTH * photos) / most;
  const y = (share) => TOP + HEIGHT * (1 - (share - least) / (1 - least || 1));
  const line = points.map((it, i) => `${i ? "L" : "M"}${x(it.photos)} ${y(it.top1)}`).join("");
  const band = [
    ...points.map((it) => [it.photos, it.interval[1]]),
    ...[...points].reverse().map((it) => [it.photos, it.interval[0]]),
  ];
  const words = points.map((it) => S.curvePoint(it.photos, it.top1)).join("; ");
  const verdict = enough === true ? S.curveEnough : enough === false ? S.curveMore : S.curveUnsure;
  return el(
    "section.card",
    {},
    title,
    el("p", {}, verdict(gain, interval)),
    svg(
      "svg",
      { class: "chart curve", viewBox: "0 0 360 165", role: "img", "aria-label": `${S.curveTitle} ${words}` },
      svg("path", { d: `M${band.map(([p, s]) => `${x(p)} ${y(s)}`).join("L")}Z`, class: "chart-band" }),
      svg("path", { d: line, class: "chart-line" }),
      points.map((it) => svg("circle", { cx: x(it.photos), cy: y(it.top1), r: 4, class: "chart-dot" })),
      svg("path", { d: `M${LEFT} ${TOP}V${TOP + HEIGHT}H${LEFT + WIDTH}`, class: "chart-axis" }),
      [least, 1].map((share) =>
        svg("text", { x: LEFT - 6, y: y(share) + 5, class: "chart-tick end" }, percent(share)),
      ),
      points.map((it) =>
        svg(
          "text",
          { x: x(it.photos), y: TOP + HEIGHT + 18, class: "chart-tick middle" },
          String(Math.round(it.photos)),
        ),
      ),
      svg("text", { x: LEFT + WIDTH / 2, y: TOP + HEIGHT + 33, class: "chart-tick middle" }, S.curveAxis),
    ),
  );
}
