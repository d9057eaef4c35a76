"""Before an export is called good: the graph must detect what the trained model detects."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import paddle
from paddle import nn

from ppdet.core.config import Config
from ppdet.data.transforms.decode import read_image
from ppdet.deploy.backends import BACKENDS, find_problem
from ppdet.deploy.backends.base import Options, last_line
from ppdet.deploy.compare import SelfCheck, compare_candidates, tolerance_of
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_dataset
from ppdet.utils import device
from ppdet.utils.disk.files import naming
from ppdet.utils.errors import DataError, DeployError, UserError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
LONG_SIDE = 448  # pixels of the check's images: enough for detections, little enough to be quick at every start
TRIED_IMAGES = 5  # until the model detects something in one
# Of the second image: both sides differ from the first one's, and so does the scale.
SECOND_SHARE, SECOND_SCALE = (0.6, 0.8), (0.5, 0.75)


class ExportError(UserError, ValueError):
    """An exported graph that is not the trained model; the message says how far they are apart."""


def check_arrays(preprocess: Preprocess, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What a graph takes of a batch of two: the image, and the mirror image of a part of it at another scale.

    Args:
        pixels: (H, W, 3) RGB uint8.
    """
    height, width = pixels.shape[:2]
    room = preprocess.fixed_size or (LONG_SIDE, LONG_SIDE)
    scale = min(room[0] / height, room[1] / width)
    first = cv2.resize(pixels, (max(32, int(width * scale)), max(32, int(height * scale))))
    rows, columns = (max(32, int(side * share)) for side, share in zip(first.shape, SECOND_SHARE))
    second = np.ascontiguousarray(first[:rows, :columns][:, ::-1])
    samples = [preprocess.prepare(image, resize=False) for image in (first, second)]
    samples[1]["scale_factor"] = np.array(SECOND_SCALE, np.float32)
    return preprocess.join(samples)


def check_images(cfg: Config, path: str | None) -> Iterator[np.ndarray]:
    """Pixels (H, W, 3) to compare on: of the file at `path`, of EvalDataset's first images with boxes, or drawn."""
    if path:
        yield read_image(path)
        return
    try:
        dataset = build_dataset(cfg, "EvalDataset")
        labelled = [record for record in dataset.records if len(record.get("gt_bbox", ()))] or dataset.records
        first = read_image(labelled[0]["im_file"])
    except (DataError, ValueError, OSError, IndexError) as error:
        logger.info("export is checked on a drawn image: EvalDataset has none (%s)", error)
        yield drawn_image()
        return
    yield first
    for record in labelled[1:TRIED_IMAGES]:
        try:
            yield read_image(record["im_file"])
        except (DataError, OSError):  # the first one was read; evaluation names those that cannot be
            continue


def drawn_image() -> np.ndarray:
    """Shapes on noise, for data sets that are not here."""
    image = np.random.default_rng(0).integers(90, 160, (320, 448, 3), dtype=np.uint8)
    cv2.rectangle(image, (40, 60), (180, 200), (20, 20, 230), -1)
    cv2.circle(image, (300, 150), 70, (230, 20, 20), -1)
    cv2.circle(image, (220, 260), 30, (240, 240, 60), -1)
    return image


@contextmanager
def on_cpu() -> Iterator[None]:
    """Within, Paddle computes on the CPU, whatever device this process has.

    What an export is compared with has to be exact: a GPU's float32 may be TF32, and a self-check that one wrote would
    have errors of its own.
    """
    before = device.name()
    paddle.set_device("cpu")
    try:
        yield
    finally:
        paddle.set_device(before)


@paddle.no_grad()
def expected_outputs(detector: nn.Layer, arrays: dict[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    """What the trained model, as a dynamic graph, puts out for the arrays that the exported one takes."""
    outputs = detector(**{name: paddle.to_tensor(arrays[name]) for name in names})
    return [output.numpy() for output in outputs]


def self_check(
    detector: nn.Layer, preprocess: Preprocess, images: Iterable[np.ndarray], names: Sequence[str], precision: str
) -> tuple[SelfCheck, list[np.ndarray] | None]:
    """What the trained model detects in the first of the images that has detections to compare, in float32 and in
    `precision`; and where none has, its boxes (N, R, 4) and scores (N, C, R) of all locations too, else None.
    """
    nms = detector.model.nms
    best, reached = None, -1
    for pixels in images:
        arrays = check_arrays(preprocess, pixels)
        outputs = expected_outputs(detector, arrays, names)
        check = SelfCheck.of(arrays, *outputs, floor=nms.score_threshold, top=nms.keep_top_k)
        comparable = sum(check.comparable(kind) > 0 for kind in ("fp32", precision))
        if comparable == 2:
            return check, None
        if comparable > reached:
            best, reached = check, comparable
    logger.warning(
        "the model detects too little in the images of the check to compare engines by: all locations are compared "
        "before suppression; an image with detections can be named with --check_image"
    )
    detector.output = "locations"
    candidates = expected_outputs(detector, best.arrays, names)
    detector.output = "detections"
    return best, candidates


def verify(folder: Path, backend: str, precision: str, check: SelfCheck) -> None:
    """Run the exported graph in an engine and compare its detections; the log says how far they are apart.

    Raises:
        ExportError: they differ, or the engine cannot run here or cannot run the graph.
    """
    where = f"{backend}, {precision}"
    options = Options(precision=precision)
    problem = find_problem(BACKENDS[backend], folder, options)
    if problem:
        raise ExportError(f"the export cannot be checked in {where}: {problem}")
    try:
        result = check.verify(BACKENDS[backend](folder, options), precision)
    except DeployError as error:
        raise ExportError(f"the export is not good, {where}: {error}") from None
    except Exception as error:  # of an engine's own classes
        raise ExportError(f"the export is not good, {where}: it cannot run: {last_line(error)}") from None
    logger.info("checked in %s: %s", where, result)


def verify_candidates(folder: Path, backend: str, precision: str, arrays: dict, expected: Sequence[np.ndarray]) -> None:
    """The same for a model that detects nothing, of its boxes (N, R, 4) and scores (N, C, R) before suppression.

    Args:
        folder: of the graph that ends with them.

    Raises:
        ExportError: they differ, or the engine cannot run the graph.
    """
    where, tolerance = f"{backend}, {precision}", tolerance_of(precision)
    try:
        result = compare_candidates(
            expected, BACKENDS[backend](folder, Options(precision=precision))(arrays), tolerance
        )
    except Exception as error:  # of an engine's own classes
        raise ExportError(f"the export is not good, {where}: {last_line(error)}") from None
    if result.strays > tolerance.strays * result.count:
        raise ExportError(f"the export is not good, {where}: it computes something else than the model: {result}")
    logger.info("checked in %s: %s", where, result)


def verify_arrays(folder: Path, arrays: dict[str, np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """The same for a graph that ends before suppression: every number of every output.

    Raises:
        ExportError: a number differs by more than 1e-3, or a thousandth of itself.
    """
    outputs = BACKENDS["paddle"](folder, Options())(arrays)
    if len(outputs) != len(expected):
        raise ExportError(f"the export is not good: it has {len(outputs)} outputs, the model {len(expected)}")
    apart = 0.0
    for ours, theirs in zip(outputs, expected):
        if ours.shape != theirs.shape:
            raise ExportError(f"the export is not good: an output is of shape {ours.shape}, the model's {theirs.shape}")
        # np.maximum, unlike max, keeps what is not a number.
        apart = float(np.maximum(apart, (np.abs(ours - theirs) / (1 + np.abs(theirs))).max(initial=0)))
    if not apart <= 1e-3:
        raise ExportError(f"the export is not good: outputs differ by {apart:.1e}, of the number itself above 1")
    logger.info("checked: %d outputs, the same within %.1e", len(expected), apart)


@contextmanager
def beside_earlier(folder: Path) -> Iterator[Path]:
    """A temporary folder within `folder`, removed in the end. Errors name `folder`, which is what the user knows."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix=".export", dir=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    with naming(folder), temporary as name:
        try:
            yield Path(name)
        except (DeployError, ExportError) as error:
            raise type(error)(str(error).replace(name, str(folder))) from None
