"""Detect in one image with an exported model that runs in Triton: `ppdet export … --format triton`."""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.deploy.detector import Detections
from ppdet.deploy.preprocess import Preprocess, class_list, read_infer_cfg


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", type=Path, required=True, help="folder of the export")
    parser.add_argument("--image_file", required=True)
    parser.add_argument("--url", default="localhost:8000", help="the server's HTTP address (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score (default: %(default)s)")
    return parser.parse_args()


def infer(url: str, model: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the rows (M, 6) of class, score and box that the server computes for these inputs."""
    from tritonclient import http  # pip install 'tritonclient[http]'

    inputs = [http.InferInput(name, array.shape, "FP32") for name, array in arrays.items()]
    for value, array in zip(inputs, arrays.values()):
        value.set_data_from_numpy(array)
    with http.InferenceServerClient(url) as client:
        return client.infer(model, inputs).as_numpy("bbox")


def main() -> None:
    arguments = parse_arguments()
    settings = read_infer_cfg(arguments.model_dir)
    preprocess = Preprocess(settings)
    arrays = preprocess.join([preprocess.prepare(arguments.image_file)])
    [model] = (path.name for path in (arguments.model_dir / "triton").iterdir())
    rows = infer(arguments.url, model, arrays)
    found = Detections.from_rows(rows[rows[:, 1] >= arguments.threshold], class_list(settings)[0])
    for name, score, box in zip(found.names, found.scores, found.boxes):
        print(name, f"{score:.4f}", *(f"{side:.2f}" for side in box))


if __name__ == "__main__":
    main()
