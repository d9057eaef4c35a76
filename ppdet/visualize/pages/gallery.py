"""A gallery of pictures that can be filtered by class, kind and score, and enlarged."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ppdet.visualize.pages.markup import Html, element

THUMBNAIL = 480  # pixels of the longer side; the browser shows it smaller, and enlarges it on a click
SHOWN = 280  # pixels of its longer side in the gallery
QUALITY = 80  # of JPEG


class Tag(NamedTuple):
    """Something in a picture that a filter finds, such as a box: its class, its kind (as an error), and its score."""

    class_name: str = ""
    kind: str = ""
    score: float | None = None


class Picture(NamedTuple):
    """A picture of a gallery.

    name: the file's name. panels: a caption, which may be empty, and an image (H, W, 3) uint8 RGB, for each of the
    images that stand side by side; boxes are drawn already, best on `thumbnail(image)`. tags: what filters find.
    caption: a line below the name.
    """

    name: str
    panels: Sequence[tuple[str, np.ndarray]]
    tags: Sequence[Tag] = ()
    caption: str = ""


def thumbnail(image_rgb: np.ndarray, longest: int = THUMBNAIL) -> tuple[np.ndarray, float]:
    """The image (H, W, 3) uint8, made smaller if it is larger, and the scale, by which its boxes shrink too."""
    height, width = image_rgb.shape[:2]
    scale = min(1.0, longest / max(height, width))
    if scale == 1:
        return image_rgb, scale
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), scale


def shrinks(image_rgb: np.ndarray) -> float:
    """By how much the gallery shows an image (H, W, 3) smaller, at least 1; see `draw_boxes`."""
    return max(1.0, min(max(image_rgb.shape[:2]), THUMBNAIL) / SHOWN)


def data_uri(image_rgb: np.ndarray) -> str:
    """The image (H, W, 3) uint8 as JPEG in a data URI, at most as large as a thumbnail."""
    small, _ = thumbnail(image_rgb)
    _, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def gallery(pictures: Iterable[Picture], kind_title: str = "kind", score_title: str = "score") -> Html:
    """The pictures in a grid. Controls appear for the classes, kinds and scores that differ between tags.

    A picture is shown if one of its tags has the chosen class and the chosen kind and a score within the chosen range.

    Args:
        kind_title, score_title: what `Tag.kind` and `Tag.score` are called.
    """
    pictures = list(pictures)
    tags = [tag for picture in pictures for tag in picture.tags]
    classes = sorted({tag.class_name for tag in tags} - {""})
    kinds = sorted({tag.kind for tag in tags} - {""})
    controls = [_choice("class", classes, "class"), _choice("kind", kinds, kind_title)]
    if len({tag.score for tag in tags} - {None}) > 1:
        controls += [
            _number("least", f"least {score_title}", 0),
            _number("most", f"highest {score_title}", 1),
        ]
    bar = ""
    if any(controls):
        count = element("output", f"{len(pictures)} of {len(pictures)} pictures", class_="count", aria_live="polite")
        bar = element("form", *controls, count, class_="filters")
    cards = [_card(picture, classes, kinds) for picture in pictures]
    is_wide = any(len(picture.panels) > 1 for picture in pictures)
    return element(
        "div", bar, element("ul", *cards, class_="pictures"), class_="gallery pairs" if is_wide else "gallery"
    )


def _choice(role: str, names: Sequence[str], title: str) -> Html:
    """A list to choose one of the names from; nothing if there is no choice."""
    if len(names) < 2:
        return Html("")
    options = [element("option", name, value=index) for index, name in enumerate(names)]
    return element("label", title, element("select", element("option", "all", value=""), *options, data_role=role))


def _number(role: str, title: str, value: int) -> Html:
    field = element("input", type="number", min=0, max=1, step="any", value=value, data_role=role)
    return element("label", title, field)


def _card(picture: Picture, classes: Sequence[str], kinds: Sequence[str]) -> Html:
    """One picture: a button that enlarges it, with its name and caption. Tags are indices of classes and kinds."""
    tags = [
        [
            classes.index(tag.class_name) if tag.class_name else None,
            kinds.index(tag.kind) if tag.kind else None,
            None if tag.score is None else round(float(tag.score), 4),
        ]
        for tag in picture.tags
    ]
    panels = []
    for caption, image in picture.panels:
        height, width = image.shape[:2]
        text = f"{caption}: {picture.name}" if caption else picture.name
        shown = element("img", src=data_uri(image), alt=text, width=width, height=height, decoding="async")
        panels.append(element("span", shown, element("small", caption) if caption else "", class_="panel"))
    button = element("button", *panels, type="button", class_="panels", aria_label=f"enlarge {picture.name}")
    caption = element("span", picture.caption, class_="muted") if picture.caption else ""
    tags_text = json.dumps(tags, separators=(",", ":"))
    return element("li", button, element("strong", picture.name), caption, data_tags=tags_text)
