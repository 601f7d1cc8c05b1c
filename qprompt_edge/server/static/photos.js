/**
 * The photos of a task: its classes beside them, ways to add, and what is done with those that are
 * selected.
 */
import { dropZone, takeButton, toolbar } from "./adding.js";
import { at, get, post } from "./api.js";
import { classList, makeClass } from "./classes.js";
import { askClass } from "./dialogs.js";
import { el, put, throttled, typing } from "./dom.js";
import { Grid } from "./grid.js";
import { icon } from "./icons.js";
import { complain, guarded, say } from "./notices.js";
import { Selection } from "./selection.js";
import { S } from "./strings.js";
import { taskAddress } from "./tasks.js";
import { uploads } from "./uploads.js";
import { viewPhotos } from "./viewer.js";

function empty(task, label) {
  const none = task.detail.classes.length === 0;
  return el(
    "div.empty",
    {},
    icon(none ? "edit" : "photos"),
    el("h2", {}, none ? S.noClassesYet : S.noPhotosYet),
    el("p", {}, none ? S.noClassesHelp : S.noPhotosHelp),
    el("p.muted.no-touch", {}, label === null ? `${S.dropHere}. ${S.dropClasses}` : S.dropHere),
  );
}

function photoGrid(task, label, signal) {
  const load = (offset, limit) =>
    get(
      at`tasks/${task.name}/photos` +
        `?${new URLSearchParams({ ...(label === null ? {} : { class: label }), offset, limit })}`,
    );
  const fill = (tile, photo, index, total) => {
    const chosenNow = selection.has(photo.id);
    if (tile.getAttribute("aria-selected") !== String(chosenNow)) {
      tile.setAttribute("aria-selected", String(chosenNow));
      if (chosenNow) tile.append(el("span.tick", {}, icon("done")));
      else tile.querySelector(".tick").remove();
    }
    tile.setAttribute("aria-posinset", String(index + 1));
    tile.setAttribute("aria-setsize", String(total));
    if (tile.photo === photo.id) return;
    tile.photo = photo.id;
    tile.classList.remove("broken");
    tile.setAttribute("aria-label", S.photoName(photo.class, index + 1, total));
    const tick = tile.querySelector(".tick");
    put(tile, label === null && el("span.tag", {}, photo.class), tick);
  };
  const show = (tile) => {
    if (tile.querySelector("img") || tile.classList.contains("broken")) return;
    const source = at`tasks/${task.name}/photos/${tile.photo}/thumb` + "?size=320";
    const image = el("img", { src: source, alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("error", () => {
      tile.classList.add("broken");
      image.replaceWith(icon("broken"));
    });
    tile.prepend(image);
  };
  const grid = new Grid({
    label: S.photoList(label ?? S.allPhotos),
    load,
    fill,
    show,
    failed: complain,
    signal,
  });
  const selection = new Selection(grid);
  return { grid, selection };
}

function selectionBar(selection, acts) {
  const words = el("strong");
  const button = (name, text, act, kind = "button") =>
    el(kind, { type: "button", onclick: act }, icon(name), el("span", {}, text));
  const bar = el(
    "div.selection",
    { role: "toolbar", "aria-label": S.selected(0), hidden: true },
    words,
    button("move", S.moveTo, acts.move, "button.primary"),
    button("trash", S.remove, acts.remove),
    button("look", S.look, acts.look),
    button("done", S.selectAll, acts.all),
    button("close", S.selectNone, () => selection.clear()),
  );
  selection.addEventListener("change", () => {
    bar.hidden = selection.size === 0;
    document.body.classList.toggle("selecting", selection.size > 0);
    words.textContent = S.selected(selection.size);
    bar.setAttribute("aria-label", words.textContent);
    if (selection.size) say(words.textContent);
  });
  return bar;
}

function actions(task, grid, selection) {
  const keepFocus = (act) =>
    guarded(async (...args) => {
      const inside = grid.box.contains(document.activeElement);
      await act(...args);
      if (inside) grid.focus(grid.focused);
    });
  const moveInto = keepFocus(async (label) => {
    const { ids } = selection;
    await post(at`tasks/${task.name}/photos/move`, { ids, class: label });
    selection.clear();
    await task.changed(S.moved(ids.length, label));
  });
  return {
    moveInto,
    move: guarded(async () => {
      const label = await askClass(S.moveTitle(selection.size), task.detail.classes, true);
      if (label === undefined) return;
      await makeClass(task, label);
      await moveInto(label);
    }),
    remove: keepFocus(async () => {
      const { ids } = selection;
      await post(at`tasks/${task.name}/photos/delete`, { ids });
      selection.clear();
      await task.changed(S.deleted(ids.length));
    }),
    all: guarded(() => selection.all()),
    look: () => viewPhotos(task, grid, Math.max(0, grid.focused)),
  };
}

function keyboard(task, grid, selection, acts, signal) {
  const onkey = (event) => {
    if (typing(event) || document.querySelector("dialog[open]") || event.altKey) return;
    const inside = grid.box.contains(document.activeElement);
    const chosenClass = task.detail.classes[Number(event.key) - 1];
    const plain = !event.ctrlKey && !event.metaKey;
    if (/^[1-9]$/.test(event.key) && plain && chosenClass) {
      if (selection.size) acts.moveInto(chosenClass.label);
      else location.hash = taskAddress(task.name, "photos", chosenClass.label);
    } else if (event.key === "0" && plain && selection.size === 0)
      location.hash = taskAddress(task.name, "photos");
    else if ((event.key === "Delete" || event.key === "Backspace") && selection.size) acts.remove();
    else if (event.key === "Escape" && selection.size) selection.clear();
    else if (event.key === "Enter" && inside) acts.look();
    else if (!(inside || ((event.ctrlKey || event.metaKey) && event.key === "a")) || !selection.key(event))
      return;
    event.preventDefault();
  };
  document.addEventListener("keydown", onkey, { signal });
  grid.box.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    grid.focus(tile.index);
    if (event.shiftKey) selection.extend(tile.index).catch(complain);
    else selection.toggle(tile.index);
  });
  grid.box.addEventListener("dblclick", (event) => {
    const tile = event.target.closest(".tile");
    if (tile) viewPhotos(task, grid, tile.index);
  });
}

/**
 * Show the photos of a task.
 * @param {Element} root What is filled.
 * @param {object} task The task.
 * @param {AbortSignal} signal Aborted when the view is left.
 * @param {string[]} rest The class that is shown, or nothing.
 */
export async function mountPhotos(root, task, signal, [wanted]) {
  const label = task.detail.classes.some((it) => it.label === wanted) ? wanted : null;
  const { grid, selection } = photoGrid(task, label, signal);
  const acts = actions(task, grid, selection);
  const place = el("div.place");
  const fresh = () => view.classList.toggle("fresh", task.detail.classes.length === 0);
  const heading = el("h2", {}, label ?? S.allPhotos, " ", el("small.muted"));
  const refresh = guarded(async () => {
    await grid.refresh();
    heading.querySelector("small").textContent = grid.total ? String(grid.total) : "";
    if (grid.total === 0) put(place, empty(task, label));
    else if (!place.contains(grid.box)) put(place, grid.box);
    if (grid.total) grid.draw();
  });
  const view = el(
    label === null ? "div.photos" : "div.photos.one-class",
    {},
    classList(task, label, (one) => takeButton(task, one, "round"), signal),
    el(
      "section.shown",
      {},
      el(
        "div.shown-head",
        {},
        label !== null &&
          el(
            "a.round.only-narrow",
            { href: taskAddress(task.name, "photos"), "aria-label": S.allPhotos },
            icon("back"),
          ),
        heading,
      ),
      toolbar(task, label),
      place,
    ),
    selectionBar(selection, acts),
    dropZone(task, label, signal),
  );
  put(root, view);
  fresh();
  keyboard(task, grid, selection, acts, signal);
  signal.addEventListener("abort", () => document.body.classList.remove("selecting"));
  task.addEventListener("photos", refresh, { signal });
  task.addEventListener("change", () => (fresh(), grid.total === 0 && put(place, empty(task, label))), {
    signal,
  });
  uploads.addEventListener(
    "added",
    throttled(() => signal.aborted || refresh(), 1000),
    { signal },
  );
  window.addEventListener("focus", refresh, { signal });
  await refresh();
  if (task.detail.classes.length === 0) view.querySelector(".classes input").focus();
}
