"""Whether two graphs detect the same: after export, and before a backend is chosen."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import DeployError

FILE = "selfcheck.npz"


class Tolerance(NamedTuple):
    """How far detections may be apart: scores, sides in pixels and as a share of the box, and how many may be more.

    least: detections below this score are not compared.
    """

    score: float
    pixels: float
    share: float
    strays: float
    least: float


EXACT = Tolerance(score=1e-3, pixels=0.5, share=0.0, strays=0.01, least=0.0)
# Float32 on anything but a CPU. NVIDIA's GPUs from Ampere on multiply with 10 bits of mantissa (TF32) unless they are
# told otherwise: scores of an R50 are then up to 2.2e-3 off, and suppression chooses another of two boxes more often.
ACCELERATED = Tolerance(score=1e-2, pixels=1.0, share=0.01, strays=0.05, least=0.0)
LOOSE = Tolerance(score=0.1, pixels=1.0, share=0.1, strays=0.1, least=0.3)


def tolerance_of(precision: str, device: str = "cpu") -> Tolerance:
    """How far detections may be from those that the trained model has on a CPU in float32.

    Args:
        precision: fp32, bf16 or fp16. device: the type that computed them: cpu, gpu, xpu, ...
    """
    if precision != "fp32":
        return LOOSE
    return EXACT if device == "cpu" else ACCELERATED


class Comparison(NamedTuple):
    """Expected detections that count, how many of both sides have no counterpart, and how far others are apart."""

    count: int
    strays: int
    score: float
    pixels: float

    def __str__(self) -> str:
        if not self.count and not self.strays:
            return "it runs, and there are no detections to compare"
        counterpart = f"{self.strays} without a counterpart" if self.strays else "all with their counterparts"
        return (
            f"{self.count} detections, {counterpart}, scores within {self.score:.1e}, boxes within {self.pixels:.2g} px"
        )


def compare(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: Tolerance, floor: float = 0.0, top: int = 0
) -> Comparison:
    """Compare rows (M, 6) of [class, score, x1, y1, x2, y2] of each image, in any order.

    A detection counts when its score is above the floor, and above the worst of a list cut at `top`, by more than what
    scores may differ: others may be in one list and not in the other for a rounding. Its counterpart is of the same
    class and within the tolerance. Boxes without area do not count: which of them suppression leaves, engines see
    differently.
    """
    count = strays = 0
    score = pixels = 0.0
    for one, other in zip(expected, actual):
        limit = max([floor, *(rows[:, 1].min() for rows in (one, other) if 0 < top <= len(rows))])
        limit = max(limit + tolerance.score, tolerance.least)
        one, other = with_area(one), with_area(other)
        for rows, others, counts in ((one, other, True), (other, one, False)):
            for row in rows[rows[:, 1] > limit]:
                count += counts
                apart = np.abs(others[others[:, 0] == row[0], 1:] - row[1:])
                room = tolerance.pixels + tolerance.share * max(row[4] - row[2], row[5] - row[3])
                near = apart[(apart[:, 0] <= tolerance.score) & (apart[:, 1:].max(axis=1, initial=0) <= room)]
                if not len(near):
                    strays += 1
                    continue
                nearest = near[near[:, 1:].max(axis=1).argmin()]
                score, pixels = max(score, float(nearest[0])), max(pixels, float(nearest[1:].max()))
    return Comparison(count, strays, score, pixels)


class Candidates(NamedTuple):
    """Locations of two graphs before suppression: how many, how many differ, and how far the others are apart."""

    count: int
    strays: int
    score: float
    pixels: float

    def __str__(self) -> str:
        different = f"{self.strays} different" if self.strays else "none different"
        return (
            f"{self.count} locations before suppression, {different}, scores within {self.score:.1e} of the best, "
            f"boxes within {self.pixels:.2g} px"
        )


def compare_candidates(
    expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], tolerance: Tolerance
) -> Candidates:
    """Compare boxes (N, R, 4) and scores (N, C, R) of all locations, for models that detect nothing to compare.

    Scores may differ by the tolerance's share of the best one, since all of them may be small.

    Raises:
        DeployError: the shapes differ.
    """
    for ours, theirs in zip(expected, actual):
        if ours.shape != theirs.shape:
            raise DeployError(f"before suppression an output is of shape {theirs.shape}, the model's {ours.shape}")
    (boxes, scores), (others, other_scores) = expected[:2], actual[:2]
    score = np.abs(scores - other_scores).max(axis=1) / max(float(scores.max(initial=0)), 1e-30)
    pixels = np.abs(boxes - others).max(axis=2)
    sides = np.abs(boxes[..., 2:] - boxes[..., :2]).max(axis=2)
    # What is not a number is near nothing.
    near = (score <= tolerance.score) & (pixels <= tolerance.pixels + tolerance.share * sides)
    apart = [float(values[near].max(initial=0)) for values in (score, pixels)]
    return Candidates(near.size, int((~near).sum()), *apart)


def with_area(rows: np.ndarray) -> np.ndarray:
    """Those of the rows (M, 6) whose boxes have an area."""
    return rows[(rows[:, 4] > rows[:, 2]) & (rows[:, 5] > rows[:, 3])]


class SelfCheck(NamedTuple):
    """A batch and what the trained model detects in it, kept beside the exported graph.

    arrays: what the graph takes, see `Preprocess.join`. rows: (M, 6) of each image. floor, top: see `compare`.
    """

    arrays: dict[str, np.ndarray]
    rows: list[np.ndarray]
    floor: float
    top: int

    @classmethod
    def of(
        cls, arrays: dict[str, np.ndarray], rows: np.ndarray, rows_per_image: np.ndarray, *, floor: float, top: int
    ) -> "SelfCheck":
        """With the rows of all images after each other, as a graph puts them out."""
        return cls(arrays, np.split(rows, np.cumsum(rows_per_image)[:-1]), floor, top)

    @classmethod
    def read(cls, folder: Path) -> "SelfCheck | None":
        """What export wrote to the folder; None where there is nothing, as in exports of PaddleDetection.

        Raises:
            DeployError: the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {k[6:]: content[k].astype(np.float32) for k in content.files if k.startswith("input_")}
                rows, counts = content["rows"], content["rows_per_image"]
                return cls.of(arrays, rows, counts, floor=float(content["floor"]), top=int(content["top"]))
        except Exception as error:  # zip, zlib, NumPy: each has its own for a damaged file
            raise DeployError(f"{path}: damaged ({error}): export the model again") from None

    def write(self, folder: Path) -> None:
        arrays = {f"input_{name}": array for name, array in self.arrays.items()}
        counts = [len(rows) for rows in self.rows]
        with atomic_path(folder / FILE) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(
                stream, **arrays, rows=np.concatenate(self.rows), rows_per_image=counts, floor=self.floor, top=self.top
            )

    def comparable(self, precision: str, device: str = "cpu") -> int:
        """How many of its detections `verify` compares: with none, every graph that detects nothing would pass."""
        return compare(self.rows, self.rows, tolerance_of(precision, device), self.floor, self.top).count

    def verify(
        self, run: Callable[[dict[str, np.ndarray]], list[np.ndarray]], precision: str, device: str = "cpu"
    ) -> Comparison:
        """Run the graph, which computes in this precision on this device, and compare.

        Raises:
            DeployError: it detects something else.
        """
        rows, rows_per_image = run(self.arrays)
        actual = np.split(rows, np.cumsum(rows_per_image)[:-1])
        tolerance = tolerance_of(precision, device)
        result = compare(self.rows, actual, tolerance, self.floor, self.top)
        if result.strays > tolerance.strays * result.count:
            raise DeployError(f"its detections are not the trained model's: {result}")
        return result
