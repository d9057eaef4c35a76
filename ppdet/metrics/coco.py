"""COCO's twelve numbers and the AP of each class, from rows of detections."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from ppdet.metrics.coco_backend import BACKENDS, choose_backend, run_backend
from ppdet.utils.files import read_text, write_json
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = (1, 10, 100)
# name: (what is averaged, IoU threshold or None for 0.50, 0.55 ... 0.95, area, detections per image)
STATISTICS = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0.50, "all", 100),
    "AP75": ("precision", 0.75, "all", 100),
    "APs": ("precision", None, "small", 100),
    "APm": ("precision", None, "medium", 100),
    "APl": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "ARs": ("recall", None, "small", 100),
    "ARm": ("recall", None, "medium", 100),
    "ARl": ("recall", None, "large", 100),
}


class COCOMetric:
    """Collects detections image by image and evaluates them as COCO does.

    Only the images passed to `update` or `extend` count; an image that comes twice counts once. Annotation
    ids are not used: pycocotools takes a match with annotation 0 for no match, so every annotation gets an
    id of its own here, and files with ids from 0 or with repeated ids are evaluated correctly.

    Args:
        anno_path: COCO annotation file (json). Without "annotations" every number is -1 (undefined).
        category_ids: COCO category id of each class index.
        class_names: name of each class index.
        classwise: let `table` end with the AP of each class.
        backend: "faster-coco-eval", "pycocotools", or None for the first of the two that is installed.

    Raises:
        ValueError: anno_path is not a COCO annotation file, or category_ids and class_names do not fit.
        FileNotFoundError: anno_path does not exist.
    """

    def __init__(
        self,
        *,
        anno_path: Union[str, Path],
        category_ids: Sequence[int],
        class_names: Sequence[str],
        classwise: bool = False,
        backend: Optional[str] = None,
    ) -> None:
        if len(category_ids) == 0 or len(category_ids) != len(class_names):
            raise ValueError(
                f"COCOMetric: expected one category id per class name and at least one, got "
                f"{len(category_ids)} category_ids and {len(class_names)} class_names"
            )
        if backend is not None and backend not in BACKENDS:
            raise ValueError(f"COCOMetric: backend is {backend!r}, expected one of {', '.join(BACKENDS)} or None")
        self.anno_path = Path(anno_path)
        self.category_ids = [int(i) for i in category_ids]
        self.class_names = [str(name) for name in class_names]
        self.classwise = classwise
        self.backend = choose_backend(backend)
        self._images, self._annotations = load_ground_truth(self.anno_path)
        self._parts: list[np.ndarray]  # of `detections`
        self._seen: dict[int, None]  # evaluated image ids, in order
        self._evaluation: Optional[dict[str, Any]]
        self.reset()

    @property
    def image_ids(self) -> list[int]:
        """COCO ids of the evaluated images, in the order in which they came."""
        return list(self._seen)

    @property
    def detections(self) -> np.ndarray:
        """(M, 7) float64 [image id, category id, score, x, y, width, height], in the order in which they came."""
        self._parts = [np.concatenate([np.empty((0, 7)), *self._parts])] if len(self._parts) != 1 else self._parts
        return self._parts[0]

    @property
    def results(self) -> list[dict]:
        """`detections` as COCO's result entries."""
        return [
            {"image_id": int(image), "category_id": int(category), "bbox": box, "score": score}
            for image, category, score, *box in self.detections.tolist()
        ]

    def reset(self) -> None:
        """Forget all detections; the annotations stay."""
        self._parts = []
        self._seen = {}
        self._evaluation = None
        self._seconds = 0.0
        self._left_out = 0

    def update(self, rows: np.ndarray, rows_per_image: Sequence[int], im_ids: Sequence[int]) -> None:
        """Add the detections of a batch of N images.

        Args:
            rows: (M, 6) [class index, score, x1, y1, x2, y2] in pixels of the original images, image after
                image. Rows of class -1 (padding) are left out, and so are rows with NaN or infinity: a
                warning counts them.
            rows_per_image: (N,) their numbers, of sum M.
            im_ids: (N,) or (N, 1) COCO image ids.
        """
        rows = np.asarray(rows, dtype=np.float64)
        rows = rows.reshape(-1, 6) if rows.size == 0 else rows
        counts = np.asarray(rows_per_image, dtype=np.int64).reshape(-1)
        ids = np.asarray(im_ids).reshape(-1)
        if rows.ndim != 2 or rows.shape[1] != 6 or counts.sum() != len(rows) or len(ids) != len(counts):
            raise ValueError(
                f"COCOMetric.update: expected rows (M, 6), and N counts of sum M and N image ids, got rows "
                f"{rows.shape}, {len(counts)} counts of sum {counts.sum()}, {len(ids)} image ids"
            )
        first = np.isin(np.arange(len(ids)), np.unique(ids, return_index=True)[1])
        kept = np.repeat(first, counts)
        self.extend(self._to_detections(rows[kept], np.repeat(ids, counts)[kept]), ids.tolist())

    def extend(self, detections: np.ndarray, image_ids: Iterable[int]) -> None:
        """Add detections of evaluated images, e.g. another rank's `detections` and `image_ids`.

        Images that are already here are ignored together with their detections.
        """
        new = {int(i): None for i in image_ids if int(i) not in self._seen}
        self._parts.append(detections[np.isin(detections[:, 0], list(new))])
        self._seen.update(new)
        self._evaluation = None

    def extend_results(self, results: Iterable[dict], image_ids: Iterable[int]) -> None:
        """Add COCO's result entries of evaluated images, as `extend` does.

        Raises:
            KeyError, TypeError, ValueError: an entry is not one of COCO's.
        """
        rows = [[r["image_id"], r["category_id"], r["score"], *r["bbox"]] for r in results]
        self.extend(np.array(rows, dtype=np.float64).reshape(len(rows), 7), image_ids)

    def compute(self) -> dict[str, float]:
        """Return the twelve COCO numbers: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.

        Fractions from 0 to 1; -1, as in pycocotools, where there is no ground truth to compare with (for
        example APl where no box is large).
        """
        evaluation = self._evaluate()
        return {name: _mean(evaluation, *where) for name, where in STATISTICS.items()}

    def classwise_results(self) -> list[dict[str, Any]]:
        """Return {"name", "AP", "AP50", "boxes"} of each class; crowds are not counted in boxes."""
        evaluation = self._evaluate()
        boxes = dict.fromkeys(self.category_ids, 0)
        for annotation in self._annotations:
            counts = annotation["category_id"] in boxes and not annotation["iscrowd"]
            if counts and annotation["image_id"] in self._seen:
                boxes[annotation["category_id"]] += 1
        return [
            {
                "name": name,
                "AP": _mean(evaluation, "precision", None, "all", 100, self._position(category)),
                "AP50": _mean(evaluation, "precision", 0.50, "all", 100, self._position(category)),
                "boxes": boxes[category],
            }
            for name, category in zip(self.class_names, self.category_ids)
        ]

    def table(self) -> str:
        """Return the twelve lines that COCO users know, after a line on what was evaluated and by what."""
        numbers = self.compute()
        lines = [
            f"COCO bbox: {len(self._seen)} images, {len(self.detections)} detections, "
            f"computed by {self.backend} in {self._seconds:.1f} s"
        ]
        titles = {"precision": "Average Precision  (AP)", "recall": "Average Recall     (AR)"}
        for name, (kind, iou, area, limit) in STATISTICS.items():
            iou_text = "0.50:0.95" if iou is None else f"{iou:0.2f}"
            lines.append(
                f" {titles[kind]} @[ IoU={iou_text:<9} | area={area:>6s} | maxDets={limit:>3d} ] = {numbers[name]:0.3f}"
            )
        if self.classwise:
            lines.append(self.classwise_table())
        return "\n".join(lines)

    def classwise_table(self) -> str:
        """Return a line per class: AP, AP50 (in percent) and the number of annotated boxes."""
        width = max([5] + [len(name) for name in self.class_names])
        lines = [f"{'class':<{width}}  {'AP':>5}  {'AP50':>5}  {'boxes':>7}"]
        for row in self.classwise_results():
            values = ["-" if row[key] < 0 else f"{100 * row[key]:.1f}" for key in ("AP", "AP50")]
            lines.append(f"{row['name']:<{width}}  {values[0]:>5}  {values[1]:>5}  {row['boxes']:>7d}")
        return "\n".join(lines)

    def save(self, path: Union[str, Path]) -> None:
        """Write `results` as COCO's result file (bbox.json), all at once."""
        write_json(path, self.results)

    def _to_detections(self, rows: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
        """`detections` (K, 7) of rows (M, 6), which lie in images of these ids (M,)."""
        real = rows[:, 0] != -1
        finite = np.isfinite(rows).all(axis=1)
        self._left_out += int((real & ~finite).sum())
        rows, image_ids = rows[real & finite], image_ids[real & finite]
        wrong = rows[:, 0] >= len(self.category_ids)
        if wrong.any():
            raise ValueError(
                f"image {image_ids[wrong][0]}: a detection of class {int(rows[wrong, 0][0])}, but {self.anno_path} has "
                f"{len(self.category_ids)} classes: num_classes does not fit the data set"
            )
        categories = np.array(self.category_ids)[rows[:, 0].astype(np.int64)]
        return np.column_stack([image_ids, categories, rows[:, 1:4], rows[:, 4:6] - rows[:, 2:4]]).astype(np.float64)

    def _position(self, category_id: int) -> int:
        # Both back ends sort the categories by id.
        return sorted(set(self.category_ids)).index(category_id)

    def _evaluate(self) -> dict[str, Any]:
        """Return {"precision": (10, 101, C, 4, 3), "recall": (10, C, 4, 3)} of pycocotools' meaning."""
        if self._evaluation is None:
            unknown = [i for i in self._seen if i not in self._images]
            if unknown:
                raise ValueError(
                    f"{self.anno_path}: image id {unknown[0]} is not in the file ({len(unknown)} of "
                    f"{len(self._seen)} evaluated images): expected the annotations of the evaluated images"
                )
            if self._left_out:
                logger.warning("%d detections with NaN or infinity were left out", self._left_out)
            if not self._annotations:
                logger.warning("%s has no annotations: AP is undefined (-1)", self.anno_path)
            start = time.perf_counter()
            self._evaluation = run_backend(
                self.backend,
                images=self._images.values(),
                annotations=self._annotations,
                detections=self.detections,
                image_ids=self.image_ids,
                category_ids=self.category_ids,
            )
            self._seconds = time.perf_counter() - start
        return self._evaluation


def load_ground_truth(path: Path) -> tuple[dict[int, dict], list[dict]]:
    """Read a COCO annotation file: images by id, and annotations with what an evaluation needs.

    Raises:
        FileNotFoundError, ValueError: one line that names the file and the entry.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such annotation file (anno_path of the evaluation data set)") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a COCO annotation file (json): {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f'{path}: expected a COCO annotation file with a list "images"')
    try:
        images = {int(image["id"]): {"id": int(image["id"])} for image in content["images"]}
        annotations = [_annotation(entry) for entry in content.get("annotations") or []]
        # The data set drops boxes whose coordinates are not numbers, and says so.
        annotations = [a for a in annotations if np.isfinite(a["bbox"]).all()]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected images with an id and annotations with image_id, category_id and a bbox of "
            f"4 numbers ({type(error).__name__}: {error})"
        ) from None
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return images, annotations


def _annotation(entry: dict) -> dict:
    x, y, width, height = (float("nan") if value is None else float(value) for value in entry["bbox"])
    area = entry.get("area")
    return {
        "image_id": int(entry["image_id"]),
        "category_id": int(entry["category_id"]),
        "bbox": [x, y, width, height],
        "area": float(area) if isinstance(area, (int, float)) else width * height,
        "iscrowd": int(entry.get("iscrowd") or 0),
    }


def _mean(
    evaluation: dict[str, Any],
    kind: str,
    iou: Optional[float],
    area: str,
    max_detections: int,
    category: Optional[int] = None,
) -> float:
    """Mean over the defined (> -1) entries of "precision" or "recall", -1 when none is defined.

    `category` is a position among the sorted category ids, None for all of them.
    """
    values = np.asarray(evaluation[kind])[..., AREAS.index(area), MAX_DETECTIONS.index(max_detections)]
    if iou is not None:
        values = values[round((iou - 0.5) / 0.05)][None]
    if category is not None:
        values = values[..., category]
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
