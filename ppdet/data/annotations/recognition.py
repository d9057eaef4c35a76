"""Finding out which tool wrote the annotations in a folder, and reading them."""

import os
from collections.abc import Callable

from ppdet.data.annotations.coco_layouts import read_coco
from ppdet.data.annotations.conversion_folders import is_yaml
from ppdet.data.annotations.image_index import ImageIndex
from ppdet.data.annotations.json_formats import read_labelme, read_labelstudio
from ppdet.data.annotations.labeled_set import LabeledSet, Losses
from ppdet.data.annotations.parsing import json_of
from ppdet.data.annotations.table import is_table, read_table, rows_of_table
from ppdet.data.annotations.xml_formats import is_cvat, is_voc, read_cvat, read_voc
from ppdet.data.annotations.yolo import has_label_files, has_names, is_yolo, read_yolo
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import BINARY, json_kind, kind_of_file
from ppdet.utils.formats.label_formats import LABEL_FIRST, READ_FORMATS

Reader = Callable[[str, list[str], Losses], LabeledSet]
READERS: dict[str, tuple[str, Reader]] = {  # name -> the suffix of its files, its reader
    "coco": (".json", read_coco),
    "labelstudio": (".json", read_labelstudio),
    "labelme": (".json", read_labelme),
    "cvat": (".xml", read_cvat),
    "voc": (".xml", read_voc),
    "csv": (".csv", read_table),
}
ALL = ", ".join(READ_FORMATS)
PROBED = 200  # JSON files whose kind is looked at before a folder counts as having none that is known


def read_annotations(source: str, form: str | None, index: ImageIndex, losses: Losses) -> LabeledSet:
    """Read the annotations of a folder, or of one file.

    Args:
        source: the folder or file.
        form: one of READ_FORMATS; None finds it out.
        index: the files below the folder; annotations are looked for only there.
        losses: counts what is left out.

    Raises:
        DataError: there are no annotations, they are of several tools, or a file for a whole set cannot be read.
    """
    root = source if os.path.isdir(source) else os.path.dirname(source)
    files = index.files if os.path.isdir(source) else [source]
    kinds = {form: _with_suffix(files, form)} if form else _kinds(files, index, source)
    if not kinds:
        raise _nothing_found(source, files, index) if os.path.isdir(source) else _unknown_file(source)
    if len(kinds) > 1:
        found = ", ".join(
            f"{name} ({os.path.relpath(paths[0], root) if paths else '.'})" for name, paths in kinds.items()
        )
        raise DataError(f"{source}: annotations of several kinds, {found}: choose one with --from NAME")
    name, paths = next(iter(kinds.items()))
    if name == "yolo":
        return read_yolo(root, index, losses, source if is_yaml(source) else None)
    if not paths:
        raise DataError(f"{source}: no file ends in {READERS[name][0]}, as those of {name} do")
    return READERS[name][1](root, paths, losses)


def _unknown_file(source: str) -> DataError:
    """The error of a file that has no annotations that are known, by what it is."""
    kind = kind_of_file(source)
    if kind and kind in BINARY.values():
        advice = "unpack it, and name the folder" if "archive" in kind else "name the file that has the annotations"
        return DataError(f"{source} is {kind}: {advice}")
    for suffix, read in ((".json", json_of), (".csv", rows_of_table)):
        if source.lower().endswith(suffix):
            read(source)  # what is wrong with it is raised
    advice = "export one of these there, or choose with --from NAME what the file is read as"
    if kind is None or "YOLO" in kind:
        advice = "--from NAME reads the file as one of these; of label files of YOLO, name the folder"
    return DataError(f"{source}{f' is {kind}' if kind else ''}: no annotations of {ALL} were found; {advice}")


def _nothing_found(source: str, files: list[str], index: ImageIndex) -> DataError:
    """The error of a folder without annotations that are known; what is wrong with the only file that may have some is
    raised at once."""
    for suffix, read in ((".json", json_of), (".csv", rows_of_table)):
        damaged = [path for path in files if path.lower().endswith(suffix)]
        if len(damaged) == 1:
            read(damaged[0])
    if not files:
        return DataError(f"{source}: there are no files in it")
    advice = (
        "--from NAME reads the files as one of these, and --from voc, labelme or yolo reads every file of their kind"
    )
    archives = [path for path in files if path.lower().endswith((".zip", ".gz", ".tar", ".tgz", ".rar", ".7z"))]
    if index.unread and not index.own:
        advice = f"its images, such as {index.unread[0]}, are in a format that is not read: convert them to JPEG or PNG"
    elif archives and not index.own:
        advice = f"unpack {archives[0]} first"
    elif has_label_files(index):
        advice = (
            "the label files beside its images are empty: if these are images without objects, put the names of the "
            "classes that are not in them into classes.txt"
        )
    elif index.own and has_names(index):
        advice = (
            "it has names of classes, but no label files of YOLO: images/a.jpg needs labels/a.txt (with --from yolo, "
            "these are images without objects)"
        )
    elif set(files) == index.own:
        advice = (
            "it has images and nothing else: name the folder or the file that has their annotations, and the images "
            f"with --image_dir; {LABEL_FIRST}"
        )
    return DataError(f"{source}: no annotations of {ALL} were found; {advice}")


def _with_suffix(files: list[str], form: str) -> list[str]:
    if form == "yolo":
        return []
    found = [path for path in files if path.lower().endswith(READERS[form][0])]
    known = _json_kinds(found).get(form) if form in ("coco", "labelstudio") and len(found) > 1 else None
    return known or found


def _kinds(files: list[str], index: ImageIndex, source: str) -> dict[str, list[str]]:
    """The files of each kind of annotations."""
    kinds = _json_kinds([path for path in files if path.lower().endswith(".json")])
    xml = [path for path in files if path.lower().endswith(".xml")]
    for name, is_kind in (("cvat", is_cvat), ("voc", is_voc)):
        if any(is_kind(path) for path in xml[:PROBED]):
            # Of Pascal VOC's files, also those are read that look damaged: they are counted.
            kinds[name] = [path for path in xml if name == "voc" or is_kind(path)]
    if len(kinds.get("voc", ())) and "cvat" in kinds:
        kinds["voc"] = [path for path in kinds["voc"] if path not in set(kinds["cvat"])]
    tables = [path for path in files if path.lower().endswith(".csv") and (len(files) == 1 or is_table(path))]
    if tables:
        kinds["csv"] = tables
    if is_yaml(source) or (os.path.isdir(source) and is_yolo(index)):
        kinds["yolo"] = []
    if len(kinds) > 1 and os.path.isdir(source):
        # A classes.txt or a table beside another tool's files is an addition of that tool.
        kinds = {name: paths for name, paths in kinds.items() if name != "csv"}
    return kinds


def _json_kinds(files: list[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    damaged = []
    for number, path in enumerate(files):
        if number >= PROBED and set(kinds) == {"labelme"}:  # one file for each image: the others are the same
            kinds["labelme"] += files[number:]
            break
        try:
            found = json_kind(json_of(path))
        except DataError:
            damaged.append(path)
            continue
        name = next(
            (
                name
                for name, words in (("coco", "COCO JSON"), ("labelme", "LabelMe JSON"), ("labelstudio", "Label Studio"))
                if found.startswith(words) or (name == "labelstudio" and words in found)
            ),
            None,
        )
        if name:
            kinds.setdefault(name, []).append(path)
    if "labelme" in kinds:
        kinds["labelme"] = sorted([*kinds["labelme"], *damaged])  # they are counted
    return kinds
