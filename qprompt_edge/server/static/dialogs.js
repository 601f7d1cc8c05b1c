/**
 * Dialogs: the browser's own <dialog>, which holds the focus, closes with Escape, and gives the focus back.
 */
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { count, S } from "./strings.js";

let dialogs = 0;

/**
 * Open a dialog.
 * @param {string} title Its heading.
 * @param {(close: (value?: any) => void) => any} body Makes its content, given what closes it.
 * @param {string} kind A class for the style.
 * @returns A promise of what it was closed with; undefined after Escape.
 */
export function dialog(title, body, kind = "") {
  return new Promise((resolve) => {
    const id = `dialog-${++dialogs}`;
    let result;
    const close = (value) => {
      result = value;
      box.close();
    };
    const box = el("dialog", { "aria-labelledby": id, class: kind });
    box.append(
      el(
        "header",
        {},
        el("h2", { id }, title),
        el("button.round", { type: "button", "aria-label": S.close, onclick: () => close() }, icon("close")),
      ),
      ...[body(close)].flat().filter(Boolean),
    );
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    box.addEventListener("click", (event) => {
      if (event.target === box) close();
    });
    box.addEventListener("keydown", (event) => event.stopPropagation());
    document.body.append(box);
    box.showModal();
    (box.querySelector("[autofocus]") ?? box.querySelector("input, .choice, button.primary"))?.focus();
  });
}

/**
 * Ask for a line of text.
 * @param {{title: string, label: string, value?: string, help?: string, act: string, attributes?: object}}
 *   options
 * @returns The trimmed text, or undefined.
 */
export function askText({ title, label, value = "", help = "", act, attributes = {} }) {
  return dialog(title, (close) => {
    const input = el("input", { value, required: true, autocomplete: "off", autofocus: true, ...attributes });
    const send = (event) => {
      event.preventDefault();
      if (input.value.trim()) close(input.value.trim());
    };
    queueMicrotask(() => input.select());
    return el(
      "form.stack",
      { onsubmit: send },
      el("label.field", {}, el("span", {}, label), input),
      help && el("p.hint", {}, help),
      el(
        "div.actions",
        {},
        el("button.primary", {}, act),
        el("button", { type: "button", onclick: () => close() }, S.cancel),
      ),
    );
  });
}

/**
 * Ask for one of the classes; keys 1 to 9 choose.
 * @param {string} title The question.
 * @param {{label: string, photos: number}[]} classes
 * @param {boolean} mayAdd Whether a new class may be named.
 * @returns Its label, or undefined.
 */
export function askClass(title, classes, mayAdd = false) {
  return dialog(title, (close) => {
    const choices = classes.map(({ label, photos }, i) =>
      el(
        "button.choice",
        { type: "button", onclick: () => close(label) },
        el("kbd", { "aria-hidden": "true" }, i < 9 ? String(i + 1) : ""),
        el("span.label", {}, label),
        photos === undefined ? null : el("small", {}, count(photos, "photo")),
      ),
    );
    const list = el("div.choices", {}, choices);
    list.addEventListener("keydown", (event) => {
      const choice = choices[Number(event.key) - 1];
      if (/^[1-9]$/.test(event.key) && choice) choice.click();
    });
    if (!mayAdd) return list;
    const input = el("input", { required: true, autocomplete: "off", maxlength: 100 });
    const add = (event) => {
      event.preventDefault();
      if (input.value.trim()) close(input.value.trim());
    };
    return [
      list,
      el(
        "form.inline",
        { onsubmit: add },
        el("label.field", {}, el("span", {}, S.whichClassNew), input),
        el("button.primary", {}, S.classAdd),
      ),
    ];
  });
}

/** A menu of a few acts: rows of [icon, words, what is done]. */
export function menu(title, rows) {
  return dialog(title, (close) =>
    el(
      "div.choices",
      {},
      rows.map(([name, words, act]) =>
        el(
          "button.choice",
          { type: "button", onclick: () => (close(), act()) },
          icon(name),
          el("span.label", {}, words),
        ),
      ),
    ),
  );
}

/** The list of keyboard shortcuts. */
export function showShortcuts() {
  const part = (title, rows) => [
    el("h3", {}, title),
    el(
      "dl.keys",
      {},
      rows.map(([keys, words]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, words)]),
    ),
  ];
  return dialog(S.shortcuts, () =>
    [
      part(S.keysGlobal, S.keys.global),
      part(S.keysPhotos, S.keys.photos),
      part(S.keysCamera, S.keys.camera),
      part(S.keysReview, S.keys.review),
    ].flat(),
  );
}
