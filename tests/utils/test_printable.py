"""Text from outside is shown in one line, and names in all languages stay readable."""

import unicodedata

import pytest

from ppdet.utils.printable import columns, padded, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),  # writes to a terminal's clipboard
        ("cat\n[2026-01-01 00:00:00] [INFO] dog", r"cat\n[2026-01-01 00:00:00] [INFO] dog"),
        ("a\tb\rc\x00\x08\x7f", r"a\tb\rc\x00\x08\x7f"),
        ("\x85\x9b31m", r"\x85\x9b31m"),
        ("photo\u202egpj.exe\u2066\u2069", r"photo\u202egpj.exe\u2066\u2069"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\ufeffa\u200bb\u2060c\u00ad", r"\ufeffa\u200bb\u2060c\xad"),
        ("p\u200dp\u200c", r"p\u200dp\u200c"),
        ("\U000e0041", r"\U000e0041"),
        (b"a\xffb".decode("utf-8", "surrogateescape"), r"a\udcffb"),
        (ValueError("x\x1b"), r"x\x1b"),
    ],
)
def test_what_is_not_shown_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "name",
    [
        *("größe", "安全帽", "\u3000全角", "можно", "हिन्दी", "❤️", r"C:\new", "'\"$%s{}"),
        *("क्\u200dष", "می\u200cگیم", "👨\u200d👩\u200d👧"),
    ],
)
def test_names_stay(name):
    assert printable(name) == printable_lines(name) == name


def test_every_control_character_of_unicode_is_escaped():
    for number in range(0x110000):
        character = chr(number)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            shown = printable(f"a{character}b")
            assert shown.isprintable() and shown != "ab" and eval(f'"{shown}"') == f"a{character}b"


def test_lines_of_our_own_stay():
    assert printable_lines("a\n\tb\r\n\x1b") == "a\n\tb\\r\n\\x1b"


@pytest.mark.parametrize(("text", "expected"), [("red", 3), ("红细胞", 6), ("ｱｱ", 2), ("\uff21", 2), ("e\u0301", 1)])
def test_columns_of_wide_characters(text, expected):
    """By Unicode's East Asian Width, as terminals draw them: full-width forms take two columns, half-width ones one."""
    assert columns(text) == expected
    assert padded(text, 8) == text + " " * (8 - expected) and padded(text, 0) == text
