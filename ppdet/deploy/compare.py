"""Comparing detections: an exported graph with the trained model, and two engines with each other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppdet.utils.disk.files import atomic_path, open_regular
from ppdet.utils.errors import DeployError
from ppdet.utils.formats.zip_directory import opened_zip

FILE = "selfcheck.npz"
# Two images of 2,000 x 2,000 pixels take 100 MB, and a model that keeps 1,000 detections of each has 2,000 rows.
LARGEST_BYTES, MOST_ROWS = 512 * 2**20, 50_000
Engine = Callable[[dict[str, np.ndarray]], list[np.ndarray]]  # input arrays by name -> outputs, see `Backend`


class Tolerance(NamedTuple):
    """How much the detections of two engines may differ.

    Attributes:
        score: allowed difference of scores.
        pixels: allowed difference of a box's sides, to which `share` of the box's longer side is added.
        share: see `pixels`.
        unmatched: share of the detections that may be missing or additional, since a tiny difference of scores can
            change what NMS keeps.
        least: detections with a lower score are not compared.
    """

    score: float
    pixels: float
    share: float
    unmatched: float
    least: float


EXACT = Tolerance(score=1e-3, pixels=0.5, share=0.0, unmatched=0.01, least=0.0)
# float32 on any device but a CPU. NVIDIA's GPUs from Ampere on multiply with 10 bits of mantissa (TF32) by default:
# scores of a ResNet-50 detector then differ by up to 2.2e-3, and NMS keeps the other one of two boxes more often.
ACCELERATED = Tolerance(score=1e-2, pixels=1.0, share=0.01, unmatched=0.05, least=0.0)
LOOSE = Tolerance(score=0.1, pixels=1.0, share=0.1, unmatched=0.1, least=0.3)
# What int8 costs is told by AP, which the export measures; this finds engines that do not compute what the file says.
COARSE = Tolerance(score=0.2, pixels=2.0, share=0.2, unmatched=0.5, least=0.3)


def tolerance_of(precision: str, device: str = "cpu") -> Tolerance:
    """Return how much detections may differ from those that the trained model computes on a CPU in float32.

    Args:
        precision: fp32, bf16, fp16 or int8.
        device: the type of device that computes them: cpu, gpu, xpu, …
    """
    if precision == "int8":
        return COARSE
    if precision != "fp32":
        return LOOSE
    return EXACT if device == "cpu" else ACCELERATED


class Comparison(NamedTuple):
    """The result of `compare` or `compare_candidates`.

    Attributes:
        compared: number of expected detections.
        unmatched: number of detections without a match on the other side.
        score: largest score difference among matched pairs. pixels: largest difference of box sides among them.
        kind: what was compared, such as "detections".
    """

    compared: int
    unmatched: int
    score: float
    pixels: float
    kind: str

    def __str__(self) -> str:
        if not self.compared and not self.unmatched:
            return f"it runs, and none of its {self.kind} can be compared"
        return (
            f"{self.compared} {self.kind}, {self.unmatched or 'none'} unmatched, scores differ by at most "
            f"{self.score:.1e}, boxes by {self.pixels:.2g} px"
        )

    def require_within(self, tolerance: Tolerance) -> "Comparison":
        """Return the comparison, or raise DeployError where more is unmatched than the tolerance allows."""
        if self.unmatched > tolerance.unmatched * self.compared:
            raise DeployError(f"its {self.kind} differ from the trained model's: {self}")
        return self


def compare(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: Tolerance, floor: float = 0.0, top: int = 0
) -> Comparison:
    """Compare the detections of several images, in any order.

    A detection matches one of the same class within the tolerance. Detections are not compared where a tiny difference
    decides whether they exist: those with a score near the threshold or near the lowest one of a list that was cut,
    and boxes without an area, which engines treat differently in NMS.

    Args:
        expected, actual: rows (M, 6) of [class, score, x1, y1, x2, y2] of each image.
        floor: the score threshold of the model.
        top: how many detections per image the model keeps at most; 0 or less for all.
    """
    compared = unmatched = 0
    score = pixels = 0.0
    for one, other in zip(expected, actual):
        limit = max([floor, *(rows[:, 1].min() for rows in (one, other) if 0 < top <= len(rows))])
        limit = max(limit + tolerance.score, tolerance.least)
        one, other = with_area(one), with_area(other)
        for rows, others, is_expected in ((one, other, True), (other, one, False)):
            for row in rows[rows[:, 1] > limit]:
                compared += is_expected
                apart = np.abs(others[others[:, 0] == row[0], 1:] - row[1:])
                room = tolerance.pixels + tolerance.share * max(row[4] - row[2], row[5] - row[3])
                near = apart[(apart[:, 0] <= tolerance.score) & (apart[:, 1:].max(axis=1, initial=0) <= room)]
                if not len(near):
                    unmatched += 1
                    continue
                nearest = near[near[:, 1:].max(axis=1).argmin()]
                score, pixels = max(score, float(nearest[0])), max(pixels, float(nearest[1:].max()))
    return Comparison(compared, unmatched, score, pixels, "detections")


def compare_candidates(
    expected: Sequence[np.ndarray],
    actual: Sequence[np.ndarray],
    tolerance: Tolerance,
    every: Sequence[np.ndarray] | None = None,
) -> Comparison:
    """Compare the boxes (N, R, 4) and scores (N, C, R) of all locations before NMS, location by location.

    Scores may differ by the tolerance times the highest score, since all of them may be small.

    Args:
        every: for outputs with only the best locations, sorted by score: the boxes and scores of all of them. A tiny
            difference of scores changes the order of rows, and which are the last. So each row may be any location,
            and the sorted highest scores of all rows are compared besides.

    Raises:
        DeployError: the shapes differ.
    """
    for ours, theirs in zip(expected, actual):
        if ours.shape != theirs.shape:
            raise DeployError(f"before NMS an output has shape {theirs.shape}, the model's has {ours.shape}")
    (boxes, scores), (others, other_scores) = expected[:2], actual[:2]
    highest = max(float(scores.max(initial=0)), 1e-30)
    score = np.abs(scores - other_scores).max(axis=1) / highest
    pixels = np.abs(boxes - others).max(axis=2)
    near = (score <= tolerance.score) & (pixels <= room_of(boxes, tolerance))  # false for NaN
    largest, farthest = (float(values[near].max(initial=0)) for values in (score, pixels))
    compared, unmatched = near.size, int((~near).sum())
    if every is not None:
        empty = ~(scores.any(axis=1) | other_scores.any(axis=1))  # rows that there are no locations for
        parts = [
            (others[n, r], other_scores[n, :, r], [part[n] for part in every]) for n, r in np.argwhere(~near & ~empty)
        ]
        unknown = sum(not is_location(*part, tolerance, highest) for part in parts)
        best, other_best = (np.sort(values.max(axis=1), axis=1) for values in (scores, other_scores))
        other_ranks = int((~(np.abs(best - other_best) <= tolerance.score * highest)).sum())
        compared, unmatched = int((~empty).sum()), max(unknown, other_ranks)
    return Comparison(compared, unmatched, largest, farthest, "locations before NMS")


def is_location(
    box: np.ndarray, scores: np.ndarray, every: Sequence[np.ndarray], tolerance: Tolerance, highest: float
) -> bool:
    """Whether a box (4,) with scores (C,), 0 for those that the model leaves out, is one of an image's locations.

    Args:
        every: boxes (R, 4) and scores (C, R) of all locations. highest: the model's highest score.
    """
    boxes, model_scores = every[:2]
    here = np.abs(boxes - box).max(axis=1) <= room_of(boxes, tolerance)
    counts = scores != 0
    apart = np.abs(model_scores[counts][:, here] - scores[counts, None]).max(axis=0, initial=0)
    return bool((apart <= tolerance.score * highest).any())


def room_of(boxes: np.ndarray, tolerance: Tolerance) -> np.ndarray:
    """Return how many pixels the sides of boxes (..., 4) may be apart: (...)."""
    return tolerance.pixels + tolerance.share * np.abs(boxes[..., 2:] - boxes[..., :2]).max(axis=-1)


def with_area(rows: np.ndarray) -> np.ndarray:
    """Return the rows of (M, 6) whose boxes have an area."""
    return rows[(rows[:, 4] > rows[:, 2]) & (rows[:, 5] > rows[:, 3])]


def require_detections(outputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of a detector: rows (M, 6), and the number of rows of each image (N,).

    Raises:
        ValueError: the outputs have other shapes or types, or values that are no numbers.
    """
    shapes = ", ".join(str(list(np.shape(output))) for output in outputs)
    if len(outputs) < 2:
        raise ValueError(f"outputs of the shapes {shapes or 'of no array'}, which are not those of a detector")
    rows, rows_per_image = np.asarray(outputs[0]), np.asarray(outputs[1]).reshape(-1)
    counted = rows_per_image.dtype.kind in "iu" and len(rows_per_image) and rows_per_image.min() >= 0
    if not counted or rows.dtype.kind not in "fiu" or rows.size != 6 * sum(rows_per_image.tolist()):
        raise ValueError(f"outputs of the shapes {shapes}, which are not those of a detector")
    if not np.isfinite(rows).all():
        raise ValueError("detections that are NaN or infinite")
    return rows.reshape(-1, 6), rows_per_image


class SelfCheck(NamedTuple):
    """Two images and what the trained model detects in them. Export writes it beside the graph, as selfcheck.npz.

    Attributes:
        arrays: inputs of the graph by name, see `Preprocess.join`.
        rows: (M, 6) of each image, see `compare`.
        floor, top: see `compare`.
    """

    arrays: dict[str, np.ndarray]
    rows: list[np.ndarray]
    floor: float
    top: int

    @classmethod
    def of(
        cls, arrays: dict[str, np.ndarray], rows: np.ndarray, rows_per_image: np.ndarray, *, floor: float, top: int
    ) -> "SelfCheck":
        """Make one from the outputs of a detector: the rows of all images, and their number for each image."""
        return cls(arrays, np.split(rows, np.cumsum(rows_per_image)[:-1]), floor, top)

    @classmethod
    def read(cls, folder: Path) -> "SelfCheck | None":
        """Read the self-check of an exported folder; None if it has none, as in exports of PaddleDetection.

        Raises:
            DeployError: the file is damaged, or larger than a self-check is.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with opened_zip(open_regular(path)) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > LARGEST_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes")
            with np.load(path, allow_pickle=False) as content:
                arrays = {k[6:]: content[k].astype(np.float32) for k in content.files if k.startswith("input_")}
                rows, counts = require_detections([content["rows"], content["rows_per_image"]])
                if len(rows) > MOST_ROWS:
                    raise ValueError(f"it has {len(rows):,} detections")
                return cls.of(arrays, rows, counts, floor=float(content["floor"]), top=int(content["top"]))
        except PermissionError as error:
            raise DeployError(f"{path}: cannot be read: {error.strerror}") from None
        except Exception as error:  # zip, zlib and NumPy raise their own for a damaged file
            raise DeployError(f"{path}: damaged ({error!s:.200}): export the model again") from None

    def write(self, folder: Path) -> None:
        """Write the self-check to an exported folder."""
        arrays: dict[str, Any] = {f"input_{name}": array for name, array in self.arrays.items()}
        arrays |= {"rows": np.concatenate(self.rows), "rows_per_image": [len(rows) for rows in self.rows]}
        arrays |= {"floor": self.floor, "top": self.top}
        with atomic_path(folder / FILE) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    def comparable(self, precision: str, device: str = "cpu") -> int:
        """Return how many detections `verify` compares. With 0, every graph that detects nothing would pass."""
        return compare(self.rows, self.rows, tolerance_of(precision, device), self.floor, self.top).compared

    def why_not_comparable(self, precision: str, device: str = "cpu") -> str:
        """Return why `verify` would compare no detections, "" if it compares some."""
        if self.comparable(precision, device):
            return ""
        scores = np.concatenate([with_area(rows)[:, 1] for rows in self.rows])
        tolerance = tolerance_of(precision, device)
        if not len(scores):
            return f"the self-check has no detections{' with an area' if any(map(len, self.rows)) else ''}"
        found = f"the self-check has {len(scores)} detections, "
        if scores.max() <= max(tolerance.least, self.floor):
            return f"{found}none with a score above {max(tolerance.least, self.floor):g}, as {precision} needs"
        # What is near the threshold, or near the lowest score of a full list, may be missing.
        return (
            f"{found}but their scores, {scores.min():.2f} to {scores.max():.2f}, are too close to each other or to the "
            f"threshold, {self.floor:g}, for {precision}, in which scores differ by up to {tolerance.score:g}"
        )

    def compare(self, outputs: Sequence[np.ndarray], precision: str, device: str = "cpu") -> Comparison:
        """Compare the outputs of a graph, which were computed in this precision on this type of device.

        Raises:
            DeployError: they are no detections, or those of another number of images.
        """
        try:
            rows, rows_per_image = require_detections(outputs)
        except ValueError as error:
            raise DeployError(f"it gives {error}") from None
        if len(rows_per_image) != len(self.rows):
            raise DeployError(f"it has detections of {len(rows_per_image)} images, the export of {len(self.rows)}")
        actual = np.split(rows, np.cumsum(rows_per_image)[:-1])
        return compare(self.rows, actual, tolerance_of(precision, device), self.floor, self.top)

    def verify(self, engine: Engine, precision: str, device: str = "cpu") -> Comparison:
        """Run a graph, which computes in this precision on this type of device, and compare its detections.

        Raises:
            DeployError: they differ by more than `tolerance_of` allows.
        """
        found = self.compare(engine(self.arrays), precision, device)
        return found.require_within(tolerance_of(precision, device))
