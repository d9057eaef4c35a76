"""Detection: the network, decoding and suppression, as a dynamic graph and exported to Paddle Inference.

Weights are random. The bias of the class scores is set so that the wanted number of scores passes the threshold, as in
a trained network; their boxes are noise, so that suppression leaves more of them than usual. The limit of each path
is the network alone, on the same path.
"""

import argparse
import tempfile
from pathlib import Path

from common import ROOT, make_parser, medians, report

EXAMPLES = """examples:
  python benchmarks/inference.py                                   # R50 and R18-vd, one image of 896x1152
  python benchmarks/inference.py --model r18vd --height 320 --width 448 --batch 4
  python benchmarks/inference.py --bfloat16 --candidates 3000
"""
CONFIG = ROOT / "configs" / "fcos" / "fcos_r50_fpn_1x_coco.yml"
MODELS = {"r50": [], "r18vd": ["ResNet.depth=18", "ResNet.variant=d"]}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--model", choices=MODELS, nargs="+", default=list(MODELS), help="default: both")
    parser.add_argument("--height", type=int, default=896, help="default: 896")
    parser.add_argument("--width", type=int, default=1152, help="default: 1152")
    parser.add_argument("--batch", type=int, default=1, help="images (default: 1)")
    parser.add_argument("--candidates", type=int, default=300, help="scores above the threshold (default: 300)")
    parser.add_argument("--bfloat16", action="store_true", help="oneDNN computes in bfloat16 in the exported network")
    return parser.parse_args()


def set_candidates(model: object, images: object, count: int) -> int:
    """Move the bias of the class scores until about `count` scores pass the threshold; return how many do."""
    import paddle

    threshold = model.fcos_head.nms.score_threshold
    low, high = -20.0, 20.0
    bias = model.fcos_head.fcos_head_cls.bias
    maps = model.predict_maps(images)
    logits = [level - bias.reshape([1, -1, 1, 1]) for level in maps.logits]
    for _ in range(30):
        middle = (low + high) / 2
        _, scores = model.fcos_head.decode(maps._replace(logits=[level + middle for level in logits]))
        passing = int((scores > threshold).sum())
        low, high = (middle, high) if passing < count else (low, middle)
    bias.set_value(paddle.full_like(bias, low))
    return passing


def exported(options: list[str], weights: Path, folder: Path, bfloat16: bool) -> object:
    """The exported network in Paddle Inference."""
    from ppdet.core.workspace import load_config
    from ppdet.deploy.backends import load_backend
    from ppdet.deploy.backends.base import Options
    from ppdet.engine.export import export_model

    cfg = load_config(str(CONFIG), [*options, f"weights={weights}"])
    path = export_model(cfg, str(folder))
    return load_backend(path, "paddle", Options(precision="bf16" if bfloat16 else "fp32"))


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> list[list]:
    """Rows of the table for one model."""
    import numpy as np
    import paddle

    from ppdet.core.workspace import load_config

    options = ["pretrain_weights=null", *MODELS[name]]
    model = load_config(str(CONFIG), options).create("FCOS")
    model.eval()
    shape = (arguments.batch, 3, arguments.height, arguments.width)
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    ones = np.ones((arguments.batch, 2), np.float32)
    arrays = {"image": images, "scale_factor": ones, "im_shape": ones * np.float32(shape[2:])}
    batch = {key: paddle.to_tensor(value) for key, value in arrays.items()}
    passing = set_candidates(model, batch["image"], arguments.candidates * arguments.batch)
    weights = folder / f"{name}.pdparams"
    paddle.save(model.state_dict(), str(weights))
    whole = exported(options, weights, folder / "whole", arguments.bfloat16)
    bare = exported([*options, "export.benchmark=true"], weights, folder / "bare", arguments.bfloat16)
    maps = model.predict_maps(batch["image"])
    seconds = medians(
        {
            "dynamic": lambda: model(batch),
            "dynamic, network": lambda: model.predict_maps(batch["image"]),
            "post-processing": lambda: model.detect(maps, batch["scale_factor"]),
            "all locations": lambda: model.fcos_head.nms(*model.decode(maps, batch["scale_factor"])),
            "exported": lambda: whole(arrays),
            "exported, network": lambda: bare(arrays),
        },
        arguments.repeat,
    )
    kinds = {"dynamic": "dynamic, network", "exported": "exported, network"}
    kinds.update({key: key for key in list(kinds.values())})
    rows = [
        [name, path, passing, 1e3 * seconds[path], arguments.batch / seconds[path], seconds[path] / seconds[limit]]
        for path, limit in sorted(kinds.items())
    ]
    for path, title in (("post-processing", "candidates"), ("all locations", "all locations")):
        share = seconds[path] / seconds["exported, network"]
        label = f"decoding and suppression of {title}"
        rows.append([name, label, passing, 1e3 * seconds[path], arguments.batch / seconds[path], share])
    return rows


def main() -> None:
    arguments = parse_arguments()
    from ppdet.engine.runtime import load_paddle

    load_paddle(announce=False)
    import logging

    import paddle

    logging.getLogger("ppdet").setLevel(logging.WARNING)
    with paddle.no_grad(), tempfile.TemporaryDirectory() as folder:
        rows = [row for name in arguments.model for row in measure(name, arguments, Path(folder))]
    kind = "bfloat16" if arguments.bfloat16 else "float32"
    title = f"Detection, {arguments.batch} x {arguments.height}x{arguments.width}, exported network in {kind}"
    header = ["model", "path", "scores above threshold", "ms", "images/s", "ratio to the network alone"]
    report(title, header, rows, arguments.json)


if __name__ == "__main__":
    main()
