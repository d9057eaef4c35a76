"""Detect in one image with an exported model that runs in Triton: `ppdet export … --format triton`."""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.core.command_line import make_parser, one_line_errors, run
from ppdet.deploy.detector import Detections
from ppdet.deploy.preprocess import Preprocess, class_list, read_infer_cfg
from ppdet.utils.class_thresholds import thresholds_of
from ppdet.utils.errors import DeployError


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--model_dir", type=Path, required=True, help="folder of the export")
    parser.add_argument("--image_file", required=True)
    parser.add_argument(
        "--url", type=address, default="localhost:8000", help="the server's HTTP address (default: %(default)s)"
    )
    parser.add_argument(
        "--threshold", type=float, help="lowest score (default: what infer_cfg.yml says, by class or 0.5)"
    )
    return parser.parse_args()


def address(text: str) -> str:
    """Type of an option whose value is HOST:PORT."""
    if not re.fullmatch(r"[^\s/]+:\d{1,5}", text):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, such as localhost:8000, not {text!r}")
    return text


def model_in(folder: Path, settings: dict) -> str:
    """Return the name of the model in the repository of an exported folder.

    Args:
        settings: content of infer_cfg.yml.

    Raises:
        DeployError: the folder has no repository, or its graph does not end with detections.
    """
    output = settings.get("output", "detections")
    if output != "detections":
        raise DeployError(
            f"{folder}: the graph ends with {output}, and this client is for detections: "
            "export it with export.post_process and export.nms true, export.benchmark false"
        )
    names = [path.parent.name for path in (folder / "triton").glob("*/config.pbtxt")]
    if len(names) != 1:
        raise DeployError(f"{folder}/triton: expected one model, found {len(names)}: `ppdet export --format triton`")
    return names[0]


def infer(url: str, model: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the rows (M, 6) of class, score and box that the server computes for these inputs.

    Raises:
        DeployError: tritonclient is not installed, or the server does not answer or refuses the request.
    """
    try:
        from tritonclient import http
    except (ImportError, RuntimeError):  # the second if it was installed without [http]
        raise DeployError("tritonclient is not installed: pip install 'tritonclient[http]'") from None

    inputs = [http.InferInput(name, array.shape, "FP32") for name, array in arrays.items()]
    for value, array in zip(inputs, arrays.values()):
        value.set_data_from_numpy(array)
    try:
        with http.InferenceServerClient(url) as client:
            rows = client.infer(model, inputs).as_numpy("bbox")
    except Exception as error:  # of tritonclient and of the libraries below it, which have classes of their own
        raise DeployError(f"--url {url}: no detections from Triton's model {model}: {error}") from None
    if rows is None:
        raise DeployError(f"--url {url}: Triton's model {model} has no output bbox: is it of this export?")
    return rows


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        settings = read_infer_cfg(arguments.model_dir)
        model = model_in(arguments.model_dir, settings)
        preprocess = Preprocess(settings)
        arrays = preprocess.join([preprocess.prepare(arguments.image_file)])
        rows = infer(arguments.url, model, arrays)
    class_names, _ = class_list(settings)
    thresholds = thresholds_of(settings, class_names) if arguments.threshold is None else arguments.threshold
    found = Detections.from_rows(rows, class_names).above(thresholds)
    for name, score, box in zip(found.names, found.scores, found.boxes):
        print(name, f"{score:.4f}", *(f"{side:.2f}" for side in box))


if __name__ == "__main__":
    run(main)
