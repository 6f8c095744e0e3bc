// Predicts an image with an ONNX export in Node.js; needs only the npm package onnxruntime-node.
//
//   npm install onnxruntime-node
//   node examples/run_onnx_node.mjs model.onnx metadata.json photo.ppm mask.pgm
//
// The image is a binary PPM file (`convert photo.jpg photo.ppm`), not larger than the input of the model; the mask is a
// PGM file whose gray values are class numbers. Replace `readPpm` to read other image formats with an image library.

import { readFileSync, writeFileSync } from "node:fs";
import ort from "onnxruntime-node";

function readPpm(path) {
  const bytes = readFileSync(path);
  const header = /^P6\s+(?:#.*\n\s*)*(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 1000).toString("latin1"));
  if (!header) throw new Error(`${path} is no binary PPM file with 8 bits`);
  const [width, height] = [Number(header[1]), Number(header[2])];
  const pixels = bytes.subarray(header[0].length);
  if (pixels.length < 3 * width * height) throw new Error(`${path} ends after ${pixels.length} of its bytes`);
  return { width, height, pixels };
}

const [modelPath, metadataPath, photo, mask] = process.argv.slice(2);
const metadata = JSON.parse(readFileSync(metadataPath, "utf8"));
const { height, width } = metadata.input.padded_to;
const color = metadata.input.padding_color;
if (metadata.classes.length > 256) throw new Error("a PGM file of 8 bits holds 256 classes");
const image = readPpm(photo);
if (image.height > height || image.width > width) {
  throw new Error(`the image has ${image.height}x${image.width} pixels: shrink it to fit into ${height}x${width}`);
}

const input = new Float32Array(height * width * 3); // RGB, 0..255, padded at the bottom and the right
for (let y = 0; y < height; y++) {
  for (let x = 0; x < width; x++) {
    const inside = y < image.height && x < image.width;
    for (let c = 0; c < 3; c++) {
      input[3 * (y * width + x) + c] = inside ? image.pixels[3 * (y * image.width + x) + c] : color[c];
    }
  }
}

const session = await ort.InferenceSession.create(modelPath);
const feeds = { image: new ort.Tensor("float32", input, [1, height, width, 3]) };
const labels = (await session.run(feeds, ["SemanticPredictions"])).SemanticPredictions.data;

const cut = Buffer.alloc(image.height * image.width);
const counts = {};
for (let y = 0; y < image.height; y++) {
  for (let x = 0; x < image.width; x++) {
    const label = labels[y * width + x];
    cut[y * image.width + x] = label;
    counts[metadata.classes[label]] = (counts[metadata.classes[label]] ?? 0) + 1;
  }
}
writeFileSync(mask, Buffer.concat([Buffer.from(`P5\n${image.width} ${image.height}\n255\n`), cut]));
console.log(counts);
