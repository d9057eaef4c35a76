"""Comparing exported graphs with the trained model before an export is finished."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import paddle

from ppdet.core.config import Config
from ppdet.data.transforms.decode import read_image
from ppdet.deploy.backends import BACKENDS, find_problem
from ppdet.deploy.backends.base import Options, last_line
from ppdet.deploy.compare import EXACT, SelfCheck, compare_candidates, tolerance_of
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_dataset
from ppdet.utils import device
from ppdet.utils.disk.files import naming
from ppdet.utils.errors import DataError, DeployError, UserError
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.export.static_graph import ExportedDetector

logger = get_logger(__name__)
LONG_SIDE = 448  # pixels of the check's images: enough for detections, and quick, as "auto" runs it at every start
UNPADDED = 128  # images that are not padded have sides that are multiples of it, and of any network's stride
MAX_IMAGES = 5  # number of images tried until one has detections
# The second image of the check: its share of the first one's height and width, and its scale_factor.
SECOND_SHARE, SECOND_SCALE = (0.6, 0.8), (0.5, 0.75)
LARGEST_DIFFERENCE = 1e-3  # largest accepted difference of maps, see `difference_of_maps`
BOXES = EXACT._replace(share=1e-3)  # how much boxes and scores before NMS may differ

Arrays = dict[str, np.ndarray]  # inputs of a graph by name


class ExportError(UserError, ValueError):
    """An exported graph does not compute what the trained model does; the message says how much they differ."""


def check_arrays(preprocess: Preprocess, pixels: np.ndarray) -> Arrays:
    """Return a graph's inputs for a batch of two: the image, and a part of it, mirrored and at another scale.

    If preprocessing does not pad, images of a batch have one size: then the second one is the whole image, mirrored.

    Args:
        pixels: (H, W, 3) RGB uint8.
    """
    height, width = pixels.shape[:2]
    room = preprocess.fixed_size or (LONG_SIDE, LONG_SIDE)
    scale = min(room[0] / height, room[1] / width)
    first = cv2.resize(pixels, (max(32, int(width * scale)), max(32, int(height * scale))))
    rows, columns = (max(32, int(side * share)) for side, share in zip(first.shape, SECOND_SHARE))
    if preprocess.padded((1, 1)) == (1, 1):
        rows, columns = (max(side // UNPADDED * UNPADDED, UNPADDED) for side in first.shape[:2])
        first = cv2.resize(pixels, (columns, rows))
    second = np.ascontiguousarray(first[:rows, :columns][:, ::-1])
    samples = [preprocess.prepare(image, resize=False) for image in (first, second)]
    samples[1]["scale_factor"] = np.array(SECOND_SCALE, np.float32)
    return preprocess.join(samples)


def check_images(cfg: Config, path: str | None) -> Iterator[np.ndarray]:
    """Yield pixels (H, W, 3) for the comparison.

    Args:
        path: an image file. None: the first images of EvalDataset with boxes, or a synthetic image if it has none.
    """
    if path:
        yield read_image(path)
        return
    found, problem = False, "it has no images"
    try:
        dataset = build_dataset(cfg, "EvalDataset")
        labeled = [record for record in dataset.records if len(record.get("gt_bbox", ()))] or dataset.records
    except (DataError, ValueError, OSError) as error:
        labeled, problem = [], str(error)
    for record in labeled[:MAX_IMAGES]:
        try:
            pixels = read_image(record["im_file"])
        except (DataError, OSError) as error:
            problem = str(error)
            continue
        found = True
        yield pixels
    if not found:
        logger.info("the export is checked on a drawn image: EvalDataset has none (%s)", problem)
        yield drawn_image()


def drawn_image() -> np.ndarray:
    """Return a picture (320, 448, 3) of shapes on noise."""
    image = np.random.default_rng(0).integers(90, 160, (320, 448, 3), dtype=np.uint8)
    cv2.rectangle(image, (40, 60), (180, 200), (20, 20, 230), -1)
    cv2.circle(image, (300, 150), 70, (230, 20, 20), -1)
    cv2.circle(image, (220, 260), 30, (240, 240, 60), -1)
    return image


@contextmanager
def on_cpu() -> Iterator[None]:
    """Let Paddle compute on the CPU within the block, whatever device the process uses.

    The trained model's outputs are the reference, so they must be exact: on a GPU, float32 may be computed in TF32.
    """
    before = device.name()
    paddle.set_device("cpu")
    try:
        yield
    finally:
        paddle.set_device(before)


@paddle.no_grad()
def expected_outputs(detector: "ExportedDetector", arrays: Arrays, names: Sequence[str]) -> list[np.ndarray]:
    """Return what the trained model computes, as a dynamic graph, for the inputs `names` of the exported one."""
    outputs = detector(**{name: paddle.to_tensor(arrays[name]) for name in names})
    return [output.numpy() for output in outputs]


def make_self_check(
    detector: "ExportedDetector",
    preprocess: Preprocess,
    images: Iterable[np.ndarray],
    names: Sequence[str],
    precision: str,
) -> tuple[SelfCheck, list[np.ndarray] | None]:
    """Choose the first image in which the model detects something that can be compared in fp32 and in `precision`.

    Args:
        names: inputs of the graph.

    Returns:
        The model's detections; and where no image has detections to compare, also the boxes (N, R, 4) and scores
        (N, C, R) of all locations before NMS, else None.
    """
    nms = detector.model.nms
    checks: list[tuple[int, SelfCheck]] = []
    for pixels in images:
        arrays = check_arrays(preprocess, pixels)
        outputs = expected_outputs(detector, arrays, names)
        check = SelfCheck.of(arrays, *outputs, floor=nms.score_threshold, top=nms.keep_top_k)
        comparable = sum(check.comparable(kind) > 0 for kind in ("fp32", precision))
        if comparable == 2:
            return check, None
        checks.append((comparable, check))
    logger.warning(
        "the model detects too little in the check's images to compare its detections: all locations are compared "
        "before NMS; name an image with detections with --check_image"
    )
    best = max(checks, key=lambda pair: pair[0])[1]
    detector.output = "locations"
    locations = expected_outputs(detector, best.arrays, names)
    detector.output = "detections"
    return best, locations


def verify(
    folder: Path, backend: str, precision: str, check: SelfCheck, locations: Sequence[np.ndarray] | None = None
) -> None:
    """Run an exported graph in an engine, compare it with the trained model, and log how much they differ.

    Args:
        folder: folder of the exported model.
        backend: the engine, a key of `BACKENDS`.
        check: the model's detections.
        locations: the model's boxes and scores of all locations, for a graph that ends with these.

    Raises:
        ExportError: they differ, or the engine is not installed or cannot run the graph.
    """
    engine_name = f"{backend}, {precision}"
    outputs = run_graph(folder, backend, precision, check.arrays)
    try:
        if locations is None:
            result = check.verify(lambda arrays: outputs, precision)
        else:
            tolerance = tolerance_of(precision)
            result = compare_candidates(locations, outputs, tolerance).require_within(tolerance)
    except DeployError as error:
        raise ExportError(f"the exported graph is wrong in {engine_name}: {error}") from None
    logger.info("checked in %s: %s", engine_name, result)


def run_graph(folder: Path, backend: str, precision: str, arrays: Arrays) -> list[np.ndarray]:
    """Return the outputs of an exported graph in an engine.

    Args:
        backend, precision: see `verify`.

    Raises:
        ExportError: the engine is not installed, or cannot load or run the graph.
    """
    kind, options = BACKENDS[backend], Options(precision=precision)
    problem = find_problem(kind, folder, options)
    if problem:
        raise ExportError(f"the export cannot be checked in {backend}, {precision}: {problem}")
    try:
        return kind(folder, options)(arrays)
    except Exception as error:  # engines raise classes of their own
        file = kind.find(folder, precision)
        place = f"{file.name if file else folder}: the exported graph cannot run in {backend}, {precision}: "
        if isinstance(error, DeployError):  # it has an advice
            raise ExportError(f"{place}{error}") from None
        other = "" if kind.format == "paddle" else f", or leave out --format {kind.format}"
        advice = f"install another version of {kind.distribution}{other} ({last_line(error)})"
        raise ExportError(place + advice) from None


class BeforeNms(NamedTuple):
    """What the trained model computes for a graph that ends before NMS.

    Attributes:
        arrays: inputs of the graph.
        outputs: boxes (N, R, 4) and scores (N, C, R), or maps.
        locations: for boxes and scores, those of all locations; else empty.
        in_order: whether `outputs` are these locations in their order, and not the best of them, sorted by score.
    """

    arrays: Arrays
    outputs: list[np.ndarray]
    locations: Sequence[np.ndarray] = ()
    in_order: bool = True

    @classmethod
    def of(cls, detector: "ExportedDetector", arrays: Arrays, names: Sequence[str]) -> "BeforeNms":
        """Compute it for a detector whose output is boxes or maps; `names` are the inputs of the graph."""
        outputs = expected_outputs(detector, arrays, names)
        if detector.output == "maps":
            return cls(arrays, outputs)
        detector.output = "locations"
        locations = expected_outputs(detector, arrays, names)
        detector.output = "boxes"
        in_order = outputs[0].shape == locations[0].shape and np.allclose(outputs[0], locations[0])
        return cls(arrays, outputs, locations[:2], bool(in_order))

    def verify(self, folder: Path, backend: str, output: str) -> None:
        """Run a graph that ends with boxes or maps in an engine, compare what it computes, and log the difference.

        Args:
            output: "boxes" or "maps".

        Raises:
            ExportError: they differ, or the engine is not installed or cannot run the graph.
        """
        found = run_graph(folder, backend, "fp32", self.arrays)
        try:
            if len(found) != len(self.outputs):
                raise DeployError(f"it has {len(found)} outputs, the model {len(self.outputs)}")
            if output == "maps":
                result = f"{len(found)} maps, which differ by at most {difference_of_maps(self.outputs, found):.1e}"
            else:
                every = None if self.in_order else self.locations
                result = str(compare_candidates(self.outputs, found, BOXES, every).require_within(BOXES))
        except DeployError as error:
            raise ExportError(f"the exported graph is wrong in {backend}: {error}") from None
        logger.info("checked in %s: %s", backend, result)


def difference_of_maps(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> float:
    """Return the largest difference of maps, relative to the largest value of each map if that is above 1.

    Raises:
        DeployError: it is above `LARGEST_DIFFERENCE`, or the shapes differ.
    """
    largest = 0.0
    for model, found in zip(expected, actual, strict=True):
        if found.shape != model.shape:
            raise DeployError(f"an output has shape {found.shape}, the model's has {model.shape}")
        # Rounding adds up over a network, so small values differ by as much as large ones. np.maximum keeps NaN.
        scale = np.abs(model).max(initial=1.0)
        largest = float(np.maximum(largest, np.abs(found - model).max(initial=0) / scale))
    if not largest <= LARGEST_DIFFERENCE:
        raise DeployError(f"its maps differ from the model's by {largest:.1e} (relative to a map's largest value)")
    return largest


@contextmanager
def temporary_inside(folder: Path) -> Iterator[Path]:
    """Make a temporary folder inside `folder`, and remove it at the end. Errors name `folder` in its place."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix=".export", dir=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    with naming(folder), temporary as name:
        try:
            yield Path(name)
        except (DeployError, ExportError) as error:
            raise type(error)(str(error).replace(name, str(folder))) from None
