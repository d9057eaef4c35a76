"use strict";

// The server draws with the same colors: steps of the golden ratio around the color circle give each class its own hue.
// Red, green and blue, from 0 to 255.
function color(index) {
  const hue = ((0.02 + index * 0.61803398875) % 1) * 6;
  const [saturation, value] = [[0.85, 0.95], [0.55, 1], [1, 0.7]][Math.floor(index / 12) % 3];
  const channel = (offset) => {
    const place = (offset + hue) % 6;
    return Math.floor(255 * value * (1 - saturation * Math.max(0, Math.min(place, 4 - place, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

const css = (rgb) => `rgb(${rgb.join(" ")})`;

// Black or white, whichever has more contrast by WCAG's definition, which is 4.58 at least on every color.
function ink(rgb) {
  const linear = rgb.map((value) => value / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return (luminance + 0.05) ** 2 > 1.05 * 0.05 ? [0, 0, 0] : [255, 255, 255];
}

// Width in pixels of the page that each label may have, even if its box is narrower.
const LABEL_WIDTH = 220;

// Rounded down: 0.498, which the slider hides at 0.50, must not be called 0.50. The server sends five decimals.
const scoreText = (score) => (Math.floor(score * 100 + 1e-6) / 100).toFixed(2);

const labelOf = (one) => `${one.name} ${scoreText(one.score)}`;

// Browsers draw nothing on canvases that are much larger.
const CANVAS_SIDE = 8192;

// The share of the picture that labels may cover together: of many, those with the highest scores are written.
const LABEL_SHARE = 1 / 3;

// This canvas has the pixels of the screen, however large the image is, so that lines and letters are sharp.
// Returns how many of the boxes, which are sorted by score, have no label, because there is no room for it.
function drawBoxes(canvas, image, shown) {
  const sides = [canvas.clientWidth, canvas.clientHeight];
  const density = Math.min(window.devicePixelRatio || 1, CANVAS_SIDE / Math.max(...sides, 1));
  [canvas.width, canvas.height] = sides.map((side) => Math.max(1, Math.round(side * density)));
  const context = canvas.getContext("2d");
  const scale = { x: canvas.width / image.width, y: canvas.height / image.height };
  const edge = Math.max(1, Math.round(density)); // width of each of the two lines beside the colored one
  const boxes = shown.map((one) => ({ ...one, sides: sidesOf(one.box, canvas, scale, edge) }));
  // Boxes with high scores come last, on top; all labels lie on all boxes.
  for (const one of [...boxes].reverse()) drawBox(context, one, edge);
  const labels = placeLabels(context, boxes, density, edge);
  for (const label of labels) drawLabel(context, label);
  return shown.length - labels.length;
}

// A box in pixels of the canvas: its lines lie within the picture where the box touches its edges.
function sidesOf(box, canvas, scale, edge) {
  const within = (value, size) => Math.round(Math.max(2 * edge, Math.min(value, size - 2 * edge)));
  return [0, 1, 2, 3].map((i) => (i % 2 ? within(box[i] * scale.y, canvas.height) : within(box[i] * scale.x, canvas.width)));
}

// A dark line around the colored one and a light line in it: one of the two can be seen on every picture.
function drawBox(context, one, edge) {
  const [x1, y1, x2, y2] = one.sides;
  for (const [style, width, inward] of [
    ["black", edge, -1.5 * edge], ["white", edge, 1.5 * edge], [css(color(one.class)), 2 * edge, 0],
  ]) {
    const by = Math.min(inward, (x2 - x1) / 2, (y2 - y1) / 2);
    context.lineWidth = width;
    context.strokeStyle = style;
    context.strokeRect(x1 + by, y1 + by, x2 - x1 - 2 * by, y2 - y1 - 2 * by);
  }
}

// The places of the labels, within the picture: above the box, else in it, else below it, else in it at its lower end, and
// at its left side, else at its right one. A label that would lie on that of a higher score at all of these places is
// left out, and so are those that would hide too much of the picture.
function placeLabels(context, boxes, density, edge) {
  const { width: across, height: down } = context.canvas;
  const font = 13 * density;
  const pad = font * 0.35;
  context.font = `600 ${font}px system-ui, sans-serif`;
  const height = Math.min(font * 1.45, down);
  const placed = [];
  let area = LABEL_SHARE * across * down;
  for (const one of boxes) {
    const [x1, y1, x2, y2] = one.sides;
    // A long name may be as wide as its box, or as a usual label, so that it does not hide other boxes.
    const text = fitted(context, one, Math.min(Math.max(x2 - x1, LABEL_WIDTH * density), across) - 2 * pad);
    const width = Math.min(context.measureText(text).width + 2 * pad, across);
    if (placed.length && width * height > area) continue;
    const within = (left) => Math.max(0, Math.min(left, across - width));
    const free = ([left, top]) => top >= 0 && top + height <= down && !placed.some((other) =>
      left < other.left + other.width && other.left < left + width && top < other.top + height && other.top < top + height);
    const sides = [within(x1 - 2 * edge), within(x2 + 2 * edge - width)];
    const places = sides.flatMap((left) => [y1 - height, y1, y2, y2 - height].map((top) => [left, top]));
    const [left, top] = places.find(free) ?? (placed.length ? [] : [sides[0], Math.max(0, Math.min(y1, down - height))]);
    if (top === undefined) continue;
    placed.push({ text, left, top, width, height, pad, rgb: color(one.class) });
    area -= width * height;
  }
  return placed;
}

function drawLabel(context, { text, left, top, width, height, pad, rgb }) {
  context.textBaseline = "middle";
  context.fillStyle = css(rgb);
  context.fillRect(left, top, width, height);
  context.fillStyle = css(ink(rgb));
  context.fillText(text, left + pad, top + height / 2);
}

// The label, whose name is cut short if it is wider than `room`; then only the score remains, which is enough.
function fitted(context, one, room) {
  const fits = (text) => context.measureText(text).width <= room;
  if (fits(labelOf(one))) return labelOf(one);
  const letters = [...one.name];
  const score = scoreText(one.score);
  let [least, most] = [0, letters.length - 1]; // so many letters fit, and so many may
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (fits(`${letters.slice(0, middle).join("")}\u2026 ${score}`)) least = middle;
    else most = middle - 1;
  }
  return least ? `${letters.slice(0, least).join("").trimEnd()}\u2026 ${score}` : score;
}
