"""A case: files in a folder, and what is done with them."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Link(NamedTuple):
    """A symbolic link; `target` is relative to the link's folder, or absolute."""

    target: str


class Special(NamedTuple):
    """Something that is no regular file: "fifo", "socket" or "folder"."""

    what: str


Content = bytes | Link | Special


class Case(NamedTuple):
    """A case.

    Attributes:
        subject: what is done, a key of the kind's `SUBJECTS`.
        files: content by path, relative to the folder of the case.
        arguments: what the subject is given besides the folder.
        made: how the case was made, in a few words.
    """

    subject: str
    files: Mapping[str, Content]
    arguments: Mapping[str, Any]
    made: str


class Declined(str):
    """The words of a subject that has refused a case in another way than by an exception, such as status 400."""


class Kind(NamedTuple):
    """A kind of input.

    Attributes:
        build: makes a case from random decisions; the same decisions make the same case.
        subjects: what can be done with a case: functions that take the case. They raise nothing but what a command
            turns into one line, and they return words for the statistics, or None.
        prepare: called once in every worker process, with a folder of its own.
        close: called when the worker process ends.
        network: what happens to connections to other machines: "none" may be tried, they are "refused", or "allowed".
        memory: most bytes that a case may add to the process, beyond those of its files.
        processor_s: most seconds of processor time of a case, if this is less than the harness allows to all kinds.
    """

    build: Callable[..., Case]
    subjects: Mapping[str, Callable[[Case], Any]]
    prepare: Callable[[Path], None] = lambda folder: None
    close: Callable[[], None] = lambda: None
    network: str = "none"
    memory: int = 512 * 2**20
    processor_s: float = float("inf")


def write_files(case: Case, folder: Path) -> None:
    """Write the files of a case into a folder that exists. What this system cannot write is left out."""
    for name, content in case.files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                path.symlink_to(content.target)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif content.what == "folder":
                path.mkdir()
            elif content.what == "fifo":
                os.mkfifo(path)
            else:
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(name)  # relative: the length of such paths is limited
        except (OSError, ValueError, AttributeError):
            continue
