"""Weights: pickles of Paddle, both forms of torch.save, .pkl, .safetensors, and manifests beside them."""

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from fuzz.case import Case, Content, Kind, Link, Special
from fuzz.draw import Draw, dump
from fuzz.mutate import changed_tree, one_value
from fuzz.weight_bytes import arrays, bomb_file, foreign, honest_pickles, pickled, safetensors_file, torch_file, valid
from ppdet.convert import convert_path, summary_lines
from ppdet.engine.checkpoints.class_names import classes_of_weights, log_unknown_classes
from ppdet.engine.checkpoints.manifest import fingerprint, json_sha256, read_manifest, read_verified
from ppdet.engine.checkpoints.state import read_checkpoint, set_optimizer_state, set_statistics
from ppdet.engine.checkpoints.weights import fill, load_weights, read_arrays
from ppdet.engine.weight_conversion import convert_file

STATE = {
    **{"epoch": 1, "images": 0, "iteration": 2, "steps_per_epoch": 2, "best_ap": 0.5, "evaluated": True},
    **{"history": [[1, 0.5]], "ema_step": 0, "loss_scale": {}, "seed": 0},
}

CLASSES = {"names": ["a", "b"], "category_ids": [1, 2]}


@cache
def model() -> paddle.nn.Layer:
    return paddle.nn.Linear(4, 3)


@cache
def optimizer() -> paddle.optimizer.Optimizer:
    return paddle.optimizer.Momentum(0.1, parameters=model().parameters())


SUFFIXES = (".pdparams", ".pdopt", ".pth", ".pkl", ".safetensors")
# fmt: off
NO_WEIGHTS: list[Content] = [
    b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80", b"\x80\x04.", b"<html>", b"version https://git-lfs",
    bytes(100), Link("/dev/zero"), Link("/dev/null"), Link("/dev/urandom"), Special("fifo"), Special("folder"),
    Special("socket"), Link("nowhere"), Link("w.pdparams"), Link("."), Link("/proc/self/mem"),
    Link("/proc/self/environ"),
]
# fmt: on


def checkpoint(draw: Draw, *, is_valid: bool = False) -> Case:
    """A checkpoint whose manifest is changed but sealed, or whose files are changed but named by their hashes.

    `is_valid`: with one value of the manifest or of the files changed.
    """
    files: dict[str, Content] = {"0.pdparams": honest_pickles()[0]}
    velocity = {f"{name}|_velocity_0": value for name, value in arrays().items()}
    files["0.pdopt"] = pickle.dumps(
        {**velocity, "master_weights": {}, "LR_Scheduler": {"last_epoch": 1, "last_lr": 0.1}}
    )
    made = "manifest"
    content: dict[str, Any] = {"classes": CLASSES, "state": dict(STATE)}
    more = {".pdranks": {"0": {"bn._mean": np.zeros(2)}}, ".pdhooks": {"HistoryHook": {"a": 1}}, ".pdema": arrays()}
    for suffix, part in more.items():
        if draw.chance(0.3):
            files[f"0{suffix}"] = pickle.dumps(part)
    if is_valid:
        content, made = one_value(draw, {"classes": CLASSES, "state": dict(STATE)})
        if draw.chance(0.3):
            files["0.pdparams"], made = valid(draw, ".pdparams")
    elif draw.chance(0.6):
        name = draw.one(list(files))
        files[name], made = pickled(draw, arrays())
    content |= {"format": 1, "run": "0" * 32, "paddle": "3"}
    content["files"] = {name[1:]: {"bytes": 0, "sha256": ""} for name in files}
    seal = is_valid or draw.chance(0.8)
    if not is_valid and draw.chance(0.6):
        content, made = changed_tree(draw, content)
    if not is_valid and isinstance(content, dict) and draw.chance(0.2) and isinstance(content.get("state"), dict):
        content["state"] = changed_tree(draw, content["state"])[0]
    arguments = {"content": dump(content), "seal": seal}
    if not is_valid and draw.chance(0.15):
        files["0.json"] = draw.one(
            [b"", b"null", b"[" * 100_000, Link("0.json"), Link("/dev/zero"), Special("fifo"), b"\xff\xfe{"]
        )
        arguments = {}
        made = "manifest of another kind"
    return Case(draw.one(["checkpoint", "checkpoint", "classes"]), files, {"named": ["0", "0.json"], **arguments}, made)


def build(draw: Draw) -> Case:
    """In half of the cases a whole file with one thing changed, in every sixth one that is made to cost much."""
    content: Content
    make = draw.random()
    if make < 0.67:
        suffix = draw.one(SUFFIXES)
        if make < 0.17:
            content, made = bomb_file(draw, draw.one(SUFFIXES[:4]))
            suffix = ".pth" if "torch" in made else draw.one([".pdparams", ".pdopt", ".pkl"])
        elif make > 0.6:
            return checkpoint(draw, is_valid=True)
        else:
            content, made = valid(draw, suffix)
        return case_of(draw, suffix, content, made)
    kind = draw.one(
        ["pdparams", "pdparams", "pdopt", "torch", "torch", "pkl", "safetensors", "safetensors", "manifest", "special"]
    )
    if kind == "manifest":
        return checkpoint(draw)
    if kind == "special":
        content, made = special(draw)
        suffix = draw.one([".pdparams", ".pth", ".pkl", ".safetensors", ".pdopt"])
    elif kind == "torch":
        (content, made), suffix = torch_file(draw), draw.one([".pth", ".pth", ".pt"])
    elif kind == "safetensors":
        (content, made), suffix = safetensors_file(draw), ".safetensors"
    else:
        content, made = pickled(draw, foreign() if kind == "pkl" else arrays())
        suffix = f".{kind}"
    return case_of(draw, suffix, content, made)


def case_of(draw: Draw, suffix: str, content: Content, made: str) -> Case:
    subjects = ["load"] if suffix == ".pdparams" else ["read"] if suffix == ".pdopt" else ["convert", "convert", "load"]
    subject = draw.one([*subjects, "read" if suffix in (".pdparams", ".safetensors") else subjects[0]])
    return Case(subject, {f"w{suffix}": content}, {"file": f"w{suffix}"}, f"{suffix} {made}")


def special(draw: Draw) -> tuple[Content, str]:
    """A file of another kind, or none."""
    return draw.one(NO_WEIGHTS), "another kind of file"


def _load(case: Case) -> str:
    return str(load_weights(model(), case.arguments["file"], strict=False).loaded)


def _read(case: Case) -> str:
    path = Path(case.arguments["file"])
    read_arrays(path)
    classes_of_weights(path)
    log_unknown_classes(path)
    return "read"


def _convert(case: Case) -> str:
    path = Path(case.arguments["file"])
    conversion, _ = convert_path(path)
    print("\n".join(summary_lines(conversion)))
    convert_file(path, Path("converted.pdparams"))
    return "converted"


def _checkpoint(case: Case) -> str:
    _seal(case)
    read_verified(Path("0"))
    saved = read_checkpoint(Path("0"))
    fill(model(), saved.weights, strict=True, source="0")
    set_optimizer_state(model(), optimizer(), saved.optimizer)
    set_statistics(model(), None, saved.ranks)
    return "resumed"


def _classes(case: Case) -> str:
    _seal(case)
    read_manifest(Path("0.json"))
    log_unknown_classes(Path("0.pdparams"))
    return str(classes_of_weights(Path("0.pdparams")))[:20]


def _seal(case: Case) -> None:
    """Write the manifest with the hashes of the files, as somebody would who wants it to be believed."""
    if "content" not in case.arguments:
        return
    content = json.loads(case.arguments["content"])
    files = content.get("files") if isinstance(content, dict) else None
    for suffix in files if isinstance(files, dict) else ():
        path = Path(f"0{suffix}".replace("\0", "_"))
        try:
            regular = path.is_file()
        except (OSError, ValueError):
            regular = False
        if regular and isinstance(files[suffix], dict) and files[suffix].get("bytes") == 0:
            files[suffix] |= fingerprint(path)
    if case.arguments["seal"] and isinstance(content, dict):
        content["sha256"] = json_sha256(content)
    Path("0.json").write_text(dump(content))


WEIGHTS = Kind(
    build,
    {"load": _load, "read": _read, "convert": _convert, "checkpoint": _checkpoint, "classes": _classes},
    memory=64 * 2**20,
    processor_s=2.0,  # of files of a megabyte
)
