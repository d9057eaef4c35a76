"""Text in pictures. OpenCV 4 can only draw ASCII; Pillow draws all other text."""

import contextlib
import functools
import unicodedata
from collections.abc import Iterator, Sequence

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
    left, top, right, bottom = map(round, font_for(text, scale).getbbox(text, anchor="ls"))
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
    ImageDraw.Draw(picture).text(origin, text, color, font_for(text, scale), anchor="ls")
    image[:] = np.asarray(picture)


def is_legible(text: str) -> bool:
    """Whether a font on this machine has all characters of the text."""
    return text.isascii() or font_path(text) is not None


def font_for(text: str, scale: float) -> ImageFont.FreeTypeFont:
    """A font as large as OpenCV's at this scale. Characters that no font has are drawn as boxes."""
    return load_font(font_path(text) or next(font_files()), max(8, round(PIXELS * scale)))


@functools.lru_cache(maxsize=64)
def load_font(path: str, pixels: int) -> ImageFont.FreeTypeFont:
    """A font from its file."""
    return ImageFont.truetype(path, pixels)


@functools.lru_cache(maxsize=4096)
def font_path(text: str) -> str | None:
    """The first font file that has all characters of the text; None if no font does."""
    # Control characters and direction marks have no glyphs.
    needed = {ord(character) for character in text if unicodedata.category(character) not in ("Cc", "Cf")}
    return next((path for path in font_files() if needed <= characters(path)), None)


def font_files() -> Iterator[str]:
    """Font files: Noto Sans CJK (Chinese, Japanese, Korean, Greek, Cyrillic, Latin), Matplotlib's, the system's."""
    from cvttf_NotoSansCJK_Regular import get_TTF_path

    yield get_TTF_path()
    from matplotlib import font_manager

    # Matplotlib's font of last resort has a glyph for every character, a box with the name of the script: skip it.
    yield from sorted({font.fname for font in font_manager.fontManager.ttflist if "LastResort" not in font.fname})


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


@functools.lru_cache(maxsize=256)
def characters(path: str) -> frozenset[int]:
    """The code points for which a font file has glyphs; none if it cannot be read."""
    from fontTools.ttLib import TTFont

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # fontTools raises all kinds of errors for damaged files
        return frozenset()


def legend(width: int, entries: Sequence[str], colors: Sequence[Color] = ()) -> np.ndarray:
    """Return a picture (H, width, 3) uint8 RGB of lines of text, with as many entries per line as fit.

    Each has a dot in front of it if there are colors.
    """
    indent = 26 if colors else 14
    entry_width = indent + 4 + max(text_size(entry, 0.5, 1)[0] for entry in entries)
    per_line = max(1, (width - 10) // entry_width)
    lines = -(-len(entries) // per_line)
    picture = np.full((lines * 24 + 8, width, 3), 255, np.uint8)
    for number, entry in enumerate(entries):
        x, y = (number % per_line) * entry_width, 16 + (number // per_line) * 24
        if colors:
            cv2.circle(picture, (x + 14, y), 6, colors[number % len(colors)], cv2.FILLED, cv2.LINE_AA)
        put_text(picture, entry, (x + indent, y + 5), 0.5, (0, 0, 0), 1)
    return picture
