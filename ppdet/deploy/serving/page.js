"use strict";

// The server sends detections from this score on, and the page filters them: the slider needs no request.
const LEAST_SCORE = 0.05;
// Longest side of the canvases in pixels, and of the frames that the camera sends.
const LONGEST_SIDE = 1600;
const CAMERA_SIDE = 960;

const $ = (id) => document.getElementById(id);
const STAGES = { prepare: "Decode and resize", queue: "Wait for a batch", inference: "Model", total: "Server, in all" };

let answer = null; // the last answer of /predict
let scale = 1; // from pixels of the image to pixels of the canvas
let token = "";
let repeat = null; // the request to repeat when the user has given a token
let running = null; // AbortController of the current request
let stream = null; // the camera's MediaStream
const hidden = new Set(); // names of classes that the user has switched off

class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function predict(blob, signal) {
  const form = new FormData();
  form.append("image", blob, "image");
  form.append("threshold", String(LEAST_SCORE));
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const start = performance.now();
  let response;
  try {
    response = await fetch("predict", { method: "POST", body: form, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer.", 0);
  }
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new ServerError(content.error || `The server answers with status ${response.status}.`, response.status);
  content.roundTrip = performance.now() - start;
  return content;
}

function show(picture, content) {
  answer = content;
  const { width, height } = content.image;
  scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  for (const canvas of [$("picture"), $("boxes")]) {
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
  }
  if (picture) $("picture").getContext("2d").drawImage(picture, 0, 0, $("picture").width, $("picture").height);
  $("frame").hidden = false;
  $("drop").hidden = true;
  listClasses();
  listTimes();
  draw();
}

// The server draws with the same colors: steps of the golden ratio around the color circle give each class its own hue.
function color(index) {
  const hue = ((0.02 + index * 0.61803398875) % 1) * 360;
  const [saturation, value] = [[0.85, 0.95], [0.55, 1], [1, 0.7]][Math.floor(index / 12) % 3];
  const lightness = value * (1 - saturation / 2);
  const chroma = lightness === 0 || lightness === 1 ? 0 : (value - lightness) / Math.min(lightness, 1 - lightness);
  return `hsl(${hue} ${chroma * 100}% ${lightness * 100}%)`;
}

function draw() {
  const least = Number($("threshold").value);
  $("least").textContent = least.toFixed(2);
  if (!answer) return;
  const good = answer.detections.filter((one) => one.score >= least);
  const shown = good.filter((one) => !hidden.has(one.name));
  const canvas = $("boxes");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const side = Math.sqrt(canvas.width * canvas.height);
  const line = Math.max(1.5, side / 320);
  const font = Math.min(Math.max(side / 42, 11), 28);
  context.font = `600 ${font}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineWidth = line;
  // Boxes with high scores are drawn last, on top.
  for (const one of [...shown].reverse()) drawBox(context, one, line, font);
  canvas.dataset.count = shown.length;
  canvas.setAttribute("aria-label", shown.map((one) => `${one.name} ${one.score.toFixed(2)}`).join(", ") || "No detections");
  $("summary").textContent = `${shown.length} of ${answer.detections.length} detections shown`;
  for (const count of document.querySelectorAll("#classes .count")) {
    count.textContent = good.filter((one) => one.name === count.dataset.name).length;
  }
}

function drawBox(context, one, line, font) {
  const [x1, y1, x2, y2] = one.box.map((value) => value * scale);
  const text = `${one.name} ${one.score.toFixed(2)}`;
  const width = context.measureText(text).width + font * 0.6;
  const height = font * 1.35;
  const left = Math.max(0, Math.min(x1, context.canvas.width - width));
  const top = y1 >= height ? y1 - height : y1;
  context.strokeStyle = context.fillStyle = color(one.class);
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.fillRect(left - line / 2, top, width, height);
  context.fillStyle = isBright(one.class) ? "#000" : "#fff";
  context.fillText(text, left + font * 0.25, top + height / 2);
}

function isBright(index) {
  const context = (isBright.context ||= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true }));
  context.fillStyle = color(index);
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}

function listClasses() {
  const indices = new Map(answer.detections.map((one) => [one.name, one.class]));
  // A class that was switched off stays in the list, even if the camera's current frame does not show it.
  const names = [...new Set([...indices.keys(), ...hidden])].sort((a, b) => a.localeCompare(b));
  const previous = [...document.querySelectorAll("#classes .count")].map((count) => count.dataset.name);
  if (names.length && names.join("\n") === previous.join("\n")) return;
  $("classes").replaceChildren(...names.map((name) => classToggle(name, indices.get(name))));
  if (!names.length) $("classes").append(element("p", "Nothing was detected.", "muted"));
}

function classToggle(name, index) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = !hidden.has(name);
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(name);
    else hidden.add(name);
    draw();
  });
  const count = element("span", "0", "count");
  count.dataset.name = name;
  label.append(box, swatch(index), element("span", name, "name"), count);
  return label;
}

// SVG, because this page's Content-Security-Policy forbids style attributes.
function swatch(index) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  for (const key of ["cx", "cy", "r"]) circle.setAttribute(key, "5");
  circle.setAttribute("fill", index === undefined ? "gray" : color(index));
  svg.append(circle);
  return svg;
}

function listTimes() {
  const rows = Object.entries(STAGES).map(([stage, name]) => [name, answer.timing_ms[stage]]);
  rows.push(["Round trip", answer.roundTrip]);
  const entries = rows.flatMap(([name, ms]) => [element("dt", name), element("dd", `${ms.toFixed(ms < 10 ? 1 : 0)} ms`)]);
  entries.push(element("dt", "Images in the batch"), element("dd", String(answer.batch_size)));
  $("timing").replaceChildren(...entries);
}

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function tell(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function report(error, again) {
  if (error.name === "AbortError") return;
  tell(error instanceof ServerError ? sentence(error.message) : `The page failed: ${error.message}`);
  if (error.status === 401) {
    repeat = again;
    $("login").hidden = false;
    $("token").focus();
  }
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

async function detectFile(file) {
  stopCamera();
  running?.abort();
  const request = (running = new AbortController());
  document.body.classList.add("busy");
  tell("");
  try {
    const [content, picture] = await Promise.all([predict(file, request.signal), createImageBitmap(file).catch(() => null)]);
    if (request.signal.aborted) return;
    show(picture, content);
    if (!picture) tell("This browser cannot show images of this kind; the boxes are right.");
  } catch (error) {
    report(error, () => detectFile(file));
  } finally {
    if (running === request) document.body.classList.remove("busy");
  }
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    tell("Browsers give the camera to pages from https or from localhost only.");
    return;
  }
  running?.abort();
  tell("");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    tell(`No camera: ${sentence(error.message || error.name)}`);
    return;
  }
  $("camera").textContent = "Stop camera";
  $("camera").setAttribute("aria-pressed", "true");
  const video = $("video");
  video.srcObject = stream;
  try {
    await video.play();
    const started = stream;
    while (stream === started) await detectFrame(video, started);
  } catch (error) {
    stopCamera();
    report(error, startCamera);
  }
}

// The next frame is captured when the answer for this one has arrived.
async function detectFrame(video, started) {
  const factor = Math.min(1, CAMERA_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const frame = document.createElement("canvas");
  frame.width = Math.round(video.videoWidth * factor);
  frame.height = Math.round(video.videoHeight * factor);
  frame.getContext("2d").drawImage(video, 0, 0, frame.width, frame.height);
  const blob = await new Promise((resolve) => frame.toBlob(resolve, "image/jpeg", 0.9));
  running = new AbortController();
  try {
    const content = await predict(blob, running.signal);
    if (stream === started) show(frame, content);
    tell("");
  } catch (error) {
    // The server is busy: wait a second and continue.
    if (error.status !== 503) throw error;
    tell(sentence(error.message));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  running?.abort();
  $("video").srcObject = null;
  $("camera").textContent = "Start camera";
  $("camera").setAttribute("aria-pressed", "false");
}

function firstImage(files) {
  return [...files].find((file) => file.type.startsWith("image/")) || files[0];
}

$("file").addEventListener("change", () => {
  const file = $("file").files[0];
  $("file").value = ""; // so that the same file can be chosen again
  if (file) detectFile(file);
});
$("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
$("threshold").addEventListener("input", draw);
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("login").hidden = true;
  repeat?.();
});
document.addEventListener("paste", (event) => {
  const file = firstImage(event.clipboardData.files);
  if (file) detectFile(file);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const file = firstImage(event.dataTransfer.files);
  if (file) detectFile(file);
});
