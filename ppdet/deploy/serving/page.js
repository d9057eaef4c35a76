"use strict";

// The picture's canvas has so many pixels at most; browsers draw nothing on canvases with much longer sides.
const MOST_PIXELS = 1600 * 1600;
// Longest side of the frames that the camera sends, in pixels.
const CAMERA_SIDE = 960;

const STAGES = { prepare: "Decode and resize", queue: "Wait for a batch", inference: "Model", total: "Server, in all" };

let answer = null; // the last answer of /predict, which has the detections from the score `asked` on
let asked = LEAST_SCORE;
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

async function ask(path, options) {
  const sent = token;
  const headers = sent ? { Authorization: `Bearer ${sent}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer.", 0);
  }
  if (response.status === 401 && token !== sent) return ask(path, options); // the user has given another one meanwhile
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new ServerError(content.error || `The server answers with status ${response.status}.`, response.status);
  return content;
}

// The server sends more detections than are shown, and the page filters them: the slider needs no request.
async function predict(blob, signal) {
  if (!model) await learnModel();
  const form = new FormData();
  form.append("image", blob, "image");
  asked = leastAsked();
  form.append("threshold", String(asked));
  const start = performance.now();
  const content = await ask("predict", { method: "POST", body: form, signal });
  content.roundTrip = performance.now() - start;
  return content;
}

async function learnModel() {
  const described = await ask("model");
  if (model) return;
  introduceModel(described);
  $("threshold").min = Math.floor(leastAsked() * 100) / 100; // detections with a lower score are not there
  document.title = `Object detection: ${model.name}`;
  draw();
}

// When the page opens: a server with a token asks for it, and one that starts is asked again.
async function beginWithModel() {
  try {
    await learnModel();
  } catch (error) {
    if (error.status === 401) askForToken(beginWithModel);
    else if (error.status === 503) setTimeout(beginWithModel, 1000);
    else report(error);
  }
}

function show(picture, content) {
  answer = content;
  const { width, height } = content.image;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)), CANVAS_SIDE / Math.max(width, height));
  const canvas = $("picture");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  if (picture) canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  // The style sheet makes the frame as large as its place allows, and keeps the picture's proportions.
  $("frame").style.setProperty("--width", width);
  $("frame").style.setProperty("--height", height);
  $("frame").hidden = false;
  $("drop").hidden = true;
  listClasses();
  listTimes();
  draw();
}

function draw() {
  $("least").textContent = leastText();
  $("threshold").classList.toggle("idle", $("own").checked && isByClass());
  if (!answer) return;
  const good = answer.detections.filter(isShown);
  const shown = good.filter((one) => !hidden.has(one.name));
  const unlabeled = drawBoxes($("boxes"), answer.image, shown);
  $("unlabeled").textContent = `${unlabeled} of them without a label: there is no room.`;
  $("unlabeled").hidden = !unlabeled;
  $("boxes").dataset.count = shown.length;
  $("boxes").setAttribute("aria-label", shown.map(labelOf).join(", ") || "No detections");
  $("summary").textContent = summary(shown.length, good.length, answer.detections.length);
  for (const count of document.querySelectorAll("#classes .count")) {
    count.textContent = good.filter((one) => one.name === count.dataset.name).length;
  }
}

function summary(shown, good, all) {
  const off = good > shown ? `; ${good - shown} more in classes that are switched off` : "";
  return `${shown} shown of ${all} ${all === 1 ? "detection" : "detections"} with a score of ${asked} or more${off}`;
}

// Nothing of the image before is left beside a message.
function clear() {
  answer = null;
  $("frame").hidden = true;
  $("drop").hidden = false;
  $("unlabeled").hidden = true;
  $("summary").textContent = "No image yet";
  $("classes").replaceChildren(element("p", "They appear with the first detections.", "muted"));
  $("timing").replaceChildren(element("dt", "Not measured yet", "muted"));
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
  circle.setAttribute("fill", index === undefined ? "gray" : css(color(index)));
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

function tell(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function report(error, again) {
  if (error.name === "AbortError") return;
  clear();
  tell(error instanceof ServerError ? sentence(error.message) : `The page failed: ${error.message}`);
  if (error.status === 401) {
    repeat = null;
    askForToken(again);
  }
}

// What the user has asked for is repeated, rather than what the page does by itself.
function askForToken(again) {
  repeat ??= again;
  $("login").hidden = false;
  $("token").focus();
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
$("threshold").addEventListener("input", () => {
  $("own").checked = false;
  draw();
});
$("own").addEventListener("change", () => {
  followModel();
  draw();
});
new ResizeObserver(draw).observe($("frame"));
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("login").hidden = true;
  const again = repeat;
  repeat = null;
  again?.();
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
beginWithModel();
