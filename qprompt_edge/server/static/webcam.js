/** The browser's camera: whether there is one, opening it, and frames of it as JPEG. */
import { S } from "./strings.js";

const QUALITY = 0.92;

/** Whether the browser gives pages like this one a live camera at all. */
export const cameraAllowed = () => Boolean(navigator.mediaDevices?.getUserMedia);

/** Why a camera did not open, in words. */
export function cameraProblem(error) {
  if (error.name === "NotAllowedError") return S.cameraDenied;
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError") return S.cameraNone;
  if (error.name === "NotReadableError") return S.cameraBusy;
  return error.message;
}

/** How many cameras there are, as far as the browser says. */
export const countCameras = async () =>
  (await navigator.mediaDevices.enumerateDevices()).filter((it) => it.kind === "videoinput").length;

/**
 * Open a camera and show it.
 * @param {HTMLVideoElement} video Where.
 * @param {"environment" | "user"} facing Which side of a phone.
 * @param {AbortSignal} signal Closes it.
 * @throws What getUserMedia throws.
 */
export async function openWebcam(video, facing, signal) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: false,
    video: { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 960 } },
  });
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    if (video.srcObject === stream) video.srcObject = null;
  };
  if (signal.aborted) {
    close();
    return;
  }
  signal.addEventListener("abort", close, { once: true });
  video.srcObject = stream;
  await video.play();
}

/**
 * What the camera shows now, as JPEG.
 * @param {HTMLVideoElement} video
 * @param {number} longest Longest side in pixels; 0 keeps the camera's size.
 * @returns {Promise<Blob | null>} Null while there is no picture yet.
 */
export function snapshot(video, longest = 0) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width) return Promise.resolve(null);
  const scale = longest ? Math.min(1, longest / Math.max(width, height)) : 1;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}
