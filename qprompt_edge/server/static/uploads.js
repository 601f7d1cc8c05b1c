/**
 * Photos on their way to the device: one request a photo, few at a time, sent again when the network fails.
 */
import { ApiError, at, send } from "./api.js";
import { pause } from "./dom.js";
import { S } from "./strings.js";

const AT_ONCE = 3;
const TRIES = 8;
const LONGEST_WAIT_S = 20;
const ZIP = /\.zip$/i;
const PHOTO = /\.(jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif|jp2|ppm|pgm|tga|ico)$/i;

/** Whether a file looks like something to send, by type or name; the device looks at the bytes. */
export const looksSendable = (file) =>
  file.type.startsWith("image/") || PHOTO.test(file.name) || ZIP.test(file.name);
const isZip = (file) => ZIP.test(file.name) || file.type === "application/zip";

/**
 * The queue. Fires `change` with each step, `added` when the device took some, `done` with {added, skipped}
 *   at the end.
 */
class Uploads extends EventTarget {
  waiting = [];
  running = 0;
  total = 0;
  finished = 0;
  added = 0;
  skipped = [];
  share = new Map();
  retrying = false;
  stop = new AbortController();

  get active() {
    return this.total > this.finished;
  }

  /**
   * Send files into a class.
   * @param {string} task The task's name.
   * @param {string} label The class; "-" takes the folders of a zip.
   * @param {{blob: Blob, name: string}[]} files What is sent.
   */
  add(task, label, files) {
    for (const { blob, name } of files)
      this.waiting.push({ task, label: isZip({ name, type: blob.type }) ? label || "-" : label, blob, name });
    this.total += files.length;
    this.#tell();
    for (let i = this.running; i < AT_ONCE; i++) this.#work();
  }

  /** Note a file that is not sent at all. */
  skip(name, reason) {
    this.skipped.push({ name, reason });
  }

  /** Tell what was noted where nothing is sent. */
  flush() {
    if (this.running === 0 && this.skipped.length) this.#done();
  }

  /** Give up what is not sent yet. */
  cancel() {
    for (const { name } of this.waiting) this.skipped.push({ name, reason: S.sendCancelled });
    this.finished += this.waiting.length;
    this.waiting = [];
    this.stop.abort(new DOMException(S.sendCancelled, "AbortError"));
    this.stop = new AbortController();
    this.#tell();
  }

  /** From 0 to 1, with the parts of files that are on their way. */
  get progress() {
    const partial = [...this.share.values()].reduce((sum, it) => sum + it, 0);
    return this.total ? (this.finished + partial) / this.total : 0;
  }

  async #work() {
    this.running += 1;
    let item;
    while ((item = this.waiting.shift())) {
      try {
        const answer = await this.#sent(item, this.stop.signal);
        this.added += answer.added?.length ?? 0;
        const zip = isZip({ name: item.name, type: item.blob.type });
        this.skipped.push(
          ...(answer.skipped ?? []).map(({ name, reason }) => ({
            name: zip ? `${item.name}: ${name}` : item.name,
            reason,
          })),
        );
        for (let i = 0; i < (answer.repeated ?? 0); i++)
          this.skipped.push({ name: item.name, reason: S.sendRepeated });
        this.dispatchEvent(new CustomEvent("added", { detail: item }));
      } catch (error) {
        this.skipped.push({ name: item.name, reason: error.message });
      }
      this.share.delete(item);
      this.finished += 1;
      this.#tell();
    }
    this.running -= 1;
    if (this.running === 0 && !this.active) this.#done();
  }

  async #sent(item, signal) {
    const zip = isZip({ name: item.name, type: item.blob.type });
    const path = at`tasks/${item.task}/classes/${item.label}/photos`;
    for (let tried = 1; ; tried++) {
      try {
        const onprogress = (share) => {
          this.share.set(item, share);
          if (zip) this.#tell();
        };
        const answer = await send(path, item.blob, {
          name: item.name,
          type: zip ? "application/zip" : "",
          signal,
          onprogress,
        });
        this.retrying = false;
        return answer;
      } catch (error) {
        if (!error.passing) throw error;
        if (tried === TRIES) throw error.status === 0 ? new ApiError(0, S.sendGaveUp) : error;
        this.retrying = true;
        this.#tell();
        await pause(1000 * Math.min(LONGEST_WAIT_S, error.retryAfter || 2 ** (tried - 1) / 2));
        signal.throwIfAborted();
      }
    }
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }

  #done() {
    const { added, skipped } = this;
    Object.assign(this, { total: 0, finished: 0, added: 0, skipped: [], retrying: false });
    this.dispatchEvent(new CustomEvent("done", { detail: { added, skipped } }));
    this.#tell();
  }
}

export const uploads = new Uploads();

/** A warning before the page is closed with photos on their way. */
window.addEventListener("beforeunload", (event) => {
  if (uploads.active) event.preventDefault();
});
