"""Names of settings and options in other tools (MMDetection, Detectron2, Ultralytics, …), and their names here."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ppdet.core.settings import SETTINGS
from ppdet.utils.disk.files import read_text


class Synonym(NamedTuple):
    """The meaning of some names of other tools.

    Attributes:
        names: names in lower case, separated by spaces. A name with dots is matched as a whole, and any name also as
            the last part of a longer one: "lr" matches "optim_wrapper.optimizer.lr".
        keys: dotted keys of the configuration; the first is the one to set, the others are related.
        option: option of `ppdet train` that does it.
        note: what else the user should know.
        scheduler: the component in LearningRate.schedulers that has the parameter. Its index in `keys` is the one in
            most configurations; the answer names the one in the user's.
    """

    names: str
    keys: Sequence[str] = ()
    option: str = ""
    note: str = ""
    scheduler: str = ""

    def __str__(self) -> str:
        places = [*self.keys[:1], *([f"the option {self.option} of ppdet train"] if self.option else [])]
        also = f", also {', '.join(self.keys[1:])}" if self.keys[1:] else ""
        answer = f"use {' or '.join(places)}{also}" if places else "there is no such setting here"
        return f"{answer} ({self.note})" if self.note else answer


@functools.cache
def synonyms() -> dict[str, Synonym]:
    """Return the meaning of each name in synonyms.yml."""
    import yaml  # not needed for --help

    rows = [Synonym(**row) for row in yaml.safe_load(read_text(Path(__file__).with_suffix(".yml")))]
    return {name: row for row in rows for name in row.names.split()}


def synonym(key: str) -> Synonym | None:
    """Return the meaning of another tool's name or dotted key; None if it is unknown.

    Its last two parts are looked up first, then its last one; imgSize is looked up as img_size too.
    """
    written = key.strip("-").replace("-", "_")
    for spelling in (written, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written)):
        parts = spelling.lower().split(".")
        for name in (".".join(parts[-2:]), parts[-1]):
            if name in synonyms():
                return synonyms()[name]
    last = written.lower().rpartition(".")
    return Synonym(key, (last[2],)) if last[0] and last[2] in SETTINGS else None
