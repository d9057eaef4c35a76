"""Finds entries of survivors.yml about lines that no longer exist."""

from collections.abc import Iterable
from pathlib import Path


def stale(mutants: Iterable[str], root: Path) -> list[str]:
    """Those of "file: lines before -> lines after" whose file, or whose lines before, are gone."""
    return [mutant for mutant in mutants if not is_there(mutant, root)]


def is_there(mutant: str, root: Path) -> bool:
    file, _, change = mutant.partition(": ")
    if not (root / file).is_file():
        return False
    lines = [" ".join(line.split()) for line in (root / file).read_text(encoding="utf-8").splitlines()]
    # An arrow may be in the lines themselves.
    parts = change.split(" -> ")
    return any(has(lines, " -> ".join(parts[:count])) for count in range(1, len(parts)))


def has(lines: list[str], before: str) -> bool:
    """Whether `before` is whole lines, one after the other, with a space for what is between them."""
    for first in range(len(lines)):
        text = ""
        for line in lines[first:]:
            text = f"{text} {line}".strip()
            if text == before:
                return True
            if not before.startswith(text):
                break
    return False
