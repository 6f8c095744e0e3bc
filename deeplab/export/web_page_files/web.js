"use strict";
// Segments images in the browser with model.onnx, as model.json describes it. No server code.

const $ = (id) => document.getElementById(id);
const state = { hidden: new Set([0]), file: null };

async function start() {
  if (location.protocol === "file:") {
    throw new Error("browsers load models over http only; serve this folder, for example by python3 -m http.server");
  }
  state.model = await (await get("model.json")).json();
  ort.env.wasm.wasmPaths = new URL("./", location.href).href;
  ort.env.wasm.numThreads = 1; // more need headers that static hosts rarely send
  const file = new Uint8Array(await (await get("model.onnx")).arrayBuffer());
  state.session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
  $("file").disabled = false;
  tell("Ready.");
}

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be loaded (status ${response.status})`);
  return response;
}

// Images are segmented one after the other, because a session of ONNX Runtime must not run twice at the same time; of
// those that wait, only the last one.
let work = start().catch(fail);

function choose(file) {
  if (!file) return;
  state.file = file;
  work = work.then(() => (state.session && file === state.file ? segment(file) : null)).catch(fail);
}

async function segment(file) {
  tell("Segmenting ...");
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const [height, width] = state.model.size;
  const scale = Math.min(1, height / bitmap.height, width / bitmap.width);
  const [rows, columns] = [bitmap.height, bitmap.width].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, columns, rows);
  bitmap.close();
  const pixels = context.getImageData(0, 0, columns, rows).data;
  const input = new Float32Array(height * width * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const inside = y < rows && x < columns;
        const value = inside ? pixels[4 * (y * columns + x) + channel] : state.model.padding_color[channel];
        input[3 * (y * width + x) + channel] = value;
      }
    }
  }
  const started = performance.now();
  const found = await state.session.run({ image: new ort.Tensor("float32", input, [1, height, width, 3]) });
  const all = found.SemanticPredictions.data;
  const labels = new Uint8Array(rows * columns);
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) labels[y * columns + x] = all[y * width + x];
  Object.assign(state, { canvas, labels, rows, columns, name: file.name || "image" });
  list();
  draw();
  $("save").disabled = false;
  tell(`Done in ${Math.round(performance.now() - started)} ms, at ${columns} x ${rows} pixels.`);
}

function draw() {
  if (!state.labels) return;
  const { rows, columns, labels } = state;
  const view = Object.assign($("view"), { width: columns, height: rows, hidden: false });
  const context = view.getContext("2d");
  context.drawImage(state.canvas, 0, 0);
  const layer = context.createImageData(columns, rows);
  labels.forEach((label, place) => {
    if (state.hidden.has(label)) return;
    layer.data.set(state.model.classes[label]?.color ?? [0, 0, 0], 4 * place);
    layer.data[4 * place + 3] = Math.round(2.55 * $("opacity").value);
  });
  const over = new OffscreenCanvas(columns, rows);
  over.getContext("2d").putImageData(layer, 0, 0);
  context.drawImage(over, 0, 0);
}

const percent = (fraction) => (fraction < 0.0005 ? "< 0.1 %" : `${(100 * fraction).toFixed(1)} %`); // never of 0

function list() {
  const counts = new Uint32Array(256);
  for (const label of state.labels) counts[label]++;
  $("classes").replaceChildren();
  state.model.classes.forEach((one, index) => {
    if (!counts[index]) return;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !state.hidden.has(index) });
    box.addEventListener("change", () => {
      state.hidden[box.checked ? "delete" : "add"](index);
      draw();
    });
    const swatch = document.createElement("i");
    swatch.style.background = `rgb(${one.color})`;
    const label = document.createElement("label");
    label.append(box, swatch, `${one.name} ${percent(counts[index] / state.labels.length)}`);
    const item = document.createElement("li");
    item.append(label);
    $("classes").append(item);
  });
}

async function save() {
  // A gray PNG whose pixels are class numbers.
  const { rows, columns, labels, name } = state;
  const canvas = new OffscreenCanvas(columns, rows);
  const image = canvas.getContext("2d").createImageData(columns, rows);
  labels.forEach((label, place) => image.data.set([label, label, label, 255], 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
  link.download = `${name.replace(/\.[^.]*$/, "")}_mask.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function tell(text, kind = "") {
  Object.assign($("status"), { textContent: text, className: kind });
}

function fail(error) {
  tell(`It failed: ${error.message}`, "error");
}

$("file").addEventListener("change", (event) => {
  choose(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
$("opacity").addEventListener("input", draw);
$("save").addEventListener("click", () => save().catch(fail));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  choose(event.dataTransfer.files[0]);
});
