"""Sizes and numbers of nodes of ONNX files before and after the simplifier, for a network with random weights.

The graphs are made by the functions of an export. The float16 file and that for TensorRT are made of simplified graphs,
so that there is nothing to compare them with.
"""

import argparse
import collections
import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common import ROOT
from export_matrix import with_tables

if TYPE_CHECKING:
    import onnx

    from ppdet.core.config import Config

EXAMPLES = """examples:
  python benchmarks/simplifier.py                            # FCOS R18-vd with 3 classes
  python benchmarks/simplifier.py --write docs/FORMATS.md    # replaces the page's table
  python benchmarks/simplifier.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml --size 800 1344
"""
CONFIG = ROOT / "configs" / "fcos" / "fcos_r18vd_fpn_bccd.yml"
MARKS = ("<!-- simplifier: begin -->", "<!-- simplifier: end -->")
KINDS = ("Constant", "Identity", "BatchNormalization", "Cast")
HEADER = ("file", "simplifier", "nodes", *KINDS, "MB")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", "--config", type=Path, default=CONFIG, metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=(320, 448),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the images of model_tensorrt.onnx (default: 320 448)",
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the table between the page's marks")
    return parser.parse_args()


def graphs(cfg: "Config", size: tuple[int, int], folder: Path) -> dict[tuple[str, str], "onnx.ModelProto"]:
    """Return the graphs of an export by the names of their files, and "before" or "after".

    Args:
        size: height and width of the images of model_tensorrt.onnx.
        folder: an empty folder for intermediate files.
    """
    import onnx

    from ppdet.engine.export.onnx import epsilon_of, graph_in, to_onnx
    from ppdet.engine.export.onnx_graph import half_precision, simplified
    from ppdet.engine.export.static_graph import ExportedDetector, graph_inputs, save_graph
    from ppdet.engine.export.tensorrt_onnx import FILE, write_tensorrt

    model = cfg.create(cfg["architecture"])
    detector = ExportedDetector(model, normalizer=None, output="candidates")
    detector.eval()
    save_graph(detector, graph_inputs(None, "detections", None), folder)
    graph, epsilon = graph_in(folder), epsilon_of(model)
    before = to_onnx(graph, model.nms, epsilon, simplify=False)
    after = simplified(copy.deepcopy(before))
    write_tensorrt(to_onnx(graph, None, epsilon, lengths=(1, 3, *size)), folder / FILE, model.nms, {})
    return {
        ("model.onnx", "before"): before,
        ("model.onnx", "after"): after,
        ("model_fp16.onnx", "after"): half_precision(after),
        (FILE, "after"): onnx.load(str(folder / FILE)),
    }


def table(models: Mapping[tuple[str, str], "onnx.ModelProto"]) -> str:
    """Return a Markdown table with a row for each graph; what loops have inside is not counted."""
    rows: list[Sequence[object]] = [HEADER, ["---"] * len(HEADER)]
    for (name, when), model in models.items():
        counts = collections.Counter(node.op_type for node in model.graph.node)
        size = f"{model.ByteSize() / 1e6:.1f}"
        rows.append([name, when, f"{counts.total():,}", *(counts[kind] for kind in KINDS), size])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    from ppdet.core.workspace import load_config

    cfg = load_config(arguments.config, ["pretrain_weights=null"])
    with tempfile.TemporaryDirectory() as folder:
        text = table(graphs(cfg, tuple(arguments.size), Path(folder)))
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(with_tables(page, text, MARKS), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
