// A photo in, a label and its probability out. The photo does not leave the browser.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

ort.env.wasm.wasmPaths = { wasm: "./node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm" };
ort.env.wasm.numThreads = 1; // more need headers of the server: COOP and COEP

/** The metadata of an ONNX file, key to value. onnxruntime-web does not show it, so this reads the protobuf. */
function metadata(bytes) {
  const text = new TextDecoder();
  const fields = function* (at, end) {
    const number = () => {
      let value = 0;
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++];
        value += (byte & 127) * scale;
        if (byte < 128) return value;
      }
    };
    while (at < end) {
      const tag = number();
      if (tag % 8 === 0) number(); // a number; all others in this file are bytes with their length
      else {
        const size = number();
        yield [Math.floor(tag / 8), at, (at += size)];
      }
    }
  };
  const found = {};
  for (const [field, start, end] of fields(0, bytes.length)) {
    if (field !== 14) continue; // ModelProto.metadata_props
    const [key, value] = [...fields(start, end)].map(([, from, to]) => text.decode(bytes.subarray(from, to)));
    found[key] = value;
  }
  return found;
}

/** A photo as the classifier takes it: uint8 [1, height, width, 3]. */
async function pixels(file) {
  const asStored = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const picture = await createImageBitmap(file, asStored); // upright, as EXIF says
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  context.drawImage(picture, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, picture.width, picture.height);
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < data.length; i++) if (i % 4 < 3) rgb[j++] = data[i]; // without alpha
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

const output = document.querySelector("output");
const model = new Uint8Array(await (await fetch("belt.onnx")).arrayBuffer());
const labels = JSON.parse(metadata(model).labels);
const session = await ort.InferenceSession.create(model);
output.textContent = `Ready: ${labels.join(", ")}`;

document.querySelector("input").addEventListener("change", async event => {
  const [file] = event.target.files;
  const { probabilities, none_of_these: none } = await session.run({ image: await pixels(file) });
  const best = probabilities.data.indexOf(Math.max(...probabilities.data));
  const label = none?.data[0] ? "none of these" : labels[best];
  output.textContent = `${file.name}: ${label} ${probabilities.data[best].toFixed(6)}`;
});
