"""Time of detection: network, decoding and NMS, in Python and exported, in every engine that is installed.

The weights are random. The bias of the class logits is set so that --candidates scores pass the threshold, as in a
trained network. Their boxes are random too, so NMS keeps more of them than usual. All times are compared with that of
the exported network alone in Paddle Inference.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from common import ROOT, make_parser, medians, report

EXAMPLES = """examples:
  python benchmarks/inference.py                                   # R50 and R18-vd, one image of 896x1152
  python benchmarks/inference.py --model r18vd --height 320 --width 448 --batch 4
  python benchmarks/inference.py --model r50 r34 r18vd small light --height 480 --width 640
  python benchmarks/inference.py --model r50 --no-onednn           # also Paddle without oneDNN: half a minute per run
"""


def head(channels: int) -> list[str]:
    """Return overrides for a head with half as many convolutions, of so many channels."""
    return [f"FCOSHead.fcos_feat={{feat_in: {channels}, feat_out: {channels}, num_convs: 2}}"]


CONFIG = ROOT / "configs" / "fcos" / "fcos_r50_fpn_1x_coco.yml"
R18VD = ["ResNet.depth=18", "ResNet.variant=d"]
MODELS = {
    "r50": [],
    "r34": ["ResNet.depth=34"],
    "r18vd": R18VD,
    "small": [*R18VD, "FPN.out_channel=128", *head(128)],  # as in fcos_r18vd_small
    "light": [*R18VD, "ResNet.width_mult=0.5", "FPN.out_channel=64", *head(64)],  # as in fcos_r18vd_light
}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--model", choices=MODELS, nargs="+", default=["r50", "r18vd"], help="networks to measure (default: r50 r18vd)"
    )
    parser.add_argument("--height", type=int, default=896, help="height of the images in pixels (default: 896)")
    parser.add_argument("--width", type=int, default=1152, help="width of the images in pixels (default: 1152)")
    parser.add_argument("--batch", type=int, default=1, help="images per batch (default: 1)")
    parser.add_argument(
        "--candidates", type=int, default=300, help="number of scores per image above the threshold (default: 300)"
    )
    parser.add_argument(
        "--no-onednn", action="store_true", help="measure Paddle without oneDNN too, with all threads and with one"
    )
    return parser.parse_args()


def set_candidates(model: object, images: object, count: int) -> int:
    """Set the bias of the class logits so that about `count` scores pass the threshold; return how many do."""
    import paddle

    threshold = model.nms.score_threshold
    low, high = -20.0, 20.0
    bias = model.fcos_head.fcos_head_cls.bias
    maps = model.predict_maps(images)
    logits = [level - bias.reshape([1, -1, 1, 1]) for level in maps.logits]
    for _ in range(30):
        middle = (low + high) / 2
        scores = model.fcos_head.decode(maps._replace(logits=[level + middle for level in logits])).scores
        passing = int((scores > threshold).sum())
        low, high = (middle, high) if passing < count else (low, middle)
    bias.set_value(paddle.full_like(bias, low))
    return passing


def engines(path: Path, no_onednn: bool) -> dict[str, object]:
    """Load the exported folder in every engine and precision that can run it here; return them by name."""
    from ppdet.deploy.backends import BACKENDS, find_problem, load_backend
    from ppdet.deploy.backends.base import Options
    from ppdet.deploy.precisions import PRECISIONS

    runs = {
        f"{name} {precision}": (name, Options(precision=precision)) for name in BACKENDS for precision in PRECISIONS
    }
    if no_onednn:
        runs["paddle fp32, no oneDNN"] = ("paddle", Options(onednn=False))
        runs["paddle fp32, no oneDNN, 1 thread"] = ("paddle", Options(onednn=False, threads=1))
    usable = {key: run for key, run in runs.items() if not find_problem(BACKENDS[run[0]], path, run[1])}
    return {key: load_backend(path, *run) for key, run in usable.items()}


def exported(name: str, options: list[str], folder: Path) -> tuple[Path, Path]:
    """Export the whole detector in all formats, and the network alone, which ends with maps; return both folders."""
    from ppdet.core.workspace import load_config
    from ppdet.engine.export.graph import export_model
    from ppdet.utils.extras import absent_packages

    formats = [kind for kind in ("onnx", "openvino") if not absent_packages(kind)]
    whole = export_model(load_config(str(CONFIG), options), str(folder / f"{name}_whole"), formats=formats)
    bare = load_config(str(CONFIG), [*options, "export.benchmark=true"])
    return whole, export_model(bare, str(folder / f"{name}_bare"))


def quantize(folder: Path, batches: list[dict]) -> None:
    """Write the files in int8 of an exported folder; what is detected with them does not matter here."""
    from ppdet.engine.export.accuracy import Calibration
    from ppdet.engine.export.int8 import write_int8
    from ppdet.utils.extras import absent_packages

    files = {"onnx": "model.onnx"} if absent_packages("int8") else {"onnx": "model.onnx", "openvino": "model.xml"}
    write_int8(
        folder, [kind for kind, name in files.items() if (folder / name).exists()], Calibration(batches, None, 0)
    )


def megabytes(engine: object) -> float:
    """Return the size of the files that an engine loaded: graph and weights."""
    graph = engine.find(engine.folder, engine.options.precision)
    ends = {".xml": ".bin", ".json": ".pdiparams", ".pdmodel": ".pdiparams"}  # an ONNX file has both
    files = {graph, graph.with_suffix(ends.get(graph.suffix, graph.suffix))}
    return sum(path.stat().st_size for path in files) / 1e6


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> list[list]:
    """Return the rows of the table for one model."""
    import numpy as np
    import paddle
    from PIL import Image

    from ppdet.core.workspace import load_config
    from ppdet.deploy import Detector

    size = f"TestReader.sample_transforms.1.Resize.target_size=[{arguments.height},{arguments.width}]"
    options = ["pretrain_weights=null", size, *MODELS[name]]
    model = load_config(str(CONFIG), options).create("FCOS")
    model.eval()
    shape = (arguments.batch, 3, arguments.height, arguments.width)
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.height // 8, arguments.width // 8, 3), dtype=np.uint8)
    photo = folder / "photo.jpg"
    Image.fromarray(pixels).resize((arguments.width, arguments.height)).save(photo, quality=90)
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    ones = np.ones((arguments.batch, 2), np.float32)
    arrays = {"image": images, "scale_factor": ones, "im_shape": ones * np.float32(shape[2:])}
    batch = {key: paddle.to_tensor(value) for key, value in arrays.items()}
    passing = set_candidates(model, batch["image"], arguments.candidates * arguments.batch)
    weights = folder / f"{name}.pdparams"
    paddle.save(model.state_dict(), str(weights))
    whole, bare = exported(name, [*options, f"weights={weights}"], folder)
    quantize(whole, [{key: value[:1] for key, value in arrays.items()}])
    maps = model.predict_maps(batch["image"])
    stages = {
        "dynamic, network alone": lambda: model.predict_maps(batch["image"]),
        "dynamic": lambda: model(batch),
        "post-processing of candidates": lambda: model.detect(maps, batch["scale_factor"], batch["im_shape"]),
        "post-processing of all locations": lambda: model.nms(*model.decode(maps, batch["scale_factor"])),
    }
    stages["paddle fp32, network alone"] = partial(engines(bare, False)["paddle fp32"], arrays)
    sizes = {}
    for key, engine in engines(whole, arguments.no_onednn).items():
        stages[key] = partial(engine, arrays)
        sizes[key] = megabytes(engine)
        if key.endswith("fp32"):
            detector = Detector(whole, engine.name)
            stages[f"{key}, JPEG to detections"] = partial(detector.predict, [str(photo)] * arguments.batch)
    seconds = medians(stages, arguments.repeat)
    limit = seconds["paddle fp32, network alone"]
    return [
        [name, key, passing, 1e3 * value, arguments.batch / value, value / limit, sizes.get(key, "-")]
        for key, value in seconds.items()
    ]


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    import logging

    import paddle

    logging.getLogger("ppdet").setLevel(logging.WARNING)
    with paddle.no_grad(), tempfile.TemporaryDirectory() as folder:
        rows = [row for name in arguments.model for row in measure(name, arguments, Path(folder))]
    title = f"Detection, {arguments.batch} x {arguments.height}x{arguments.width}"
    header = ["model", "path", "scores above threshold", "ms", "images/s", "ratio to paddle fp32, network alone", "MB"]
    report(title, header, rows, arguments.json)


if __name__ == "__main__":
    main()
