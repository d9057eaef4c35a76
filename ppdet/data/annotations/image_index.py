"""Finding the image files that annotation files name, wherever the tool or the user has put them.

Only files below the folders that the user named are found. A name is compared with their paths, never opened, so that
`../../secret.jpg` or `/etc/passwd` in a stranger's file leads nowhere.
"""

import itertools
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ppdet.data.annotations.labeled_set import LabeledImage
from ppdet.utils.disk.images import files_below, is_image_name, is_within

UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file

UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".dng")
UNREAD_FORMAT = "images in a format that is not read left out: convert them to JPEG or PNG"


class ImageIndex:
    """The files below the folder that is converted, and the image files below another one.

    Args:
        root: the folder that is converted.
        image_dir: another folder in which images are looked for, but no annotations.
        target: a folder whose files do not count where it is in `root`, since it is written to.

    Attributes:
        files: the absolute paths of all files below `root`, sorted.
        own: the paths of the images among them.
        paths: the paths of all images.
        unread: the paths of images in formats that are not read, such as an iPhone's HEIC.
    """

    def __init__(self, root: str, image_dir: str | None = None, target: str | None = None) -> None:
        self._root = os.path.abspath(root)
        self._image_dir = os.path.abspath(image_dir) if image_dir is not None else None
        written = {os.path.abspath(target), os.path.realpath(target)} if target is not None else set()
        self.files = [path for path in _below(self._root) if not any(is_within(path, place) for place in written)]
        self.own = {path for path in self.files if is_image_name(path)}
        others = _below(self._image_dir) if self._image_dir is not None else []
        self.paths = list(dict.fromkeys(path for path in (*self.files, *others) if is_image_name(path)))
        self._known = set(self.paths)
        self.unread = sorted({path for path in (*self.files, *others) if path.lower().endswith(UNREAD_SUFFIXES)})
        self._unread_stems = {folded(Path(path).stem) for path in self.unread}
        # The paths of each name, of each name without its suffix, and of both as `folded` writes them.
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._by_folded_name: dict[str, list[str]] = {}
        self._by_folded_stem: dict[str, list[str]] = {}
        for path in self.paths:
            name = os.path.basename(path)
            stem = os.path.splitext(name)[0]
            self._by_name.setdefault(name, []).append(path)
            self._by_stem.setdefault(stem, []).append(path)
            self._by_folded_name.setdefault(folded(name), []).append(path)
            self._by_folded_stem.setdefault(folded(stem), []).append(path)

    def find(self, image: LabeledImage) -> tuple[str | None, str]:
        """Return the path of an image, or None and the reason: it is not there, or there are several that it may be.

        A file in `image_dir`, which the user has named for the images, goes before others: near an annotation file may
        be files of the same name that have nothing to do with it. Of several, the file is taken that has the most
        folders of the name in common, and then the one nearest to the annotation file. A file with another suffix is
        taken if none has the same, and at last one whose name differs in letter case or in how accents are stored.
        """
        parts = clean_parts(image.name)
        if not parts:
            return None, "annotations whose image has no usable name left out"
        # Most names are right as they are; with thousands of files of one name, comparing all of them takes long.
        for folder in (self._image_dir, os.sep, os.path.dirname(image.near), self._root):
            path = os.path.join(folder, *parts) if folder is not None else None
            if path in self._known:
                return path, ""
        name = parts[-1]
        stem = os.path.splitext(name)[0] if is_image_name(name) or name.lower().endswith(UNREAD_SUFFIXES) else name
        own = Path(image.near).stem
        for names in (
            self._by_name.get(name),
            self._by_name.get(UPLOAD.sub("", name)),
            self._by_stem.get(stem),
            self._by_stem.get(UPLOAD.sub("", stem)),
            self._by_stem.get(own),
            self._by_folded_name.get(folded(name)),
            self._by_folded_name.get(folded(UPLOAD.sub("", name))),
            self._by_folded_stem.get(folded(stem)),
            self._by_folded_stem.get(folded(own)),
        ):
            if names:
                return _nearest(self._preferred(names), parts, image.near)
        if self.is_unread(stem):
            return None, UNREAD_FORMAT
        return None, "annotated images whose file was not found left out"

    def is_unread(self, stem: str) -> bool:
        """Whether an image of this name is there in a format that is not read."""
        return folded(stem) in self._unread_stems

    def _preferred(self, paths: list[str]) -> list[str]:
        """The paths in `image_dir`; all of them if none is."""
        if self._image_dir is None:
            return paths
        return [path for path in paths if is_within(path, self._image_dir)] or paths


def clean_parts(name: str) -> list[str]:
    """Return the parts of a path as tools on any system write it, without drives, `.` and `..`; [] if there is none."""
    if "\0" in name or len(name) > 4096:
        return []
    parts = PurePosixPath(re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/"))).parts
    return [part for part in parts if part not in ("/", "//", ".", "..")]


def folded(name: str) -> str:
    """Return a name without what systems change: letter case, blanks around it, and how accents are stored.

    macOS stores "ä" as "a" and a mark (NFD), and keeps it so in archives; most tools write one character (NFC).
    """
    return unicodedata.normalize("NFC", name.strip()).casefold()


def common_ending(some: Sequence[str], others: Sequence[str]) -> int:
    """How many parts the ends of two paths have in common."""
    pairs = zip(reversed(some), reversed(others))
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _below(folder: str) -> list[str]:
    return [os.path.abspath(path) for path in files_below(folder)]


def _nearest(paths: list[str], parts: list[str], near: str) -> tuple[str | None, str]:
    """The path that has most folders in common with the name, and then with the annotation file."""

    def common(path: str) -> tuple[int, int]:
        ending = common_ending(Path(path).parts[:-1], parts[:-1])
        return ending, len(os.path.commonpath([os.path.dirname(path), os.path.dirname(near)]))

    best = max(map(common, paths))
    nearest = [path for path in paths if common(path) == best]
    if len(nearest) > 1:
        return None, "annotated images whose name several files have left out"
    return nearest[0], ""
