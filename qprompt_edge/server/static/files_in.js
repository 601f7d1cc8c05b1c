/**
 * Files as people bring them: chosen, dropped, in folders. A folder with sub-folders gives classes of their
 * names.
 */
import { S } from "./strings.js";
import { looksSendable, uploads } from "./uploads.js";

const entries = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function walk(entry, folders, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    found.push({ file: await fileOf(entry), folders });
    return;
  }
  const reader = entry.createReader();
  for (let some = await entries(reader); some.length; some = await entries(reader)) {
    for (const inner of some) await walk(inner, [...folders, entry.name], found);
  }
}

/**
 * What was dropped. Must be called while the drop is handled: later the browser has forgotten it.
 * @param {DataTransfer} transfer
 * @returns {Promise<{file: File, folders: string[]}[]>}
 */
export async function dropped(transfer) {
  const roots = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files];
  if (roots.length === 0) return files.map((file) => ({ file, folders: [] }));
  const found = [];
  for (const root of roots) await walk(root, [], found);
  return found;
}

/** What was chosen with <input type=file>, with or without folders. */
export const chosen = (input) =>
  [...input.files].map((file) => ({
    file,
    folders: (file.webkitRelativePath || "").split("/").slice(0, -1),
  }));

/** Whether the browser's file is inside a hidden folder, or is a system's own file. */
const hidden = ({ file, folders }) =>
  file.name.startsWith(".") || folders.some((it) => it.startsWith(".")) || file.name === "Thumbs.db";

/**
 * Send what people brought.
 * @param {{file: File, folders: string[]}[]} found
 * @param {object} to
 * @param {string} to.task The task's name.
 * @param {string | null} to.label The class of files, or null to take it from the folder or to ask.
 * @param {() => Promise<string | undefined>} to.ask Asks for the class of files without one.
 * @param {(label: string) => Promise<void>} to.make Makes a class if it is missing.
 */
export async function bring(found, { task, label, ask, make }) {
  const byClass = new Map();
  const loose = [];
  for (const one of found.filter((it) => !hidden(it))) {
    const { file, folders } = one;
    if (!looksSendable(file)) uploads.skip(file.name, S.notAPhoto);
    else if (/\.zip$/i.test(file.name)) uploads.add(task, label ?? "-", [{ blob: file, name: file.name }]);
    else if (label !== null || folders.length === 0) loose.push({ blob: file, name: file.name });
    else {
      const name = folders[folders.length - 1];
      if (!byClass.has(name)) byClass.set(name, []);
      byClass.get(name).push({ blob: file, name: file.name });
    }
  }
  for (const [name, files] of byClass) {
    await make(name);
    uploads.add(task, name, files);
  }
  if (loose.length === 0) {
    uploads.flush();
    return;
  }
  const into = label ?? (await ask());
  if (into === undefined) return;
  await make(into);
  uploads.add(task, into, loose);
}
