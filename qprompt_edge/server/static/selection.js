/** Which photos are selected, by id; by click, with Shift from the last one, or by key. */

export class Selection extends EventTarget {
  #ids = new Set();
  #from = 0;

  /** @param {import("./grid.js").Grid} grid */
  constructor(grid) {
    super();
    this.grid = grid;
  }

  get ids() {
    return [...this.#ids];
  }

  get size() {
    return this.#ids.size;
  }

  has(id) {
    return this.#ids.has(id);
  }

  /** Forget what is selected. */
  clear() {
    this.#ids.clear();
    this.#tell();
  }

  #tell() {
    this.grid.repaint();
    this.dispatchEvent(new Event("change"));
  }

  /** Select a photo, or clear it. */
  toggle(index) {
    const photo = this.grid.at(index);
    if (!photo) return;
    if (!this.#ids.delete(photo.id)) this.#ids.add(photo.id);
    this.#from = index;
    this.#tell();
  }

  /** Select all from the last one that was chosen to this one. */
  async extend(index) {
    const [low, high] = [Math.min(this.#from, index), Math.max(this.#from, index)];
    for (const { id } of await this.grid.between(low, high)) this.#ids.add(id);
    this.#tell();
  }

  /** Select all. */
  async all() {
    for (const { id } of await this.grid.between(0, this.grid.total - 1)) this.#ids.add(id);
    this.#tell();
  }

  /**
   * What a key does in the grid.
   * @returns {boolean} Whether the key was for it.
   */
  key(event) {
    const { grid } = this;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -grid.columns,
      ArrowDown: grid.columns,
      PageUp: -4 * grid.columns,
      PageDown: 4 * grid.columns,
      Home: -grid.total,
      End: grid.total,
    };
    if (event.key in steps) {
      if (event.shiftKey && this.size === 0) this.#from = grid.focused;
      grid.focus(grid.focused + steps[event.key]);
      if (event.shiftKey) this.extend(grid.focused).catch(grid.failed);
    } else if (event.key === " ") this.toggle(grid.focused);
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey))
      this.all().catch(grid.failed);
    else return false;
    return true;
  }
}
