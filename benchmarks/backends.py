"""Whether every engine detects what the trained model detects. Speed is not measured.

The configuration is exported to all formats, at its own image size and at 1.5 times that size. The detections of every
engine are compared with the trained model's one by one, and AP with that of `ppdet eval`. All engines must be
installed.
"""

import argparse
import tempfile
from pathlib import Path

from common import make_parser, report

EXAMPLES = """examples:
  python benchmarks/backends.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml \\
      -o weights=output/fcos_r18vd_fpn_bccd/model_final
"""
RUNS = [("paddle", "fp32"), ("paddle", "bf16"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="YAML file of the experiment")
    parser.add_argument("-o", "--opt", nargs="*", default=[], metavar="KEY=VALUE", help="override values of the file")
    parser.add_argument(
        "--images", type=int, default=50, help="number of images whose detections are compared one by one (default: 50)"
    )
    return parser.parse_args()


def larger(cfg: object) -> str:
    """Return an override that makes TestReader resize images to 1.5 times their size."""
    transforms = cfg.component("TestReader").create("sample_transforms")
    place, sides = next((i, t.target_size) for i, t in enumerate(transforms) if hasattr(t, "target_size"))
    return f"TestReader.sample_transforms.{place}.Resize.target_size={[side * 3 // 2 for side in sides]}"


def agreement(cfg: object, exported: Path, images: list[str], size: str) -> list[list]:
    """Return the rows of the first table: every engine, precision and batch size, compared with the trained model."""
    from ppdet.deploy import Detector
    from ppdet.deploy.compare import compare, tolerance_of, with_area
    from ppdet.engine.predictor import Predictor

    expected = [with_area(rows) for _, rows in sorted(Predictor(cfg).detect(images), key=lambda item: item[0])]
    nms = cfg.create(cfg["architecture"]).nms
    rows = []
    for backend, precision in RUNS:
        detector = Detector(exported, backend, precision=precision)
        for batch_size in (1, 4):
            found = [rows for _, rows in detector.detect(images, batch_size)]
            result = compare(expected, found, tolerance_of(precision), nms.score_threshold, nms.keep_top_k)
            rows.append([size, f"{backend} {precision}", batch_size, *result])
    return rows


def precision_of_all(cfg: object, exported: Path) -> list[list]:
    """Return the rows of the second table: AP, AP50 and AP75 on EvalDataset, of the model and of every engine."""
    from ppdet.deploy import Detector
    from ppdet.engine.build import build_trained_model
    from ppdet.engine.evaluator import Evaluator

    evaluator = Evaluator(cfg)
    tables = {"ppdet eval": evaluator(build_trained_model(cfg))}
    records = evaluator.dataset.records
    for backend, precision in RUNS:
        evaluator.metric.reset()
        for index, rows in Detector(exported, backend, precision=precision).detect([r["im_file"] for r in records]):
            evaluator.metric.update(rows, [len(rows)], records[index]["im_id"])
        tables[f"{backend} {precision}"] = evaluator.metric.compute()
    return [[name, *(100 * numbers[key] for key in ("AP", "AP50", "AP75"))] for name, numbers in tables.items()]


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    import logging

    from ppdet.core.workspace import load_config
    from ppdet.engine.build import build_dataset
    from ppdet.engine.export.graph import export_model

    logging.getLogger("ppdet").setLevel(logging.WARNING)
    cfg = load_config(arguments.config, arguments.opt)
    images = [record["im_file"] for record in build_dataset(cfg, "EvalDataset").records]
    compared = []
    with tempfile.TemporaryDirectory() as folder:
        own = export_model(cfg, f"{folder}/own", formats=["onnx", "openvino"])
        compared += agreement(cfg, own, images[: arguments.images], "own")
        other = load_config(arguments.config, [*arguments.opt, larger(cfg)])
        exported = export_model(other, f"{folder}/larger", formats=["onnx", "openvino"])
        compared += agreement(other, exported, images[: arguments.images], "larger")
        numbers = precision_of_all(cfg, own)
    header = ["size", "engine", "batch", "detections", "without a counterpart", "scores within", "boxes within, px"]
    report(f"Detections compared with the trained model's, {arguments.images} images", header, compared, arguments.json)
    report(f"COCO numbers of {len(images)} images", ["engine", "AP", "AP50", "AP75"], numbers)


if __name__ == "__main__":
    main()
