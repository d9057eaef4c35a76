"""Test-time augmentation (TTA): detect in flipped and resized views of an image, and merge the detections.

Only NumPy is used for merging, so that every engine, `ppdet eval` and `ppdet infer` can share it. docs/TTA.md explains
it.
"""

import argparse
import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ppdet.data.loading.views import View
from ppdet.deploy.option_group import OptionGroup, is_real
from ppdet.utils.boxes import by_class, in_order, pairwise_overlap
from ppdet.utils.errors import DeployError
from ppdet.utils.printable import counted
from ppdet.utils.soft_suppression import SIGMAS, Decay, suppress_softly

FLIPS = ("none", "horizontal", "vertical", "both")
MERGES = ("weighted", "nms")
FUSED_FROM = 0.6  # IoU of boxes that weighted boxes fusion makes one box of
METHODS = ("nms", "gaussian", "linear")
SOFT = ("method", "sigma")
# Least and greatest value of each number in infer_cfg.yml.
LIMITS = {"score_threshold": (0, 1), "nms_threshold": (0, 1), "keep_top_k": (-1, 1e9), "sigma": SIGMAS}
SCALES = (0.1, 10.0)  # least and largest
MOST_SCALES = 20
OPTIONS = OptionGroup(
    "tta", "TTA", {"tta_scales": "scales", "tta_flip": "flip", "tta_merge": "merge", "tta_iou": "iou"}
)


class Suppression(NamedTuple):
    """What a model's own NMS does, and merging too.

    Attributes:
        score_threshold: detections must have a score above this.
        nms_threshold: of two boxes of a class with an IoU above this, the one with the lower score is suppressed.
        keep_top_k: most detections of an image; -1 for all.
        method: `nms`, or the method of Soft-NMS, which lowers scores instead: `gaussian` or `linear`, see `SoftNMS`.
        sigma: width of `gaussian`.
    """

    score_threshold: float = 0.0
    nms_threshold: float = 0.6
    keep_top_k: int = 100
    method: str = "nms"
    sigma: float = 0.5

    @classmethod
    def of(cls, nms: Any) -> "Suppression":
        """That of a model, from its `nms`, a `MultiClassNMS` or `SoftNMS`; what that does not say is as above.

        What tells a `SoftNMS` is its `soft_threshold`. Another kind of NMS may have a `method` of another meaning.
        """
        given = {name: getattr(nms, name) for name in cls._fields if hasattr(nms, name)}
        if hasattr(nms, "soft_threshold"):
            return cls(**given)._replace(nms_threshold=nms.soft_threshold)
        return cls(**{name: value for name, value in given.items() if name not in SOFT})

    def described(self) -> dict[str, Any]:
        """What `of_export` reads again from `nms` in infer_cfg.yml."""
        return {name: value for name, value in self._asdict().items() if self.method != "nms" or name not in SOFT}

    @classmethod
    def of_export(cls, settings: Mapping[str, Any]) -> "Suppression":
        """That of an exported model, from `nms` in infer_cfg.yml; what that does not say is as above.

        Raises:
            DeployError: `nms` has something else, or a value out of its range.
        """
        given = settings.get("nms") or {}
        for name, value in given.items() if isinstance(given, Mapping) else [("nms", given)]:
            least, most = LIMITS.get(name, (np.inf, -np.inf))
            right = value in METHODS if name == "method" else is_real(value) and least <= value <= most
            if not right or (name == "keep_top_k" and value != int(value)):
                raise DeployError(f"infer_cfg.yml: nms has {name!s:.40} {value!r:.60}: export the model again")
        return cls(**given)


@dataclass(frozen=True)
class TTA:
    """Settings of test-time augmentation: which views of an image the model sees, and how detections are merged.

    Args:
        scales: factors of the size to which images are resized (`target_size` of Resize), from 0.1 to 10. Each is one
            view, or several with `flip`.
        flip: `horizontal` adds a view with left and right exchanged for each scale, `vertical` one with top and bottom
            exchanged, and `both` these two and one with both exchanged. `none` adds nothing.
        merge: `weighted` is weighted boxes fusion (Solovyev et al., arXiv:1910.13302): boxes that match become one box,
            the mean of theirs with their scores as weights. Views that miss it lower its score, but less than in the
            paper, see `fuse`. `nms` keeps the box with the highest score of those that match. Boxes of different
            classes never match.
        iou: boxes match if their IoU is above this, 0 to 1. None: 0.6 for `weighted`; for `nms` the model's own NMS
            decides, with its nms_threshold, or as Soft-NMS.

    Raises:
        DeployError: a value is out of its range.
    """

    scales: Sequence[float] = (0.8, 1.0, 1.2)
    flip: str = "horizontal"
    merge: str = "weighted"
    iou: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scales, str) or not isinstance(self.scales, Sequence) or not all(map(is_real, self.scales)):
            OPTIONS.refuse("scales", self.scales, "numbers")
        if not 1 <= len(self.scales) <= MOST_SCALES or len(set(self.scales)) != len(self.scales):
            OPTIONS.refuse("scales", self.scales, f"1 to {MOST_SCALES} different numbers")
        if not all(SCALES[0] <= scale <= SCALES[1] for scale in self.scales):
            OPTIONS.refuse("scales", self.scales, "numbers from {:g} to {:g}".format(*SCALES))
        object.__setattr__(self, "scales", tuple(map(float, self.scales)))  # the dataclass is frozen
        if self.flip not in FLIPS:
            OPTIONS.refuse("flip", self.flip, f"one of {', '.join(FLIPS)}")
        if self.merge not in MERGES:
            OPTIONS.refuse("merge", self.merge, f"one of {', '.join(MERGES)}")
        if self.iou is not None and not (is_real(self.iou) and 0 < self.iou < 1):
            OPTIONS.refuse("iou", self.iou, "a number above 0 and below 1")

    def __str__(self) -> str:
        scales = " ".join(f"{scale:g}" for scale in self.scales)
        merged = self.merge if self.iou is None else f"{self.merge} from IoU {self.iou:g}"
        return f"{counted(len(self.views), 'view')}, scales {scales}, flip {self.flip}, merged by {merged}"

    @property
    def views(self) -> list[View]:
        """All views of an image. Those of one scale follow each other."""
        mirrored = (False, True) if self.flip in ("horizontal", "both") else (False,)
        upside_down = (False, True) if self.flip in ("vertical", "both") else (False,)
        return [View(*view) for view in itertools.product(self.scales, mirrored, upside_down)]

    def merge_views(self, found: Sequence[np.ndarray], nms: Suppression) -> np.ndarray:
        """Merge the detections of all views of an image.

        Args:
            found: for each view, rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the image, not flipped.
            nms: what the model's NMS does: thresholds and the number of detections, which hold for the result too.

        Returns:
            (K, 6), sorted by class and then from the highest score to the lowest, of the same dtype.
        """
        with np.errstate(invalid="ignore"):  # a NaN matches nothing
            if self.merge == "weighted":
                iou = FUSED_FROM if self.iou is None else self.iou
                if nms.method != "nms":  # the boxes that it left on one object would lower the mean of the scores
                    hard = nms._replace(nms_threshold=iou, method="nms")
                    found = [np.concatenate([suppress(part, hard) for part in by_class(rows)]) for rows in found]
                merged = [fuse(part, len(found), iou) for part in by_class(np.concatenate(found))]
            else:
                own = nms if self.iou is None else nms._replace(nms_threshold=self.iou, method="nms")
                merged = [suppress(part, own) for part in by_class(np.concatenate(found))]
        rows = np.concatenate(merged)
        rows = rows[rows[:, 1] > nms.score_threshold]
        if 0 <= nms.keep_top_k < len(rows):
            rows = rows[np.argsort(-rows[:, 1], kind="stable")[: nms.keep_top_k]]
        return in_order(rows)


def suppress(rows: np.ndarray, nms: Suppression) -> np.ndarray:
    """Non-maximum suppression of rows (M, 6) of one class, sorted by score, as the model's own NMS does it."""
    if nms.method != "nms":
        return soften(rows, nms)
    boxes = rows[:, 2:].astype(np.float64)
    waiting, kept = np.ones(len(rows), bool), []
    for best in range(len(rows)):
        if waiting[best]:
            kept.append(best)
            waiting &= pairwise_overlap(boxes[best : best + 1], boxes)[0] <= nms.nms_threshold
    return rows[kept]


def soften(rows: np.ndarray, nms: Suppression) -> np.ndarray:
    """Soft-NMS of rows (M, 6) of one class: those whose new scores are above the threshold, with these scores."""
    labels, scores, boxes = rows[:, 0], rows[:, 1].astype(np.float64), rows[:, 2:].astype(np.float64)
    decay = Decay(nms.method, nms.sigma, nms.nms_threshold)
    values, at = suppress_softly(boxes, labels, scores, decay, nms.score_threshold, len(rows))
    return np.column_stack([labels[at], values, rows[at, 2:]]).astype(rows.dtype)


def fuse(rows: np.ndarray, views: int, iou: float) -> np.ndarray:
    """Weighted boxes fusion of rows (M, 6) of one class, sorted by score (arXiv:1910.13302, section 3).

    Each box joins the fused box with the highest IoU, if that is above `iou`, or else starts a new one. The sides of a
    fused box of T boxes with scores C_i are means with weights C_i. The paper's score, equation (5), is the mean of C_i
    times min(T, N) / N, where N is the number of views. It counts a view that misses the box as a score of 0, which a
    view often does at another size, so that it is far below the scores of one view. The score here is the geometric
    mean of it and the highest C_i: that of the surest view, lowered by half as much on a logarithmic scale. If all
    views agree, it is their score; thresholds that were chosen without views stay right (docs/TTA.md).

    Args:
        views: N.
    """
    sums, fused = np.zeros((len(rows), 5)), np.empty((len(rows), 4))  # sums: C_i, and C_i times each side
    highest, members, count = np.zeros(len(rows)), np.zeros(len(rows)), 0
    for score, *box in rows[:, 1:].astype(np.float64):
        overlap = pairwise_overlap(np.array([box]), fused[:count])[0]
        place = int(overlap.argmax()) if count else 0
        if not count or not overlap[place] > iou:
            place, count = count, count + 1
            highest[place] = score  # rows come sorted
        members[place] += 1
        sums[place] += score * np.array([1.0, *box])
        fused[place] = sums[place, 1:] / sums[place, 0] if sums[place, 0] else box
    members = members[:count]
    papers = sums[:count, 0] / members * np.minimum(members, views) / views
    scores = np.sqrt(highest[:count] * papers)
    return np.column_stack([np.repeat(rows[:1, 0], count), scores, fused[:count]]).astype(rows.dtype)


def unflip(rows: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
    """Detections (M, 6) in a view, in pixels of the flipped image, in pixels of the image itself.

    Args:
        size: height and width of the image.
    """
    label, score, x1, y1, x2, y2 = rows.T
    height, width = (np.asarray(side, rows.dtype) for side in size)
    if view.mirrored:
        x1, x2 = width - x2, width - x1
    if view.upside_down:
        y1, y2 = height - y2, height - y1
    return np.stack([label, score, x1, y1, x2, y2], axis=1)


class ViewMerger:
    """Collects the detections of views, and returns those of images whose views are complete.

    Args:
        nms: what the model's NMS does, see `Suppression.of`.
    """

    def __init__(self, tta: TTA, nms: Suppression) -> None:
        self.tta, self.nms = tta, nms
        self.views = tta.views
        self._parts: dict[Hashable, list[np.ndarray]] = {}

    def add(
        self,
        keys: Sequence[Any],
        following: Sequence[int],
        sizes: Mapping[Any, tuple[int, int]],
        detections: Sequence[np.ndarray],
    ) -> list[tuple[Any, np.ndarray]]:
        """Take the detections of N views, of different images or of the same.

        Args:
            keys: the caller's names for the images.
            following: how many views of the same image, in the order of `TTA.views`, come after each.
            sizes: height and width of each image in pixels, by key.
            detections: N arrays (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the flipped images.

        Returns:
            Key and rows (M, 6) of each image that is complete with these views.
        """
        images = []
        for key, more, rows in zip(keys, following, detections):
            parts = self._parts.setdefault(key, [])
            parts.append(unflip(rows, self.views[-1 - more], sizes[key]))
            if len(parts) == len(self.views):
                images.append((key, self.tta.merge_views(self._parts.pop(key), self.nms)))
        return images


def tta_of(arguments: argparse.Namespace) -> TTA | None:
    """The TTA that the options of `add_tta_arguments` ask for; None without --tta.

    Raises:
        DeployError: a value is out of its range, or an option would have no effect.
    """
    fields = OPTIONS.read(arguments)
    if fields is None:
        return None
    check_alone(TTA(), getattr(arguments, "slice_infer", None) or None)
    return TTA(**fields)


def check_alone(tta: TTA | None, slicing: Any) -> None:
    """Raise DeployError if both are asked for, as views of windows have not been shown to help, or `tta` is no TTA."""
    if not isinstance(tta, TTA | None):
        raise DeployError(f"tta is {tta!r:.60}, expected ppdet.deploy.tta.TTA, such as TTA() for its defaults, or None")
    if tta is not None and slicing is not None:
        raise DeployError("TTA (--tta) takes whole images: leave it out, or leave --slice_infer out")
