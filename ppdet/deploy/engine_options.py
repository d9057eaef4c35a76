"""Command line options and option types of commands that run exported models: serve, batch and detect."""

import argparse
import math
from collections.abc import Callable

from ppdet.core.command_line import add_import_argument
from ppdet.deploy.precisions import PRECISIONS


def number_between(least: float, most: float = math.inf) -> Callable[[str], float]:
    """The type of an option that takes a number from `least` to `most`, such as `number_between(0, 1)` for a score."""
    limits = f"from {least:g} to {most:g}" if most < math.inf else f"of at least {least:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            raise argparse.ArgumentTypeError(f"expected a number {limits}, not {text[:40]!r}")
        return value

    return parse


def whole_number_between(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        # Python does not read numbers of thousands of digits.
        digits = text.strip() if text.isascii() and text.strip().isdigit() and len(text) <= 20 else "-1"
        if not least <= int(digits) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text[:40]!r}")
        return int(digits)

    return parse


def add_engine_arguments(parser: argparse.ArgumentParser, *, threads: int | None = None) -> None:
    """Add --model_dir, --import, and the options that choose the engine.

    These are --backend, --device, --precision and --cpu_threads.

    Args:
        threads: default of --cpu_threads; None for all processors.
    """
    add = parser.add_argument
    add("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    add_import_argument(parser)
    group = parser.add_argument_group("engine")
    add = group.add_argument
    add("--backend", default="auto", help="paddle, onnxruntime, openvino, or auto, the fastest of them (default: auto)")
    add("--device", type=str.lower, default="cpu", help="cpu, gpu, gpu:1, xpu, npu, ... (default: cpu)")
    add("--precision", choices=PRECISIONS, help="default: the export's")
    shown = threads or "all processors"
    add(
        "--cpu_threads",
        type=whole_number_between(1, 1024),
        default=threads,
        metavar="N",
        help=f"of the model (default: {shown})",
    )


def add_slice_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --slice_infer and its options; `ppdet.deploy.slicing.slicing_of` reads and checks them."""
    group = parser.add_argument_group("small objects in large images (docs/SLICING.md)")
    group.add_argument(
        "--slice_infer", action="store_true", help="detect in overlapping windows of each image and merge the boxes"
    )
    group.add_argument(
        "--slice_size", nargs=2, type=int, metavar=("H", "W"), help="size of a window in pixels (default: 640 640)"
    )
    group.add_argument(
        "--overlap_ratio",
        nargs=2,
        type=float,
        metavar=("H", "W"),
        help="part of a window that its neighbor covers too (default: 0.25 0.25)",
    )
    group.add_argument(
        "--combine_method",
        metavar="METHOD",
        help="how boxes of different windows are merged: nms, nmm or concat (default: nms)",
    )
    group.add_argument(
        "--match_threshold", type=float, metavar="X", help="boxes with at least this overlap match (default: 0.6)"
    )
    group.add_argument(
        "--match_metric",
        metavar="METRIC",
        help="overlap is measured as iou, or as ios: intersection over the smaller box (default: ios)",
    )


def add_tta_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --tta and its options; `ppdet.deploy.tta.tta_of` reads and checks them."""
    group = parser.add_argument_group("test-time augmentation (docs/TTA.md)")
    group.add_argument(
        "--tta", action="store_true", help="detect in several views of each image, and merge the boxes: slower, better"
    )
    group.add_argument(
        "--tta_scales",
        nargs="+",
        type=float,
        metavar="SCALE",
        help="factors of the size to which images are resized (default: 0.8 1 1.2)",
    )
    group.add_argument(
        "--tta_flip",
        metavar="FLIP",
        help="flip each view too: none, horizontal, vertical or both (default: horizontal)",
    )
    group.add_argument(
        "--tta_merge", metavar="METHOD", help="weighted: weighted boxes fusion, or nms (default: weighted)"
    )
    group.add_argument(
        "--tta_iou",
        type=float,
        metavar="X",
        help="boxes of different views with an IoU above this are merged (default: 0.6 for weighted, the model's own "
        "NMS for nms)",
    )
