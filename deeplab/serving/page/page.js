"use strict";
// The page of `deeplab serve`: sends images to /segment and draws what comes back. Needs no other files.

const $ = (id) => document.getElementById(id);
const MANY_CLASSES = 160; // the list leaves out classes of no area beyond
// `current` is the place of the chosen image; `shown` is what the results show: an image, and one or two models that
// have segmented it. While a request runs, or after it failed, the two differ.
const state = { models: [], images: [], current: -1, shown: null, hidden: new Set(), pixel: null, run: 0 };

// --- Server -----------------------------------------------------------------------------------------------------

function headers() {
  return $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {};
}

async function ask(address, options = {}) {
  const response = await fetch(address, { ...options, headers: { ...headers(), ...options.headers } }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  if (response.status === 401) $("key-label").hidden = false;
  if (!response.ok) {
    const content = await response.json().catch(() => ({ error: response.statusText }));
    throw new Error(content.error || `The server answered ${response.status}.`);
  }
  return response;
}

function post(image, query) {
  const headers = { "Content-Type": image.blob.type || "application/octet-stream" };
  return ask(`segment?${new URLSearchParams(query)}`, { method: "POST", body: image.blob, headers });
}

async function loadModels() {
  try {
    state.models = await (await ask("models")).json();
  } catch (error) {
    return fail(error);
  }
  clearError();
  state.hidden = new Set(state.models.map((model) => model.classes[0]?.name)); // overlays leave the background as it is
  for (const select of [$("model"), $("compare")]) {
    select.querySelectorAll("option:not([value=''])").forEach((option) => option.remove());
    for (const model of state.models) select.add(new Option(model.name, model.name));
  }
  $("compare-label").hidden = state.models.length < 2;
  offerOthers();
}

function offerOthers() {
  // A model is not compared with itself.
  for (const option of $("compare").options) option.hidden = option.disabled = option.value === $("model").value;
  if ($("compare").selectedOptions[0]?.disabled) $("compare").value = "";
}

// --- Images -----------------------------------------------------------------------------------------------------

async function addFiles(files) {
  for (const file of files) {
    state.images.push({ name: file.name || `image ${state.images.length + 1}`, blob: file, found: {} });
  }
  if (files.length) await show(state.images.length - files.length);
}

function listImages() {
  const list = $("images");
  list.replaceChildren();
  state.images.forEach((image, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = image.name;
    button.setAttribute("aria-pressed", String(place === state.current));
    button.addEventListener("click", () => show(place));
    list.append(button);
  });
  list.hidden = state.images.length < 2;
}

async function show(place) {
  if (place < 0) return;
  const run = ++state.run;
  const image = state.images[place];
  const models = chosen();
  state.current = place;
  listImages();
  clearError();
  tell(`Segmenting ${image.name} ...`);
  try {
    for (const model of models) image.found[model] ||= await segment(image, model);
  } catch (error) {
    if (run !== state.run) return;
    state.shown = null;
    $("results").hidden = true;
    fail(error);
    return;
  }
  if (run !== state.run) return; // another image or model was chosen meanwhile
  Object.assign(state, { shown: { image, models }, pixel: null });
  const found = prediction();
  const large = found.classes.filter((one) => one.fraction > 0).sort((a, b) => b.fraction - a.fraction);
  tell(`${image.name}: ${large.slice(0, 3).map((one) => `${one.name} ${percent(one.fraction)}`).join(", ")}.`);
  listClasses(models.map((model) => image.found[model]));
  $("results").hidden = false;
  draw();
}

function chosen() {
  const second = $("compare").value;
  return second && second !== $("model").value ? [$("model").value, second] : [$("model").value];
}

// What the first of the shown models found.
const prediction = () => state.shown.image.found[state.shown.models[0]];

async function segment(image, model) {
  const found = await (await post(image, { output: "json", polygons: true, model })).json();
  found.labels = found.labels_rgb_png ? await wideLabels(found.labels_rgb_png) : await grays(found.labels_png);
  found.confidence = found.confidence_png && (await grays(found.confidence_png));
  image.bitmap ||= await createImageBitmap(image.blob).catch(() => null);
  return found;
}

async function grays(base64) {
  const pixels = await values(base64);
  return Uint8Array.from({ length: pixels.length / 4 }, (_, index) => pixels[4 * index]);
}

async function wideLabels(base64) {
  // Labels beyond 256 classes: red holds the low byte, green the high byte.
  const pixels = await values(base64);
  return Uint16Array.from({ length: pixels.length / 4 }, (_, index) => pixels[4 * index] + 256 * pixels[4 * index + 1]);
}

async function values(base64) {
  // The values of a PNG as they are, RGBA: without color management.
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

// --- Drawing ----------------------------------------------------------------------------------------------------

const percent = (fraction) => (fraction > 0 && fraction < 0.0005 ? "< 0.1 %" : `${(100 * fraction).toFixed(1)} %`);
const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

function draw() {
  if (!state.shown) return;
  const { image } = state.shown;
  const [first, second] = state.shown.models;
  drawOne($("view"), $("caption"), image, first);
  $("second").hidden = !second;
  $("agreement").hidden = !second;
  if (second) {
    drawOne($("second-view"), $("second-caption"), image, second);
    const [one, other] = [image.found[first], image.found[second]];
    const inOther = one.classes.map((each) => other.classes.findIndex((its) => its.name === each.name));
    const equal = one.labels.reduce((sum, label, place) => sum + (inOther[label] === other.labels[place]), 0);
    $("agreement").textContent = `${first} and ${second} agree on ${percent(equal / one.labels.length)} of the pixels.`;
  }
}

function drawOne(canvas, caption, image, model) {
  const { width, height, labels, classes } = image.found[model];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  if (image.bitmap) context.drawImage(image.bitmap, 0, 0, width, height);
  const colors = classes.map((one) => rgb(one.color));
  const layer = context.createImageData(width, height);
  const alpha = Math.round(2.55 * $("opacity").value);
  for (let place = 0; place < labels.length; place++) {
    const label = labels[place];
    if (state.hidden.has(classes[label].name)) continue;
    layer.data.set(colors[label], 4 * place);
    layer.data[4 * place + 3] = alpha;
  }
  const over = new OffscreenCanvas(width, height);
  over.getContext("2d").putImageData(layer, 0, 0);
  context.drawImage(over, 0, 0);
  if (state.pixel) {
    const [x, y] = state.pixel;
    const arm = Math.max(6, Math.round(width / 40));
    context.strokeStyle = "#ffffff";
    context.lineWidth = Math.max(1, width / 400);
    context.strokeRect(x - arm / 2, y - arm / 2, arm, arm);
  }
  canvas.setAttribute("aria-label", `${image.name}, segmented by ${model}`);
  caption.textContent = `${model}: ${width} x ${height} pixels`;
}

function listClasses(predictions) {
  // The classes of one or two models; the same name is the same class.
  const rows = new Map();
  predictions.forEach((found, place) => {
    for (const { name, color, fraction } of found.classes) {
      if (!rows.has(name)) rows.set(name, { name, color, fractions: predictions.map(() => 0) });
      rows.get(name).fractions[place] = fraction;
    }
  });
  const list = $("classes");
  list.replaceChildren();
  const sorted = [...rows.values()].sort((a, b) => Math.max(...b.fractions) - Math.max(...a.fractions));
  const shown = rows.size > MANY_CLASSES ? sorted.filter((one) => Math.max(...one.fractions) > 0) : sorted;
  for (const one of shown) {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !state.hidden.has(one.name) });
    box.dataset.name = one.name;
    box.addEventListener("change", () => {
      state.hidden[box.checked ? "delete" : "add"](one.name);
      draw();
    });
    const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
    swatch.style.background = one.color;
    const name = Object.assign(document.createElement("span"), { textContent: one.name });
    const area = Object.assign(document.createElement("span"), { className: "area", textContent: one.fractions.map(percent).join(" / ") });
    label.append(box, swatch, name, area);
    item.append(label);
    list.append(item);
  }
  if (shown.length < rows.size) {
    const rest = `${rows.size - shown.length} other classes are not in the image`;
    list.append(Object.assign(document.createElement("li"), { className: "area", textContent: rest }));
  }
}

function setVisible(visible) {
  for (const box of $("classes").querySelectorAll("input")) box.checked = visible;
  for (const model of state.shown.models) {
    for (const { name } of state.shown.image.found[model].classes) {
      state.hidden[visible ? "delete" : "add"](name);
    }
  }
  draw();
}

// --- Pixels -----------------------------------------------------------------------------------------------------

function describePixel(x, y) {
  const { image, models } = state.shown;
  const parts = models.map((model) => {
    const found = image.found[model];
    const place = y * found.width + x;
    const probability = found.confidence ? `, probability ${(found.confidence[place] / 255).toFixed(2)}` : "";
    return `${models.length > 1 ? `${model}: ` : ""}${found.classes[found.labels[place]].name}${probability}`;
  });
  $("pixel").textContent = `(${x}, ${y}) ${parts.join("; ")}`;
}

function point(event) {
  const canvas = event.currentTarget;
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  if (x >= 0 && y >= 0 && x < canvas.width && y < canvas.height) describePixel(x, y);
}

function step(event) {
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!move) return;
  event.preventDefault();
  const canvas = event.currentTarget;
  const far = event.shiftKey ? Math.max(1, Math.round(canvas.width / 20)) : 1;
  const [x, y] = state.pixel || [canvas.width >> 1, canvas.height >> 1];
  const within = (value, limit) => Math.min(Math.max(value, 0), limit - 1);
  state.pixel = [within(x + move[0] * far, canvas.width), within(y + move[1] * far, canvas.height)];
  draw();
  describePixel(...state.pixel);
}

// --- Downloads --------------------------------------------------------------------------------------------------

function save(blob, image, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${image.name.replace(/\.[^.]*$/, "")}${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function saveMask() {
  const { image, models } = state.shown;
  try {
    save(await (await post(image, { output: "png", model: models[0] })).blob(), image, "_mask.png");
  } catch (error) {
    fail(error);
  }
}

async function saveCutout() {
  const { image } = state.shown;
  if (!image.bitmap) return fail(new Error("This browser cannot show images of this format, so there is no cut-out."));
  const { width, height, labels, classes } = prediction();
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(image.bitmap, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  labels.forEach((label, place) => {
    if (label === 0 || state.hidden.has(classes[label].name)) pixels.data[4 * place + 3] = 0;
  });
  context.putImageData(pixels, 0, 0);
  save(await canvas.convertToBlob({ type: "image/png" }), image, "_cutout.png");
}

function savePolygons() {
  const { image } = state.shown;
  const { height, width, polygons } = prediction();
  const content = JSON.stringify({ image: image.name, height, width, polygons });
  save(new Blob([content], { type: "application/json" }), image, "_polygons.json");
}

// --- Camera -----------------------------------------------------------------------------------------------------

async function openCamera() {
  const video = $("video");
  $("camera").disabled = true; // one stream at a time
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("viewfinder").hidden = false;
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      await new Promise((done) => video.addEventListener("loadeddata", done, { once: true }));
    }
    $("shoot").disabled = false;
    $("shoot").focus();
  } catch (error) {
    $("camera").disabled = false;
    fail(new Error(`The camera cannot be used: ${error.message}. Browsers allow it on localhost and over https.`));
  }
}

function closeCamera() {
  $("video").srcObject?.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
  $("viewfinder").hidden = true;
  $("shoot").disabled = true;
  $("camera").disabled = false;
  $("camera").focus();
}

async function shoot() {
  const video = $("video");
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  await addFiles([new File([blob], `camera ${state.images.length + 1}.jpg`, { type: "image/jpeg" })]);
}

// --- Messages and events ----------------------------------------------------------------------------------------

function tell(text) {
  $("status").textContent = text;
}

function fail(error) {
  tell("");
  $("error").textContent = error.message;
  $("error").hidden = false;
}

function clearError() {
  $("error").hidden = true;
}

const onlyImages = (files) => [...files].filter((file) => file.type.startsWith("image/"));

$("file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // so that the same file can be chosen again
  addFiles(files);
});
document.addEventListener("paste", (event) => addFiles(onlyImages(event.clipboardData.files)));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  addFiles([...event.dataTransfer.files]);
});
$("camera").addEventListener("click", openCamera);
$("stop").addEventListener("click", closeCamera);
$("shoot").addEventListener("click", shoot);
$("options").addEventListener("submit", (event) => event.preventDefault());
$("model").addEventListener("change", () => {
  offerOthers();
  show(state.current);
});
$("compare").addEventListener("change", () => show(state.current));
$("opacity").addEventListener("input", () => {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  draw();
});
$("key").addEventListener("change", async () => {
  await loadModels();
  await show(state.current);
});
$("all").addEventListener("click", () => setVisible(true));
$("none").addEventListener("click", () => setVisible(false));
for (const canvas of [$("view"), $("second-view")]) {
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", step);
}
$("save-mask").addEventListener("click", saveMask);
$("save-cutout").addEventListener("click", saveCutout);
$("save-polygons").addEventListener("click", savePolygons);
loadModels();
