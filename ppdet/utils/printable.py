"""Text from outside, made fit for a terminal, a log and a report.

Names in weights, keys of YAML files, class names, file names and messages of libraries may hold control characters. A
terminal obeys some of them: they hide text, change the window's title or write to the clipboard. A line break in a name
would forge a line of the log.
"""

import unicodedata

# Control and format characters (bidirectional overrides, zero width), lone surrogates, separators of lines.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    r"""Return str(text) in one line, with a visible escape such as \x1b or \u202e for each character that is not shown.

    These are control characters including tab and line breaks, characters that reorder text, those without width, and
    lone surrogates (bytes of file names that are not UTF-8). Backslashes stay: escaping the result changes nothing.
    """
    return _escaped(str(text), "")


def printable_lines(text: object) -> str:
    """Return the same as `printable`, but keep tabs and line feeds, which texts of our own have: tables and usages."""
    return _escaped(str(text), "\t\n")


def quoted(text: str, most: int = 60) -> str:
    """Return repr(text); a text of more than `most` characters ends after these with "…", within the quotes."""
    return repr(text if len(text) <= most else f"{text[:most]}…")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image", "2 images" or "3,200 images"."""
    plural = "es" if noun.endswith(("x", "s")) else "s"
    return f"{number:,} {noun}{plural * (number != 1)}"


def columns(text: str) -> int:
    """Return how many columns of a terminal a printable text takes: two for a wide character, as those of Chinese."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def padded(text: str, width: int) -> str:
    """Return a printable text with spaces behind it, so that it takes at least `width` columns of a terminal."""
    return text + " " * (width - columns(text))


def _escaped(text: str, kept: str) -> str:
    if text.isprintable():  # all characters of the categories above are not
        return text
    return "".join(
        _escape(character) if _is_hidden(character) and character not in kept and not _joins(text, index) else character
        for index, character in enumerate(text)
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _joins(text: str, index: int) -> bool:
    """Whether a character joins two letters or emoji: those of Persian and Indic words, and of families of emoji."""
    around = text[max(0, index - 1) : index] + text[index + 1 : index + 2]
    return text[index] in _JOINERS and len(around) == 2 and around.isprintable() and min(around) > "\x7f"


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode() if character > "\x7f" else ascii(character)[1:-1]
