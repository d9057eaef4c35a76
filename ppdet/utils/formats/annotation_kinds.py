"""Recognizing files and folders that were given as COCO annotations but are something else, for helpful errors."""

import contextlib
import itertools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ppdet.utils.disk.files import decode_text, open_regular, read_text
from ppdet.utils.disk.images import IMAGE_SUFFIXES
from ppdet.utils.shipped_data import how_to_get

MAX_FILES = 2000  # files of a folder whose kind is determined
MAX_BYTES = 16 * 2**20  # a larger JSON file of a folder is not read
# First bytes of a file -> its kind.
BINARY = {
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"\x89PNG": "an image (PNG)",
    b"PAR1": "a Parquet file",
    b"\x80\x04": "a pickle",
    b"\x80\x02": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"SQLite": "an SQLite database",
}
# Keys of a JSON object -> its kind. The first entry counts all of whose keys are there.
OBJECTS = [
    ({"images", "annotations"}, "COCO JSON"),
    ({"images", "categories"}, "COCO JSON"),
    ({"shapes", "imagePath"}, "LabelMe JSON"),
    ({"_via_img_metadata"}, "a project of VGG Image Annotator"),
    ({"type", "features"}, "GeoJSON"),
    ({"items", "categories"}, "Datumaro JSON"),
    ({"objects", "size"}, "Supervisely JSON"),
    ({"asset", "regions"}, "VoTT JSON"),
    ({"assets", "tags"}, "a project of VoTT"),
    ({"task_id", "result"}, "an annotation of Label Studio"),
    ({"image_id", "bbox", "score"}, "one COCO result"),
    ({"nbformat", "cells"}, "a notebook"),
]
# The same for the objects in a JSON list.
LISTS = [
    ({"image_id", "category_id", "score"}, "a list of COCO results (detections, not annotations)"),
    ({"image_id", "category_id"}, "a list of COCO annotations alone"),
    ({"file_name", "annotations"}, "a list of images with annotations (detectron2)"),
    ({"filename", "ann"}, "a list of images with annotations (MMDetection's own format)"),
    ({"image", "annotations"}, "CreateML JSON"),
    ({"imagefilename", "annotation"}, "CreateML JSON"),
    ({"data", "annotations"}, "Label Studio JSON (export as COCO there)"),
    ({"data", "completions"}, "Label Studio JSON (export as COCO there)"),
    ({"data", "predictions"}, "Label Studio JSON (tasks that nobody has labeled yet)"),
    ({"id", "image", "annotator"}, "Label Studio JSON-MIN (export as COCO there)"),
    ({"id", "image", "label"}, "Label Studio JSON-MIN (export as COCO there)"),
    ({"name", "labels"}, "BDD100K JSON"),
    ({"External ID", "Label"}, "Labelbox JSON"),
    ({"shapes", "imagePath"}, "a list of LabelMe annotations"),
]
# Names of kinds in a message about a folder. The first one counts that is part of a file's kind.
SHORT_NAMES = (
    *("COCO JSON", "COCO results", "LabelMe", "CreateML", "Label Studio", "BDD100K", "Labelbox", "Supervisely", "VoTT"),
    *("VGG Image Annotator", "Datumaro", "GeoJSON", "Pascal VOC", "CVAT", "YOLO", "CSV"),
)
ADVICE = "expected COCO JSON; convert {}, or name another"
ARCHIVE_ADVICE = "unpack it, and name or convert what is in it"


def coco_problem(path: str) -> str | None:
    """Return one line that says why `path` is not a file of COCO JSON, or None if it may be one."""
    if not os.path.exists(path):
        return f"annotation file {path} does not exist: {_advice(path)}"
    if os.path.isdir(path):
        return f"{path} is a folder {_content(path)}"
    if not os.path.isfile(path):
        return f"{path} is not a file: expected COCO JSON"
    kind = _kind_of_text(path)
    advice = ARCHIVE_ADVICE if kind and "archive" in kind else ADVICE.format("it")
    return f"{path} is not JSON but {kind}: {advice}" if kind else None


def kind_of_file(path: str) -> str | None:
    """Return what a file of labels is, such as "a ZIP archive" or "VoTT JSON"; None if it cannot be told.

    Raises:
        OSError: it cannot be read.
    """
    kind = _kind_of_text(path)
    if kind is None and os.path.splitext(path)[1].lower() == ".json" and os.path.getsize(path) <= MAX_BYTES:
        with contextlib.suppress(ValueError, RecursionError):
            return json_kind(json.loads(read_text(path)))
    return kind


def json_kind(content: Any) -> str:
    """Return the kind of parsed JSON, such as "LabelMe JSON", or what the value is."""
    if isinstance(content, dict):
        named = next((kind for keys, kind in OBJECTS if keys <= set(content)), None)
        if named:
            return named
        inner = next(iter(content.values()), None)
        if isinstance(inner, dict) and {"filename", "regions"} <= set(inner):
            return "VGG Image Annotator JSON"
        return f"a JSON object with {_listed(content) or 'nothing in it'}"
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else None
        if first is None:
            return f"a JSON list of {type(content[0]).__name__}" if content else "an empty JSON list"
        named = next((kind for keys, kind in LISTS if keys <= set(first)), None)
        return named or f"a JSON list of objects with {_listed(first)}"
    return {str: "a text", bool: "true or false", type(None): "null"}.get(type(content), "a number")


def holds_object(path: str) -> bool:
    """Whether a file begins like a JSON object, whatever its name is."""
    with open_regular(path) as file:
        return decode_text(file.read(64), errors="replace").lstrip().startswith("{")


def names_problem(path: str) -> str | None:
    """Return one line that says why `path` is not a text file of class names, or None if it may be one."""
    if os.path.isdir(path):
        return f"{path} is a folder: expected a text file with one class name per line, or a file of COCO JSON"
    kind = _kind_of_text(path)
    return f"{path} is {kind}: expected one class name per line, or a file of COCO JSON" if kind else None


def _kind_of_text(path: str) -> str | None:
    """The kind of a file by its first bytes; None for JSON and for an unknown kind."""
    with open_regular(path) as file:  # a folder may have pipes
        data = file.read(8192)
    binary = next((kind for start, kind in BINARY.items() if data.startswith(start)), None)
    text = decode_text(data, errors="replace").strip()
    if binary or not text:
        return binary or "empty"
    suffix = os.path.splitext(path)[1].lower()
    if text.startswith(("{", "[")):
        return "JSON Lines, one object per line" if suffix == ".jsonl" else None
    if re.match(r"<(\?xml|!doctype|html|annotation)", text, re.IGNORECASE):
        return _kind_of_xml(text)
    lines = [line.strip() for line in text.split("\n")[:50]][: -1 if len(data) == 8192 else None]
    if suffix in (".yml", ".yaml"):
        yolo = re.search(r"^(names|nc|train)\s*:", text, re.MULTILINE)
        return "a YAML of YOLO (Ultralytics)" if yolo else "YAML"
    if suffix == ".csv" or (len(lines) > 1 and all(line.count(",") >= 4 for line in lines if line)):
        return "a table (CSV)"
    if all(re.fullmatch(r"\d+( -?[\d.]+(e-?\d+)?){4,}", line) for line in lines if line):
        return "a label file of YOLO, of one image"
    return None


def _kind_of_xml(text: str) -> str:
    if re.search(r"<html|<!doctype html", text, re.IGNORECASE):
        return "a web page (HTML): the download was refused or led elsewhere"
    if "<annotations" in text:
        return "XML of CVAT (export as COCO there)"
    return "XML of Pascal VOC, of one image" if "<annotation" in text else "XML"


def _content(folder: str) -> str:
    """The most frequent kind of file in a folder, and what to do: "with 12 LabelMe files, e.g. a.json: …"."""
    places = (Path(place) / name for place, _, names in os.walk(folder) for name in sorted(names))
    files = [path for path in itertools.islice(places, MAX_FILES) if not path.name.startswith(".")]
    kinds: Counter = Counter()
    example: dict[str, str] = {}
    seen: Counter = Counter()  # files of each suffix
    last: dict[str, str] = {}  # the kind of the last file of each suffix
    for path in files:
        suffix = path.suffix.lower()
        seen[suffix] += 1
        # Files with the same suffix are mostly of the same kind: five of them are read.
        kind = last[suffix] = _kind_in_folder(path) if seen[suffix] <= 5 else last[suffix]
        kinds[kind] += 1
        example.setdefault(kind, path.relative_to(folder).as_posix())
    if not kinds:
        return "without any file: expected one file of COCO JSON"
    if "COCO JSON" in kinds:
        return f"of COCO JSON: name a file in it, e.g. {example['COCO JSON']}"
    labels = [kind for kind, _ in kinds.most_common() if kind not in ("image", "other")]
    kind = labels[0] if labels else kinds.most_common(1)[0][0]
    more = "more than " if len(files) >= MAX_FILES else ""
    files_of, them = ("file", "it") if kinds[kind] == 1 else ("files", "them")
    return f"with {more}{kinds[kind]} {kind} {files_of}, e.g. {example[kind]}: {ADVICE.format(them)}"


def _kind_in_folder(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in (*IMAGE_SUFFIXES, ".gif"):
        return "image"
    with contextlib.suppress(OSError, ValueError, RecursionError):
        kind = _kind_of_text(str(path))
        if kind:
            return next((word for word in SHORT_NAMES if word in kind), "other")
        if suffix == ".json" and path.stat().st_size <= MAX_BYTES:
            kind = json_kind(json.loads(read_text(path)))
            return next((word for word in SHORT_NAMES if word in kind), "JSON")
    return {".json": "JSON", ".txt": "text"}.get(suffix, "other")


def _advice(path: str) -> str:
    """What to do about a missing file, with the names of JSON files in its folder."""
    if "semi_annotations" in path:
        return "make it with tools/gen_semi_coco.py, or check dataset_dir and anno_path"
    with contextlib.suppress(OSError, ValueError):
        beside = sorted(name for name in os.listdir(os.path.dirname(path)) if name.lower().endswith(".json"))
        if beside:
            more = ", …" if len(beside) > 5 else ""
            return f"check dataset_dir and anno_path; its folder has {', '.join(beside[:5])}{more}"
    return how_to_get(path, "check dataset_dir and anno_path")


def _listed(keys: Any) -> str:
    names = [repr(str(key)[:30]) for key in list(keys)[:4]]
    return ", ".join(names) + (", …" if len(keys) > 4 else "")
