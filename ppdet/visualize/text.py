"""Text in pictures. OpenCV 4 can only draw ASCII; Pillow draws all other text."""

import contextlib
import functools
import unicodedata
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = cv2.FONT_HERSHEY_SIMPLEX
PIXELS = 30  # size of a Pillow font that looks as large as OpenCV's at scale 1
Color = tuple[int, int, int]  # RGB


def text_size(text: str, scale: float, line: int) -> tuple[int, int, int]:
    """The width of a text, its height above the baseline, and its height below the baseline, in pixels.

    Args:
        scale: size of OpenCV's font, for example 0.5.
        line: width of the font's lines in pixels.
    """
    if text.isascii():
        (width, height), below = cv2.getTextSize(text, FONT, scale, line)
        return width, height, below
    left, top, right, bottom = map(round, font_for(scale).getbbox(text, anchor="ls"))
    return right - left, -top, max(0, bottom)


def put_text(image: np.ndarray, text: str, origin: tuple[int, int], scale: float, color: Color, line: int) -> None:
    """Draw a text into an image (H, W, 3) uint8.

    Args:
        origin: x and y of the left end of the text's baseline.
        scale, line: see `text_size`.
    """
    if text.isascii():
        cv2.putText(image, text, origin, FONT, scale, color, line, cv2.LINE_AA)
        return
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text(origin, text, color, font_for(scale), anchor="ls")
    image[:] = np.asarray(picture)


def is_legible(text: str) -> bool:
    """Whether the font has all characters of the text. Other scripts, such as Arabic, are not drawn."""
    # Control characters and direction marks have no glyphs.
    needed = {ord(character) for character in text if unicodedata.category(character) not in ("Cc", "Cf")}
    return text.isascii() or needed <= characters()


@functools.lru_cache(maxsize=64)
def font_for(scale: float) -> ImageFont.FreeTypeFont:
    """Noto Sans CJK (Chinese, Japanese, Korean, Greek, Cyrillic, Latin), as large as OpenCV's font at this scale."""
    from cvttf_NotoSansCJK_Regular import get_TTF_path

    return ImageFont.truetype(get_TTF_path(), max(8, round(PIXELS * scale)))


@functools.cache
def characters() -> frozenset[int]:
    """The code points for which the font has glyphs."""
    from cvttf_NotoSansCJK_Regular import get_TTF_path
    from fontTools.ttLib import TTFont

    with TTFont(get_TTF_path(), fontNumber=0, lazy=True) as font:
        return frozenset(font.getBestCmap())


@contextlib.contextmanager
def matplotlib_fonts() -> Iterator[None]:
    """A context in which the text of Matplotlib's figures can have all characters of Noto Sans CJK."""
    import matplotlib
    from cvttf_NotoSansCJK_Regular import get_TTF_path
    from matplotlib import font_manager

    font_manager.fontManager.addfont(get_TTF_path())
    name = font_manager.FontProperties(fname=get_TTF_path()).get_name()
    with matplotlib.rc_context({"font.family": ["DejaVu Sans", name]}):
        yield
