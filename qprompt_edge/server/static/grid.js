/**
 * Thousands of photos without a jerk: only tiles near the window are in the page, and only their part of
 *   the list is
 * asked for. Tiles are placed by a transform in a box as high as the whole list, so the browser's own
 *   scrolling works.
 */
import { el, settled } from "./dom.js";

const PAGE = 200;
const GAP = 6;
const SETTLE_MS = 90;

export class Grid {
  #tiles = new Map();
  #pages = new Map();
  #asked = new Map();
  #age = 0;
  #columns = 1;
  #side = 0;
  #settle = settled(() => this.#fill(), SETTLE_MS);

  /**
   * @param {object} options
   * @param {string} options.label What the list is, for a screen reader.
   * @param {(offset: number, limit: number) => Promise<{total: number, photos: object[]}>} options.load
   * @param {(tile: HTMLElement, photo: object, index: number, total: number) => void} options.fill Sets
   *   what a tile shows of its photo.
   * @param {(tile: HTMLElement) => void} options.show Called when the tile has come to rest: the picture
   *   may be loaded.
   * @param {(error: Error) => void} options.failed
   * @param {AbortSignal} options.signal Ends it.
   */
  constructor({ label, load, fill, show, failed, signal }) {
    Object.assign(this, { load, fill, show, failed, signal });
    this.total = 0;
    this.focused = 0;
    this.box = el("div.grid", { role: "listbox", "aria-multiselectable": "true", "aria-label": label });
    window.addEventListener("scroll", () => this.draw(), { signal, passive: true });
    this.#watch();
  }

  #watch() {
    const observer = new ResizeObserver(() => {
      this.#measure();
      this.draw();
    });
    observer.observe(this.box);
    this.signal.addEventListener("abort", () => observer.disconnect());
  }

  #measure() {
    const width = this.box.clientWidth;
    const least = width < 500 ? 96 : 132;
    this.#columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    this.#side = Math.floor((width - GAP * (this.#columns - 1)) / this.#columns);
    this.box.style.setProperty("--side", `${this.#side}px`);
    const rows = Math.ceil(this.total / this.#columns);
    this.box.style.height = `${Math.max(0, rows * (this.#side + GAP) - GAP)}px`;
  }

  /** How many tiles stand in a row. */
  get columns() {
    return this.#columns;
  }

  /** The photo at a place, if it is known by now. */
  at(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** The list has changed: ask again, and show the old until the new is there. */
  async refresh() {
    const age = ++this.#age;
    const first = Math.floor(this.#range()[0] / PAGE);
    const { total, photos } = await this.load(first * PAGE, PAGE);
    if (age !== this.#age || this.signal.aborted) return;
    this.#age += 1; // what was asked for meanwhile is of the old list
    this.#pages = new Map([[first, photos]]);
    this.#asked.clear();
    this.total = total;
    this.focused = Math.min(this.focused, Math.max(0, total - 1));
    this.#measure();
    this.draw();
    this.#fill();
  }

  /** All photos between two places, both included, in order; asks for those that are not known. */
  async between(from, to) {
    let age;
    do {
      age = this.#age;
      for (let page = Math.floor(from / PAGE); page <= Math.floor(to / PAGE); page++) await this.#ask(page);
    } while (age !== this.#age);
    const found = [];
    for (let i = from; i <= to; i++) if (this.at(i)) found.push(this.at(i));
    return found;
  }

  /** Have a part of the list; each is asked for once. */
  #ask(page) {
    if (this.#pages.has(page)) return Promise.resolve();
    if (!this.#asked.has(page)) this.#asked.set(page, this.#fetch(page, this.#age));
    return this.#asked.get(page);
  }

  async #fetch(page, age) {
    try {
      const { photos } = await this.load(page * PAGE, PAGE);
      if (age === this.#age) this.#pages.set(page, photos);
    } finally {
      if (age === this.#age) this.#asked.delete(page);
    }
  }

  #range() {
    if (!this.#side) return [0, -1];
    const row = this.#side + GAP;
    const top = this.box.getBoundingClientRect().top;
    const spare = window.innerHeight / 2;
    const first = Math.max(0, Math.floor((-top - spare) / row)) * this.#columns;
    const last =
      Math.min(this.total, Math.ceil((window.innerHeight - top + spare) / row) * this.#columns) - 1;
    return [Math.min(first, Math.max(0, this.total - 1)), last];
  }

  /** Put the tiles where the window is now. */
  draw() {
    const [first, last] = this.#range();
    for (const [index, tile] of this.#tiles) {
      if (
        (index < first || index > last || index >= this.total) &&
        !(index === this.focused && tile === document.activeElement && index < this.total)
      ) {
        tile.remove();
        this.#tiles.delete(index);
      }
    }
    for (let index = first; index <= last; index++) this.#place(index);
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE) && last >= 0; page++) {
      if (!this.#pages.has(page) && !this.#asked.has(page))
        this.#ask(page).then(() => this.draw(), this.failed);
    }
    this.#settle();
  }

  #place(index) {
    let tile = this.#tiles.get(index);
    if (!tile) {
      tile = el("div.tile", { role: "option", "aria-selected": "false" });
      tile.index = index;
      this.#tiles.set(index, tile);
      this.box.append(tile);
    }
    const [row, column] = [Math.floor(index / this.#columns), index % this.#columns];
    tile.style.transform = `translate(${column * (this.#side + GAP)}px, ${row * (this.#side + GAP)}px)`;
    tile.tabIndex = index === this.focused ? 0 : -1;
    const photo = this.at(index);
    if (photo) this.fill(tile, photo, index, this.total);
  }

  #fill() {
    if (this.signal.aborted) return;
    for (const [index, tile] of this.#tiles) if (this.at(index)) this.show(tile);
  }

  /** Say again what each tile shows: the selection has changed. */
  repaint() {
    for (const [index, tile] of this.#tiles) {
      const photo = this.at(index);
      if (photo) this.fill(tile, photo, index, this.total);
    }
  }

  /** Take the keyboard to a tile, and the window with it. */
  focus(index) {
    if (this.total === 0) return;
    const before = this.#tiles.get(this.focused);
    if (before) before.tabIndex = -1;
    this.focused = Math.max(0, Math.min(this.total - 1, index));
    const row = Math.floor(this.focused / this.#columns) * (this.#side + GAP);
    const { top } = this.box.getBoundingClientRect();
    const [above, below] = [top + row - 140, top + row + this.#side + 150 - window.innerHeight];
    if (above < 0) window.scrollBy({ top: above, behavior: "instant" });
    else if (below > 0) window.scrollBy({ top: below, behavior: "instant" });
    this.draw();
    const tile = this.#tiles.get(this.focused);
    tile.tabIndex = 0;
    tile.focus({ preventScroll: true });
  }
}
