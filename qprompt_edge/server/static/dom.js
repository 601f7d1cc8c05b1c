/** Elements from data. Text goes in as text nodes, so a class may be called <img onerror=...>. */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set([
  "value",
  "checked",
  "disabled",
  "hidden",
  "textContent",
  "tabIndex",
  "className",
  "srcObject",
  "muted",
]);

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(node.dataset, value);
    else if (PROPERTIES.has(key)) node[key] = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((it) => it !== null && it !== undefined && it !== false));
  return node;
}

/**
 * An element: `el("p.hint", {id: "x", onclick: f}, "text", child)`.
 * @param {string} tag Name, with classes after dots.
 * @param {object} props Attributes; `on...` are listeners; null and false are left out.
 */
export function el(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  return fill(node, props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/**
 * Elements from HTML that the device made; it escaped every name in it.
 * @param {string} html Without scripts: the page's policy would not run them.
 */
export function pieces(html) {
  const { body } = new DOMParser().parseFromString(html, "text/html");
  return el("div.pieces", {}, [...body.childNodes]);
}

/** Put `children` in the place of what `node` holds. */
export function put(node, ...children) {
  node.replaceChildren(
    ...children.flat(Infinity).filter((it) => it !== null && it !== undefined && it !== false),
  );
  return node;
}

/** `f`, run once `wait` milliseconds after the last call. */
export function settled(f, wait) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), wait);
  };
}

/** `f`, run at once and then at most every `wait` milliseconds; the last call is never lost. */
export function throttled(f, wait) {
  let last = 0;
  let timer = 0;
  return () => {
    clearTimeout(timer);
    const run = () => {
      last = Date.now();
      f();
    };
    const rest = last + wait - Date.now();
    if (rest <= 0) run();
    else timer = setTimeout(run, rest);
  };
}

/** A promise that is kept after `ms` milliseconds. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Whether a key press belongs to a field that one types into. */
export const typing = (event) =>
  event.target instanceof Element &&
  event.target.closest("input:not([type=checkbox],[type=radio],[type=file]), select, textarea") !== null;
