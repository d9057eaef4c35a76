"""Boxes and labels that the page draws, in a real browser: where they lie, and that they can be read."""

import itertools
import random
import re

import pytest

from ppdet.visualize.box_drawing import text_color
from ppdet.visualize.draw import class_color

LONG = "a class name that says in many words what was seen, more than anybody would like to read on a small screen"
CORNERS = {
    "left": [0, 0, 0.2, 0.2],
    "right": [0.9, -0.1, 1.0, 0.2],
    "below": [0, 0.9, 0.1, 1.1],
    "corner": [0.97, 0.97, 1.0, 1.0],
    "all": [0, 0, 1, 1],
    LONG: [0.5, 0.4, 0.7, 0.6],
    "\u5bb6\U0001f600" * 60: [0.3, 0.7, 0.35, 0.75],
    "": [0.6, 0.1, 0.7, 0.3],
}
# Shows an answer with these boxes, and notes what is painted on the canvas of the boxes, in its pixels.
PAINT = """([width, height, boxes]) => {
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [width, height];
  const detections = Object.entries(boxes).map(([name, box], index) => ({
    class: index, name, category_id: index, score: 0.9 - 0.05 * index / Object.keys(boxes).length,
    box: [box[0] * width, box[1] * height, box[2] * width, box[3] * height] }));
  const noted = { boxes: [], labels: [], texts: [] };
  const own = CanvasRenderingContext2D.prototype;
  const { strokeRect, fillRect, fillText } = own;
  own.strokeRect = function (x, y, w, h) { noted.boxes.push([x, y, w, h, this.lineWidth]); };
  own.fillRect = function (x, y, w, h) { noted.labels.push([x, y, w, h]); };
  own.fillText = function (text, x) { noted.texts.push([text, x, this.measureText(text).width]); };
  const timing_ms = { prepare: 1, queue: 1, inference: 1, total: 3 };
  show(picture, { image: { width, height }, detections, batch_size: 1, timing_ms, roundTrip: 5 });
  Object.assign(own, { strokeRect, fillRect, fillText });
  const frame = document.getElementById("frame").getBoundingClientRect();
  const canvas = document.getElementById("boxes");
  return { ...noted, frame: [frame.width, frame.height], canvas: [canvas.width, canvas.height],
    unlabeled: document.getElementById("unlabeled").textContent,
    overflow: document.documentElement.scrollWidth - window.innerWidth };
}"""


def test_boxes_and_labels_lie_in_the_picture_on_every_screen(page):
    """With boxes at all edges, long names, small, large, thin images; and small images are shown enlarged."""
    for width, height in ((390, 844), (1280, 900)):
        page.set_viewport_size({"width": width, "height": height})
        for size in ((100, 80), (4000, 3000), (40, 300), (1, 1), (3000, 60), (60, 3000)):
            found = page.evaluate(PAINT, [*size, CORNERS])
            case = (width, size)
            assert found["overflow"] <= 0, case
            shown_width, shown_height = found["frame"]
            assert shown_width / shown_height == pytest.approx(size[0] / size[1], rel=0.02), case
            # As wide as the place, or as high as most of the window; a long, thin image scrolls in its place.
            fits = shown_height == pytest.approx(0.8 * height, abs=2) or shown_width > (300 if width == 390 else 800)
            assert fits or shown_width == pytest.approx(120, abs=2) or shown_height == pytest.approx(4000, abs=2), case
            assert min(shown_width, shown_height) > 79, case
            right, bottom = found["canvas"]
            assert (right, bottom) == pytest.approx((shown_width, shown_height), abs=1), case
            assert len(found["boxes"]) == 3 * len(CORNERS)
            assert all(inside(box, box[4] / 2, right, bottom) for box in found["boxes"]), case
            check_labels(found, len(CORNERS), right, bottom)
            texts = [text for text, *_ in found["texts"]]
            assert not any(LONG in text for text in texts)
            assert any(text.startswith("a class name") and "\u2026 0.8" in text for text in texts) or size != (
                4000,
                3000,
            )


def test_boxes_at_the_edges_have_their_labels_whatever_lies_beside_them(page):
    """A box around all of the image had none when another one began in the same corner."""
    boxes = {
        "top left": [0, 0, 0.2, 0.2],
        "right": [0.85, 0.3, 1, 0.5],
        "bottom": [0.4, 0.85, 0.6, 1],
        "corner": [0.9, 0.9, 1, 1],
        "whole": [0, 0, 1, 1],
    }
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        found = page.evaluate(PAINT, [640, 480, boxes])
        check_labels(found, 5, *found["canvas"])
        assert [text.rsplit(" ", 1)[0] for text, *_ in found["texts"]] == list(boxes), width


def inside(rectangle, margin, right, bottom):
    x, y, width, height = rectangle[:4]
    lies = x >= margin - 1e-6 and y >= margin - 1e-6 and width >= 0 and height >= 0
    return lies and x + width <= right - margin + 1e-6 and y + height <= bottom - margin + 1e-6


def check_labels(found, boxes, right, bottom):
    """Labels lie in the picture and not on each other, hide a third of it at most, and can be read."""
    labels = found["labels"]
    assert 1 <= len(labels) == len(found["texts"])
    assert found["unlabeled"].startswith(f"{boxes - len(labels)} of them without a label")
    assert len(labels) == 1 or sum(w * h for _, _, w, h in labels) <= right * bottom / 3
    for (x, y, w, h), (text, start, length) in zip(labels, found["texts"]):
        assert inside((x, y, w, h), 0, right, bottom)
        assert x < start and start + length < x + w and re.search(r"0\.\d\d$", text), text
    for index, (x, y, w, h) in enumerate(labels):
        for x2, y2, w2, h2 in labels[:index]:
            assert not (x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h)


def test_labels_of_many_boxes_leave_the_picture_to_be_seen(page):
    """300 labels covered it, each other too; the boxes with the highest scores have theirs."""
    generator = random.Random(0)
    corners = [(generator.uniform(0, 0.8), generator.uniform(0, 0.8)) for _ in range(300)]
    boxes = {f"class {i}": [x, y, x + 0.1, y + 0.1] for i, (x, y) in enumerate(corners)}
    for width, least in ((390, 5), (1280, 30)):
        page.set_viewport_size({"width": width, "height": 844})
        found = page.evaluate(PAINT, [640, 480, boxes])
        check_labels(found, 300, *found["canvas"])
        assert len(found["labels"]) >= least and found["texts"][0][0].startswith("class 0 ")


def test_boxes_can_be_seen_on_every_picture(page):
    """Blue on blue could not: of the lines of a box, one has the contrast of WCAG's level AA on any ground."""
    read = """() => {
      const canvas = document.createElement("canvas");
      document.body.append(canvas);
      drawBoxes(canvas, { width: canvas.clientWidth, height: canvas.clientHeight },
        [{ class: 1, name: "a", score: 0.5, box: [100, 20, 200, 100] }]);
      return [...Array(8).keys()].map((x) => [...canvas.getContext("2d").getImageData(96 + x, 60, 1, 1).data]);
    }"""
    pixels = page.evaluate(read)
    own = [*class_color(1), 255]
    assert pixels == [[0] * 4] * 2 + [[0, 0, 0, 255], own, own, [255] * 4] + [[0] * 4] * 2
    for ground in itertools.product(range(0, 256, 15), repeat=3):
        assert max(contrast(ground, line[:3]) for line in pixels[2:6]) >= 4.5, ground


def test_no_label_claims_a_score_that_the_slider_denies(page):
    """0.49790 was labeled 0.50 at a slider of 0.49, and hidden at 0.50."""
    texts = page.evaluate("() => [...Array(100001).keys()].map((score) => labelOf({ name: 'a', score: score / 1e5 }))")
    assert texts == [f"a {score // 1000 // 100}.{score // 1000 % 100:02}" for score in range(100001)]


def test_labels_can_be_read_on_every_color(page):
    """The page has the server's colors, and its black or white text has the contrast of WCAG's level AA."""
    grounds, texts = page.evaluate(
        "() => { const all = [...Array(400).keys()].map(color); return [all, all.map(ink)]; }"
    )
    assert [tuple(ground) for ground in grounds] == [class_color(index) for index in range(400)]
    assert [tuple(text) for text in texts] == [text_color(tuple(ground)) for ground in grounds]
    assert min(contrast(ground, text) for ground, text in zip(grounds, texts)) >= 4.5


def test_text_can_be_read_in_both_color_schemes(page):
    pairs = [("ink", "ground"), ("ink", "card"), ("soft", "ground"), ("soft", "card"), ("on-accent", "accent"),
             ("error", "error-ground"), ("accent", "card"), ("accent", "ground")]  # fmt: skip
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        read = "name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
        for names in pairs:
            colors = [page.evaluate(read, name).lstrip("#") for name in names]
            full = [text if len(text) == 6 else "".join(letter + letter for letter in text) for text in colors]
            assert contrast(*(bytes.fromhex(text) for text in full)) >= 4.5, (scheme, names)


def contrast(one, other):
    """The ratio of WCAG 2.2, from 1 to 21."""
    dark, light = sorted(
        sum(
            weight * (value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4)
            for weight, value in zip((0.2126, 0.7152, 0.0722), color)
        )
        for color in (one, other)
    )
    return (light + 0.05) / (dark + 0.05)
