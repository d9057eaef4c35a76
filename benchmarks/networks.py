"""AP, speed and size of trained detectors in every engine and precision: which network to take.

Every run is exported in float32 and in int8, as by `ppdet export --format onnx openvino --precision int8`. AP is
computed on its EvalDataset, of which all images are used, up to 500. The time is that of the model for the first one:
network, decoding and NMS. All engines of all runs take turns, and the limit is the first row. A precision that the
processor lacks has no row.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import make_parser, medians, report
from inference import engines, megabytes

EXAMPLES = """examples:
  python benchmarks/networks.py output/fcos_r18vd_small output/fcos_r18vd_light
  python benchmarks/networks.py output/fcos_r18vd_small --max_drop 100       # int8 of all layers, whatever it costs
"""
HEADER = ("network", "engine and precision", "AP", "ms", "ratio to the first", "MB")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of training runs")
    parser.add_argument(
        "-o", "--opt", nargs="*", default=[], metavar="KEY=VALUE", help="settings to change in all runs"
    )
    parser.add_argument(
        "--calibration", type=int, default=300, help="most images of TrainDataset that int8 is shown (default: 300)"
    )
    parser.add_argument(
        "--max_drop", type=float, default=0.5, help="AP that int8 may lose before layers stay in float32 (default: 0.5)"
    )
    return parser.parse_args()


def loaded(run: str, folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Export a run to a folder; return its engines by name and precision, and its validation images."""
    from ppdet.deploy import Detector
    from ppdet.engine.export.accuracy import ValidationSet
    from ppdet.engine.export.graph import export_model
    from ppdet.engine.runs.trained import trained_config

    cfg = trained_config(argparse.Namespace(run=run, config=None, opt=arguments.opt), "TestReader")
    exported = export_model(
        cfg,
        folder,
        formats=["onnx", "openvino"],
        precision="int8",
        calibration=arguments.calibration,
        max_drop=arguments.max_drop,
    )
    return engines(exported, False), ValidationSet(cfg, Detector(exported).preprocess, None)


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    stages, numbers = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for number, run in enumerate(arguments.runs):
            found, validation = loaded(run, Path(folder, str(number)), arguments)
            for name, engine in found.items():
                key = (Path(run).name, name)
                stages[key] = partial(engine, validation.images[0])
                ap = 100 * validation.average_precision(engine, f"{key[0]}, {name}")
                numbers[key] = (ap, megabytes(engine))
        seconds = medians(stages, arguments.repeat)
    limit = next(iter(seconds.values()))
    rows = [[*key, numbers[key][0], 1e3 * value, value / limit, numbers[key][1]] for key, value in seconds.items()]
    report(f"{len(arguments.runs)} networks", HEADER, rows, arguments.json)


if __name__ == "__main__":
    main()
