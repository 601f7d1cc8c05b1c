/**
 * Requests to the device. Errors are ApiError with a line for people; whether the device answers at all is
 * told on `link`.
 */
import { pause } from "./dom.js";
import { S } from "./strings.js";

/** Fires `lost` and `found` as the device stops and starts to answer. */
export const link = new EventTarget();
let lost = false;
let askToken = null;

/**
 * What asks for the token when the device wants one: a function that comes back when a new try is worth it.
 */
export const onUnauthorised = (ask) => {
  askToken = ask;
};

/** An answer that is not what was asked for; status 0 means that none came. */
export class ApiError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed a little later; 408: the phone or the network slept meanwhile. */
  get passing() {
    return [0, 408, 429, 503].includes(this.status);
  }
}

/**
 * The path of a resource: at`tasks/${name}/photos` encodes what is put in, but for the slash within a
 * photo's id.
 */
export function at(parts, ...values) {
  const encoded = values.map((it) => String(it).split("/").map(encodeURIComponent).join("/"));
  return "/api/" + parts.reduce((path, part, i) => path + encoded[i - 1] + part);
}

async function waitForDevice() {
  lost = true;
  link.dispatchEvent(new Event("lost"));
  while (lost) {
    await pause(2000);
    try {
      lost = !(await fetch("/healthz", { cache: "no-store" })).ok;
    } catch {
      lost = true;
    }
  }
  link.dispatchEvent(new Event("found"));
}

function noAnswer() {
  if (!lost) waitForDevice();
  return new ApiError(0, S.noAnswer);
}

function refusal(status, text, retryAfter) {
  let said = "";
  try {
    said = JSON.parse(text).error;
  } catch {
    said = "";
  }
  return new ApiError(status, said || S.refused(status), Number(retryAfter) || 0);
}

async function request(method, path, json) {
  const init = { method, headers: {}, cache: "no-store" };
  if (json !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(json);
  }
  let response;
  let text;
  try {
    response = await fetch(path, init);
    text = await response.text();
  } catch {
    throw noAnswer();
  }
  if (response.status === 401 && askToken) {
    await askToken();
    return request(method, path, json);
  }
  if (!response.ok) throw refusal(response.status, text, response.headers.get("Retry-After"));
  return text ? JSON.parse(text) : {};
}

export const get = (path) => request("GET", path);
export const post = (path, json = {}) => request("POST", path, json);
export const patch = (path, json) => request("PATCH", path, json);
export const remove = (path) => request("DELETE", path);

/**
 * Send a file as it is.
 * @param {string} path Where to.
 * @param {Blob} blob Its bytes.
 * @param {{name?: string, type?: string, onprogress?: (share: number) => void, signal?: AbortSignal}} options
 * @returns The answer's JSON.
 * @throws ApiError, or the signal's reason.
 */
export function send(path, blob, { name = "", type = "", onprogress = null, signal = null } = {}) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    const abort = () => call.abort();
    signal?.addEventListener("abort", abort);
    call.open("POST", path);
    call.setRequestHeader("Content-Type", type || blob.type || "application/octet-stream");
    if (name) call.setRequestHeader("X-File-Name", encodeURIComponent(name));
    if (onprogress)
      call.upload.onprogress = (event) => onprogress(event.loaded / (event.total || blob.size || 1));
    call.onloadend = () => {
      signal?.removeEventListener("abort", abort);
      if (signal?.aborted) reject(signal.reason);
      else if (call.status === 0) reject(noAnswer());
      else if (call.status === 401 && askToken)
        askToken()
          .then(() => send(path, blob, { name, type, onprogress, signal }))
          .then(resolve, reject);
      else if (call.status >= 400)
        reject(refusal(call.status, call.responseText, call.getResponseHeader("Retry-After")));
      else resolve(call.responseText ? JSON.parse(call.responseText) : {});
    };
    call.send(blob);
  });
}
