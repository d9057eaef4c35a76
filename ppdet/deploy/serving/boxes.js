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

// This canvas has the pixels of the screen, however large the image is, so that lines and letters are sharp.
function drawBoxes(canvas, image, shown) {
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * density));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * density));
  const context = canvas.getContext("2d");
  const scale = { x: canvas.width / image.width, y: canvas.height / image.height };
  const line = 2 * density;
  // Boxes with high scores come last, on top; all labels lie on all boxes.
  const ordered = [...shown].reverse();
  for (const one of ordered) drawBox(context, one, scale, line);
  for (const one of ordered) drawLabel(context, one, scale, line, density);
}

// The line lies within the picture where the box touches its edges.
function drawBox(context, one, scale, line) {
  const { width, height } = context.canvas;
  const within = (value, most) => Math.max(line / 2, Math.min(value, most - line / 2));
  const [x1, x2] = [one.box[0], one.box[2]].map((x) => within(x * scale.x, width));
  const [y1, y2] = [one.box[1], one.box[3]].map((y) => within(y * scale.y, height));
  context.lineWidth = line;
  context.strokeStyle = css(color(one.class));
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

// Above the box if there is room, else in it; always within the picture.
function drawLabel(context, one, scale, line, density) {
  const font = 13 * density;
  context.font = `600 ${font}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const pad = font * 0.35;
  // A long name may be as wide as its box, or as a usual label, so that it does not hide other boxes.
  const room = Math.max((one.box[2] - one.box[0]) * scale.x, LABEL_WIDTH * density);
  const text = fitted(context, one, Math.min(room, context.canvas.width) - 2 * pad);
  const width = Math.min(context.measureText(text).width + 2 * pad, context.canvas.width);
  const height = Math.min(font * 1.45, context.canvas.height);
  const [x, y] = [one.box[0] * scale.x, one.box[1] * scale.y];
  const left = Math.max(0, Math.min(x - line / 2, context.canvas.width - width));
  const top = Math.max(0, Math.min(y >= height ? y - height : y, context.canvas.height - height));
  const rgb = color(one.class);
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
