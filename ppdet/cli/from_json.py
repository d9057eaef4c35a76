"""Convert the train.json of "FCOS in Pytorch" to a configuration, and name the options that have no counterpart.

The configuration inherits the shipped fcos_r50_view1025_12e_coco.yml and holds what differs from it. The view size and
the number of classes are written in that project's detector.py: pass them here if you have changed them there.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import UserError

BASE = "fcos_r50_view1025_12e_coco.yml"
EXAMPLES = """examples:
  {program} train.json --to mine.yml
  {program} train.json --to mine.yml --view_size 641 --classes 20
"""
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
TYPES: dict[str, type] = {
    "epoches": int,
    "nbatch_train": int,
    "nbatch_eval": int,
    "num_workers": int,
    "lr_base": float,
    "lr_gamma": float,
    "lr_schedule": list,
    "momentum": float,
    "weight_decay": float,
    "grad_clip": float,
    "boxarea_th": float,
    "img_scale_min": float,
    "pretrain": bool,
    "freeze_bn": bool,
    "freeze_stages": int,
    "view_size": int,
}


class MigrationError(UserError, ValueError):
    """A train.json that cannot be used; the message says why."""


def read_options(path: Path) -> dict[str, Any]:
    """Return the options of a train.json.

    Raises:
        MigrationError: it is not a JSON object, or an option has a wrong type or range.
    """
    try:
        options = json.loads(read_text(path))
    except ValueError as error:
        raise MigrationError(f"{path}: not JSON: {error}") from None
    if not isinstance(options, dict):
        raise MigrationError(f"{path}: expected an object of options, such as {{'lr_base': 0.01}}")
    for name, kind in TYPES.items():
        value = options.get(name, 0)
        is_right = isinstance(value, (int, float)) if kind in (int, float) else isinstance(value, kind) or value == 0
        if is_right and isinstance(value, (int, float)) and not 0 <= value < float("inf"):
            raise MigrationError(f"{path}: {name} is {value}, expected a number of at least 0")
        if not is_right or (isinstance(value, list) and not all(isinstance(step, int) for step in value)):
            expected = "numbers" if kind is list else kind.__name__
            raise MigrationError(f"{path}: {name} is {value!r}, expected {expected}")
    return options


def device_count(options: Mapping[str, Any]) -> int:
    """Return the number of devices that trained."""
    return max(1, len(options["device"])) if isinstance(options.get("device"), list) else 8


def convert(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a configuration that differ from BASE."""
    from ppdet.core.workspace import load_config

    base = load_config(BASE)
    devices = device_count(options)
    images = options.get("nbatch_train", 16)
    cfg: dict[str, Any] = {"epoch": options.get("epoches", 12), "auto_lr": {"base_batch_size": images}}
    cfg["worker_num"] = max(1, options.get("num_workers", 16) // devices)
    if options.get("pretrain") is False:
        cfg["pretrain_weights"] = None
    # freeze_stages counts the stem together with the first stage; freeze_at is the index of the last frozen stage.
    cfg["ResNet"] = {
        "freeze_norm": bool(options.get("freeze_bn", True)),
        "freeze_at": int(options.get("freeze_stages", 1)) - 1,
    }
    decay = {"gamma": options.get("lr_gamma", 0.1), "milestones": options.get("lr_schedule", [60000, 80000])}
    warmup = base.component("LearningRate")["schedulers"][1]
    schedulers = [{"PiecewiseDecay": {**decay, "unit": "iteration"}}, warmup]
    cfg["LearningRate"] = {"base_lr": options.get("lr_base", 0.01), "schedulers": schedulers}
    clip = options.get("grad_clip", 3)
    cfg["OptimizerBuilder"] = {
        "optimizer": {"momentum": options.get("momentum", 0.9)},
        "regularizer": {"factor": options.get("weight_decay", 0.0001)},
        "clip_grad_by_norm": float(clip) if clip else None,
    }
    view, scale = options.get("view_size", 1025), options.get("img_scale_min", 0.8)
    changes = {"target_size": view, "pad_to_size": view}
    own_changes = {
        "RandomResize": {"scale_range": [scale, 1.0]},
        "Gt2FCOSTarget": {"min_box_area": float(options.get("boxarea_th", 32))},
    }
    for name in ("TrainReader", "EvalReader", "TestReader"):
        reader = base.component(name)
        cfg[name] = {key: reader[key] for key in ("sample_transforms", "batch_transforms")}
        for transform in [one for transforms in cfg[name].values() for one in transforms]:
            for kind, values in transform.items():
                values.update({key: value for key, value in changes.items() if key in values})
                values.update(own_changes.get(kind, {}))
    cfg["TrainReader"]["batch_size"] = max(1, images // devices)
    cfg["EvalReader"]["batch_size"] = max(1, options.get("nbatch_eval", devices) // devices)
    return cfg


def write(path: Path, cfg: Mapping[str, Any], source: Path) -> None:
    """Write the configuration to `path`, once it could be loaded and its components built."""
    import yaml

    from ppdet.core.workspace import load_config
    from ppdet.utils.disk.files import atomic_path

    text = f'# From {source.name} of "FCOS in Pytorch".\n' + yaml.safe_dump(dict(cfg), sort_keys=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        loaded = load_config(str(temporary))
        for component in ("LearningRate", "OptimizerBuilder", "ResNet"):
            loaded.create(component)
        loaded.component("TrainReader").create("sample_transforms")


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES, program)
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
            if name in ADVICE or name not in TYPES:
                print(f"not carried over: {name}: {ADVICE.get(name, 'unknown')}")
        per_device, images = cfg["TrainReader"]["batch_size"], cfg["auto_lr"]["base_batch_size"]
        devices = device_count(options)
        if per_device * devices != images:
            print(
                f"not carried over: {images} images on {devices} devices: {per_device} on each; "
                "auto_lr adapts the learning rate"
            )
        print(f"wrote {arguments.to}; ppdet config -c {arguments.to} shows every value")
