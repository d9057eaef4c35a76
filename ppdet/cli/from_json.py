"""Convert the train.json of "FCOS in Pytorch" to a configuration, and name the options that have no counterpart.

The configuration inherits the shipped fcos_r50_view1025_12e_coco.yml and holds what differs from it. The view size and
the number of classes are written in that project's detector.py: pass them here if you have changed them there.

examples:
  {program} train.json --to mine.yml
  {program} train.json --to mine.yml --view_size 641 --classes 20
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.core.schema import fits
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import UserError
from ppdet.utils.printable import printable

BASE = "fcos_r50_view1025_12e_coco.yml"
# What is printed for options that have no counterpart, or a different one.
ADVICE = {
    "root_train": "set TrainDataset.dataset_dir and image_dir",
    "root_eval": "set EvalDataset.dataset_dir and image_dir",
    "list_train": "its lists cannot be read here: set TrainDataset.anno_path to a COCO file (dataset/README.md)",
    "list_eval": "its lists cannot be read here: set EvalDataset.anno_path to a COCO file (dataset/README.md)",
    "name_file": "the annotations name the classes",
    "load": "ppdet train -r auto continues a run",
    "save": "a run always keeps checkpoints",
    "device": "python -m paddle.distributed.launch --gpus … tools/train.py",
    "augmentation": "images are flipped; add more to TrainReader.sample_transforms",
}
# The options that become settings, with their values if the file leaves them out (on 8 devices).
DEFAULTS: dict[str, Any] = {
    **{"epoches": 12, "nbatch_train": 16, "nbatch_eval": 8, "num_workers": 16},
    **{"lr_base": 0.01, "lr_gamma": 0.1, "lr_schedule": [60000, 80000], "momentum": 0.9, "weight_decay": 0.0001},
    **{"grad_clip": 3.0, "boxarea_th": 32.0, "img_scale_min": 0.8, "view_size": 1025},
    **{"pretrain": True, "freeze_bn": True, "freeze_stages": 1},
}
LARGEST_FILE = 2**20  # bytes


class MigrationError(UserError, ValueError):
    """A train.json that cannot be used; the message says why."""


def read_options(path: Path) -> dict[str, Any]:
    """Return the options of a train.json.

    Raises:
        MigrationError: it is not JSON, or a value that is used has another type, or is below 0.
    """
    try:
        options = json.loads(read_text(path, largest=LARGEST_FILE))
    except (ValueError, RecursionError) as error:
        raise MigrationError(f"{path}: not JSON: {error}") from None
    if not isinstance(options, dict):
        raise MigrationError(f"{path}: expected an object of options, such as {{'lr_base': 0.01}}")
    for name in (name for name in DEFAULTS if name in options):
        value, kind = options[name], type(DEFAULTS[name])
        if not fits(value, list[int] if kind is list else kind):
            expected = "numbers" if kind is list else kind.__name__
            raise MigrationError(f"{path}: {name} is {value!r:.100}, expected {expected}")
        if kind in (int, float) and not 0 <= value < float("inf"):
            raise MigrationError(f"{path}: {name} is {value}, expected a number of at least 0")
    return options


def device_count(options: Mapping[str, Any]) -> int:
    """Return how many devices trained with these options: 8 unless `device` is a list."""
    return max(1, len(options["device"])) if isinstance(options.get("device"), list) else 8


def convert(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a configuration that differ from BASE."""
    from ppdet.core.workspace import load_config

    devices = device_count(given)
    # Without nbatch_eval, each device evaluates one image at a time.
    base, options = load_config(BASE), {**DEFAULTS, "nbatch_eval": devices, **given}
    images, view = options["nbatch_train"], options["view_size"]
    decay = {"gamma": options["lr_gamma"], "milestones": options["lr_schedule"], "unit": "iteration"}
    warmup = base.component("LearningRate")["schedulers"][1]
    cfg: dict[str, Any] = {
        "epoch": options["epoches"],
        "auto_lr": {"base_batch_size": images},
        "worker_num": max(1, options["num_workers"] // devices),
        **({} if options["pretrain"] else {"pretrain_weights": None}),
        # freeze_stages counts the stem together with the first stage; freeze_at is the index of the last frozen stage.
        "ResNet": {"freeze_norm": options["freeze_bn"], "freeze_at": options["freeze_stages"] - 1},
        "LearningRate": {"base_lr": options["lr_base"], "schedulers": [{"PiecewiseDecay": decay}, warmup]},
        "OptimizerBuilder": {
            "optimizer": {"momentum": options["momentum"]},
            "regularizer": {"factor": options["weight_decay"]},
            "clip_grad_by_norm": options["grad_clip"] or None,
        },
    }
    changes = {"target_size": view, "pad_to_size": view}
    own_changes = {
        "RandomResize": {"scale_range": [options["img_scale_min"], 1.0]},
        "Gt2FCOSTarget": {"min_box_area": options["boxarea_th"]},
    }
    for name in ("TrainReader", "EvalReader", "TestReader"):
        reader = base.component(name)
        cfg[name] = {key: reader[key] for key in ("sample_transforms", "batch_transforms")}
        for transform in [one for transforms in cfg[name].values() for one in transforms]:
            for kind, values in transform.items():
                values.update({key: value for key, value in changes.items() if key in values})
                values.update(own_changes.get(kind, {}))
    cfg["TrainReader"]["batch_size"] = max(1, images // devices)
    cfg["EvalReader"]["batch_size"] = max(1, options["nbatch_eval"] // devices)
    return cfg


def write(path: Path, cfg: Mapping[str, Any], source: Path) -> None:
    """Write the configuration to `path`, once it could be loaded and its components built."""
    import yaml

    from ppdet.core.workspace import load_config
    from ppdet.utils.disk.files import atomic_path

    text = f'# From {printable(source.name)} of "FCOS in Pytorch".\n' + yaml.safe_dump(dict(cfg), sort_keys=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        loaded = load_config(str(temporary))
        for component in ("LearningRate", "OptimizerBuilder", "ResNet"):
            loaded.create(component)
        loaded.component("TrainReader").create("sample_transforms")


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("source", type=Path, metavar="JSON", help="the train.json")
    parser.add_argument("--to", required=True, type=Path, metavar="YML", help="file to write")
    parser.add_argument("--view_size", type=positive, help="side of the square views in pixels (default: 1025)")
    parser.add_argument("--classes", type=positive, help="number of classes (default: 80)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.utils.process.paddle_setup import load_paddle

        load_paddle(announce=False)
        if arguments.to.exists():
            raise MigrationError(f"{arguments.to}: this file exists already: delete it, or give another name")
        options = read_options(arguments.source)
        if arguments.view_size:
            options["view_size"] = arguments.view_size
        cfg = {"_BASE_": [BASE], **convert(options), "weights": f"output/{arguments.to.stem}/model_final"}
        if arguments.classes:
            cfg["num_classes"] = arguments.classes
        write(arguments.to, cfg, arguments.source)
        for name in options:
            if name in ADVICE or name not in DEFAULTS:
                print(f"not carried over: {printable(name[:100])}: {ADVICE.get(name, 'unknown')}")
        per_device, images = cfg["TrainReader"]["batch_size"], cfg["auto_lr"]["base_batch_size"]
        devices = device_count(options)
        if per_device * devices != images:
            print(
                f"not carried over: {images} images on {devices} devices: {per_device} on each; auto_lr adapts the rate"
            )
        print(printable(f"wrote {arguments.to}; ppdet config -c {arguments.to} shows every value"))
