"""Turn the train.json of "FCOS in Pytorch" into a configuration, and say what it could not carry over.

The result inherits configs/fcos/fcos_r50_view1025_12e_coco.yml and holds what differs from it. view_size and the number
of classes stood in that project's detector.py: give them here if they were changed.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.core.command_line import make_parser, one_line_errors, positive, run
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import UserError

BASE = ROOT / "configs" / "fcos" / "fcos_r50_view1025_12e_coco.yml"
EXAMPLES = """examples:
  python tools/from_json.py train.json --to configs/fcos/mine.yml
  python tools/from_json.py train.json --to configs/fcos/mine.yml --view_size 641 --classes 20
"""
# What is told of options that have no counterpart, or another one.
ADVICE = {
    "root_train": "set TrainDataset.dataset_dir and image_dir",
    "root_eval": "set EvalDataset.dataset_dir and image_dir",
    "list_train": "its lists are read by nothing here: set TrainDataset.anno_path to a COCO file (dataset/README.md)",
    "list_eval": "its lists are read by nothing here: set EvalDataset.anno_path to a COCO file (dataset/README.md)",
    "name_file": "names of classes come from the annotations",
    "load": "tools/train.py -r auto goes on with a run",
    "save": "a run always keeps checkpoints",
    "device": "python -m paddle.distributed.launch --gpus … tools/train.py",
    "augmentation": "images are flipped; TrainReader.sample_transforms takes more",
}
TYPES = {
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


def read(path: Path) -> dict:
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
            raise MigrationError(
                f"{path}: {name} is {value!r}, expected {'numbers' if kind is list else kind.__name__}"
            )
    return options


def devices_of(options: dict) -> int:
    """How many devices trained."""
    return max(1, len(options["device"])) if isinstance(options.get("device"), list) else 8


def convert(options: dict) -> dict:
    """What differs from BASE, as sections of a configuration."""
    from ppdet.core.workspace import load_config

    base = load_config(str(BASE))
    devices = devices_of(options)
    images = options.get("nbatch_train", 16)
    cfg: dict = {"epoch": options.get("epoches", 12), "auto_lr": {"base_batch_size": images}}
    cfg["worker_num"] = max(1, options.get("num_workers", 16) // devices)
    if options.get("pretrain") is False:
        cfg["pretrain_weights"] = None
    # freeze_stages counts the stem with the first stage, freeze_at is the last frozen one's index.
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
    for name in ("TrainReader", "EvalReader", "TestReader"):
        reader = base.component(name)
        transforms = {key: reader[key] for key in ("sample_transforms", "batch_transforms")}
        for kind, values in (item for items in transforms.values() for one in items for item in one.items()):
            values.update({"target_size": view} if "target_size" in values else {})
            values.update({"pad_to_size": view} if "pad_to_size" in values else {})
            values.update({"scale_range": [scale, 1.0]} if kind == "RandomResize" else {})
            values.update({"min_box_area": float(options.get("boxarea_th", 32))} if kind == "Gt2FCOSTarget" else {})
        cfg[name] = transforms
    cfg["TrainReader"]["batch_size"] = max(1, images // devices)
    cfg["EvalReader"]["batch_size"] = max(1, options.get("nbatch_eval", devices) // devices)
    return cfg


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("source", type=Path, metavar="JSON", help="the train.json")
    parser.add_argument("--to", required=True, type=Path, metavar="YML", help="file to write")
    parser.add_argument("--view_size", type=positive, help="side of the square views (default: 1025)")
    parser.add_argument("--classes", type=positive, help="number of classes (default: 80)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        import yaml

        from ppdet.engine.runtime import load_paddle

        load_paddle(announce=False)
        from ppdet.core.workspace import load_config
        from ppdet.utils.disk.files import atomic_path

        if arguments.to.exists():
            raise MigrationError(f"{arguments.to}: is there already: delete it, or give another name")
        options = read(arguments.source)
        if arguments.view_size:
            options["view_size"] = arguments.view_size
        cfg = {"_BASE_": [os.path.relpath(BASE, arguments.to.resolve().parent)], **convert(options)}
        cfg["weights"] = f"output/{arguments.to.stem}/model_final"
        if arguments.classes:
            cfg["num_classes"] = arguments.classes
        head = f'# From {arguments.source.name} of "FCOS in Pytorch".\n'
        with atomic_path(arguments.to) as temporary:
            temporary.write_text(head + yaml.safe_dump(cfg, sort_keys=False), encoding="utf-8")
            loaded = load_config(str(temporary))
            for component in ("LearningRate", "OptimizerBuilder", "ResNet"):
                loaded.create(component)
            loaded.component("TrainReader").create("sample_transforms")
        for name in options:
            if name in ADVICE:
                print(f"not carried over: {name}: {ADVICE[name]}")
            elif name not in TYPES:
                print(f"not carried over: {name}: unknown")
        each, images = cfg["TrainReader"]["batch_size"], cfg["auto_lr"]["base_batch_size"]
        if each * devices_of(options) != images:
            print(
                f"not carried over: {images} images on {devices_of(options)} devices: {each} on each; auto_lr follows"
            )
        print(f"wrote {arguments.to}; python tools/config.py -c {arguments.to} shows every value")


if __name__ == "__main__":
    run(main)
