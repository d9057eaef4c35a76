"use strict";

// What a page says of its model, and which detections the model's own thresholds show. A model is what GET /model of the
// server answers: { name, architecture, versions, classes, engine, device, precision, input_size, threshold }. The page
// for browsers (deploy/web) makes the same of infer_cfg.yml, and leaves out what it does not know.

// So many classes are named at once; the others are a click away.
const FIRST_CLASSES = 5;
// Detections with a lower score are not asked for, unless the model shows some of them.
const LEAST_SCORE = 0.05;

let model = null;

const $ = (id) => document.getElementById(id);

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

// Scores of the server have five decimals, and a score that reaches a threshold reaches it when both are rounded.
const rounded = (threshold) => Math.round(threshold * 1e5) / 1e5;

// Of the model's thresholds: the lowest and the highest one.
function thresholdRange() {
  const all = model.classes.length ? model.classes.map((one) => rounded(one.threshold)) : [rounded(model.threshold)];
  return [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
}

const isByClass = () => thresholdRange().some((value, _, [least]) => value !== least);

// The model's own threshold of a class; one without a name has that of the whole model.
const thresholdOf = (index) => rounded(model.classes[index]?.threshold ?? model.threshold);

// Two decimals, or as many as it has up to five: what is written is the number that counts.
const thresholdText = (value) => value.toFixed(5).replace(/(\.\d\d\d*?)0+$/, "$1");

// The score from which on detections are asked for.
const leastAsked = () => Math.min(LEAST_SCORE, thresholdRange()[0]);

// Whether a detection is shown: from the threshold of its class on, or from the slider's number on.
const isShown = (one) => one.score >= ($("own").checked ? thresholdOf(one.class) : Number($("threshold").value));

// The words beside the slider.
const leastText = () =>
  $("own").checked ? (isByClass() ? "by class" : thresholdText(thresholdRange()[0])) : Number($("threshold").value).toFixed(2);

function sizeText({ usual, largest, fixed }) {
  const text = ({ width, height }) => `${width}\u00a0x\u00a0${height}`;
  return fixed || text(usual) === text(largest) ? text(largest) : `${text(usual)}, up to ${text(largest)}`;
}

// Write what the model is into the page, and go by its thresholds until the slider is moved.
function introduceModel(described) {
  model = described;
  const { name, architecture, engine, device, precision, versions, classes, input_size: size } = model;
  const [least, most] = thresholdRange();
  const facts = {
    Name: name,
    Architecture: architecture,
    Engine: [engine, device, precision].filter(Boolean).join(", "),
    "Input size": size === null ? "that of each image" : size && sizeText(size),
    "Exported by": Object.entries(versions ?? {}).filter(([, of]) => of).map((pair) => pair.join("\u00a0")).join(", "),
    Thresholds: least === most ? thresholdText(least) : `${thresholdText(least)} to ${thresholdText(most)}, by\u00a0class`,
  };
  const known = Object.entries(facts).filter(([, text]) => text);
  $("facts").replaceChildren(...known.flatMap(([key, text]) => [element("dt", key), element("dd", text)]));
  const short = (text) => (text.length > 30 ? `${text.slice(0, 29)}\u2026` : text);
  const first = classes.slice(0, FIRST_CLASSES).map((one) => short(one.name));
  if (classes.length > FIRST_CLASSES) first.push("\u2026");
  $("names-first").textContent = `${classes.length} ${classes.length === 1 ? "class" : "classes"}: ${first.join(", ")}`;
  $("names-all").replaceChildren(...classes.map((one) => {
    const line = element("li", one.name);
    if (least !== most) line.append(element("span", ` from ${thresholdText(rounded(one.threshold))}`, "muted"));
    return line;
  }));
  $("about").hidden = $("own-row").hidden = false;
  $("own-text").textContent = least === most ? `The model's own, ${thresholdText(least)}` : "The model's own for each class";
  $("own").checked = true;
  followModel();
}

// The slider stands where the model's own number is, if it has only one.
function followModel() {
  if ($("own").checked && !isByClass()) [$("threshold").value] = thresholdRange();
}
