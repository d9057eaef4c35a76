"""Running files of an exported folder that no engine of `BACKENDS` looks for, in ONNX Runtime, for `ppdet verify`."""

import filecmp
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ppdet.deploy.backends import BACKENDS, find_problem
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.fixed_count import OUTPUTS, open_fixed, rows_of_fixed_count, run_in_batches
from ppdet.deploy.precisions import OF_TENSORRT


def further_files(folder: Path) -> list[str]:
    """Return TensorRT's files, and those of Triton's models that are no copies of a file of the folder."""
    found = [file for file in OF_TENSORRT if (folder / file).is_file()]
    for path in sorted(folder.glob("triton/*/*/model.onnx")):
        if not copied_from(folder, path):
            found.append(path.relative_to(folder).as_posix())
    return found


def copied_from(folder: Path, path: Path) -> str:
    """Return the name of the folder's ONNX file that `path` is a copy of; "" if there is none."""
    return next((file.name for file in folder.glob("model*.onnx") if filecmp.cmp(file, path, shallow=False)), "")


def run_further_file(
    folder: Path, file: str, options: Options, check: SelfCheck
) -> tuple[SelfCheck, list[np.ndarray]] | None:
    """Run a file on the images of the self-check.

    TensorRT's files have a fixed size, to which the images are padded or cut. What is expected of them is what the
    first engine that runs the folder detects in these images, since the self-check has the detections of others.

    Returns:
        What is expected, and the outputs of a detector: rows (M, 6), and their number for each image. None if the file
        can be loaded, and no engine here runs the folder, to compare with.

    Raises:
        Exception: of the engines' own classes, if they cannot load or run a file.
    """
    if file not in OF_TENSORRT:
        return check, ONNXRuntime((folder / file).parent, options)(check.arrays)
    session = open_fixed(str(folder / file))
    batch_size, _, *size = next(value.shape for value in session.get_inputs() if value.name == "image")
    arrays = of_size(check.arrays, (size[0], size[1]))
    kind = next((kind for kind in BACKENDS.values() if not find_problem(kind, folder, options)), None)
    if kind is None:
        return None
    expected = SelfCheck.of(arrays, *kind(folder, options)(arrays)[:2], floor=check.floor, top=check.top)
    return expected, [*rows_of_fixed_count(run_in_batches(session, arrays, batch_size, OUTPUTS))]


def load_alone(path: Path) -> None:
    """Load an ONNX file in ONNX Runtime, which raises its own classes where it cannot."""
    import onnxruntime

    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def of_size(arrays: Mapping[str, np.ndarray], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the inputs of a graph with images (N, 3, H, W) of this height and width."""
    height, width = size
    image = arrays["image"][:, :, :height, :width]
    room = [(0, 0), (0, 0), (0, height - image.shape[2]), (0, width - image.shape[3])]
    im_shape = np.minimum(arrays["im_shape"], np.array(size, np.float32))
    return {**arrays, "image": np.pad(image, room), "im_shape": im_shape}
