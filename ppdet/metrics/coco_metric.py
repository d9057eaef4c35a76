"""COCO's twelve numbers, and the AP of each class, computed from rows of detections."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.metrics.coco_backend import evaluate_boxes
from ppdet.metrics.coco_statistics import STATISTICS, mean, summary_lines
from ppdet.metrics.coco_truth import (
    DETECTION,
    detections_of_rows,
    fit_to_images,
    load_ground_truth,
    read_results,
    truth_of_records,
)
from ppdet.utils.disk.files import write_json
from ppdet.utils.extras import evaluation_package
from ppdet.utils.formats.coco_file import LARGEST_ID
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import columns, counted, padded, printable

logger = get_logger(__name__)

Size = tuple[int, int]  # height, width in pixels


class COCOMetric:
    """Collects detections image by image and evaluates them as COCO does.

    Only images passed to `update` or `extend` are evaluated, each once, even if it comes several times. The ids of
    annotations are replaced, so that files with an id 0, which pycocotools mistakes for "no match", or with repeated
    ids are evaluated correctly. Image and category ids are integers of at most 64 bits.

    Annotated boxes are clipped to the images whose sizes are given with the detections, as in training. Boxes outside
    of their image are left out; a warning counts them. All other boxes are used as they are in the file.

    Args:
        anno_path: COCO annotation file (json). If it has no "annotations", all numbers are -1 (undefined). None: the
            boxes in `records` are the annotations.
        records: records of a data set with boxes, see `truth_of_records`; only used if anno_path is None.
        category_ids: COCO category id of each class, for example [1, 2, 3].
        class_names: name of each class.
        classwise: whether `table` ends with the AP of each class.

    Raises:
        DataError: anno_path does not exist or is not a COCO annotation file.
        ValueError: category_ids and class_names differ in length.
    """

    def __init__(
        self,
        *,
        anno_path: str | Path | None,
        category_ids: Sequence[int],
        class_names: Sequence[str],
        classwise: bool = False,
        records: Sequence[dict] = (),
    ) -> None:
        if len(category_ids) == 0 or len(category_ids) != len(class_names):
            raise ValueError(
                f"COCOMetric: expected one category id per class name and at least one, got "
                f"{len(category_ids)} category_ids and {len(class_names)} class_names"
            )
        self.source = str(anno_path or "the data set")  # where the annotations come from, for messages
        self.category_ids = [int(i) for i in category_ids]
        if max(map(abs, self.category_ids)) > LARGEST_ID:
            raise ValueError("COCOMetric: expected category_ids of at most 64 bits")
        self.class_names = [str(name) for name in class_names]
        self.classwise = classwise
        self._records = records
        self._truth: np.ndarray | None = None  # None: read from the records later, since their classes may still change
        if anno_path is None:
            image_ids = [record["im_id"].item() for record in records]
        else:
            image_ids, self._truth = load_ground_truth(anno_path)
        self._known = set(image_ids)
        self._parts: list[np.ndarray]  # `detections`, in several arrays, but for those of `_new`
        self._new: list[tuple[np.ndarray, list[int], list[int]]]  # rows, counts and image ids that `update` got
        self._seen: dict[int, Size | None]  # the evaluated images by id, in their order
        self._fitted: np.ndarray  # the annotations, clipped to the images
        self._clipped = [0, 0]  # number of boxes that were clipped and left out, as last reported
        self._evaluation: dict[str, Any] | None
        self.reset()

    @property
    def image_ids(self) -> list[int]:
        """Ids of the evaluated images, in the order in which they were added."""
        return list(self._seen)

    @property
    def sizes(self) -> dict[int, Size]:
        """Heights and widths of the evaluated images by id, if they were passed to `update`."""
        return {image: size for image, size in self._seen.items() if size}

    @property
    def detections(self) -> np.ndarray:
        """All detections (M,), of type `coco_truth.DETECTION`, in the order in which they were added."""
        self._convert()
        self._parts = [np.concatenate([np.empty(0, DETECTION), *self._parts])] if len(self._parts) != 1 else self._parts
        return self._parts[0]

    @property
    def results(self) -> list[dict]:
        """`detections` as entries of a COCO result file, with the `category_name` of each category_id.

        Other readers ignore the name. `Evaluator.evaluate_file` uses it, so that the results can be compared with
        annotations in which the same classes have other ids.
        """
        names = dict(zip(self.category_ids, self.class_names))
        columns = [self.detections[name].tolist() for name in ("image_id", "category_id", "bbox", "score")]
        return [
            {"image_id": image, "category_id": category, "category_name": names[category], "bbox": box, "score": score}
            for image, category, box, score in zip(*columns)
        ]

    def reset(self) -> None:
        """Remove all detections; the annotations are kept."""
        self._parts, self._new = [], []
        self._seen = {}
        self._evaluation = None
        self._seconds = 0.0
        self._left_out = 0

    def update(
        self,
        rows: np.ndarray,
        rows_per_image: Sequence[int],
        im_ids: Sequence[int],
        sizes: Sequence[Size] | None = None,
    ) -> None:
        """Add the detections of a batch of N images.

        Args:
            rows: (M, 6) [class index, score, x1, y1, x2, y2] in pixels of the original images, image by image. Rows
                of class -1 are padding and left out. So are rows with NaN or infinity; a warning counts them.
            rows_per_image: (N,) number of rows of each image; the sum is M.
            im_ids: image ids (N,) or (N, 1).
            sizes: (N, 2) heights and widths of the original images in pixels; None: boxes are not clipped.
        """
        rows = np.array(rows, dtype=np.float64)
        rows = rows.reshape(-1, 6) if rows.size == 0 else rows
        counts = np.asarray(rows_per_image, dtype=np.int64).reshape(-1).tolist()
        ids = np.asarray(im_ids, dtype=np.int64).reshape(-1).tolist()
        if rows.ndim != 2 or rows.shape[1] != 6 or sum(counts) != len(rows) or len(ids) != len(counts):
            raise ValueError(
                f"COCOMetric.update: expected rows (M, 6), and N counts of sum M and N image ids, got rows "
                f"{rows.shape}, {len(counts)} counts of sum {sum(counts)}, {len(ids)} image ids"
            )
        wrong = (rows[:, 0] >= len(self.category_ids)) | (rows[:, 0] < -1)
        if wrong.any() and (wrong := wrong & np.isfinite(rows).all(axis=1)).any():
            raise ValueError(
                f"image {np.repeat(ids, counts)[wrong][0]}: a detection of class {int(rows[wrong, 0][0])}, but "
                f"{self.source} has {len(self.category_ids)} classes: num_classes does not fit the data set"
            )
        fresh: dict[int, Size | None] = {}
        kept = []
        for number, image in enumerate(ids):
            kept.append(image not in self._seen and image not in fresh)
            if kept[-1]:
                fresh[image] = None if sizes is None else (int(sizes[number][0]), int(sizes[number][1]))
        if not all(kept):
            rows, counts, ids = rows[np.repeat(kept, counts)], list(compress(counts, kept)), list(fresh)
        self._new.append((rows, counts, ids))
        self._seen.update(fresh)
        self._evaluation = None

    def extend(self, detections: np.ndarray, image_ids: Iterable[int], sizes: dict[int, Size] | None = None) -> None:
        """Add detections, for example another rank's `detections`, `image_ids` and `sizes`.

        Images that were added before are ignored together with their detections.
        """
        self._convert()
        new = {int(i): (sizes or {}).get(int(i)) for i in image_ids if int(i) not in self._seen}
        self._parts.append(detections[np.isin(detections["image_id"], np.array(list(new), dtype=np.int64))])
        self._seen.update(new)
        self._evaluation = None

    def extend_results(
        self,
        results: list[dict],
        image_ids: Iterable[int],
        sizes: dict[int, Size] | None = None,
        name: str = "the list of results",
    ) -> None:
        """Add entries of a COCO result file.

        A warning counts entries of images that are not in `image_ids`, and of unknown categories; they are left out.

        Args:
            results: the entries: dictionaries with image_id, category_id, score and bbox.
            image_ids, sizes: see `extend`.
            name: what error messages call the list, for example its file.

        Raises:
            DataError: an entry is not valid.
        """
        image_ids = list(image_ids)
        found = read_results(results, name)
        kept = np.isfinite(found["score"]) & np.isfinite(found["bbox"]).all(axis=1)
        self._left_out += int((~kept).sum())
        for key, ids in (("image_id", image_ids), ("category_id", self.category_ids)):
            known = np.isin(found[key], np.array(ids, dtype=np.int64))
            kept = kept & known
            strange = found[key][~known]
            if len(strange):
                counts = (len(strange), len(found), key, strange[0])
                logger.warning("%s: %d of %d results are left out: their %s, e.g. %d, is not evaluated", name, *counts)
        self.extend(found[kept], image_ids, sizes)

    def compute(self) -> dict[str, float]:
        """The twelve COCO numbers: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.

        They are fractions in 0..1. As in pycocotools, a number is -1 if there are no annotations for it, for example
        APl if no box is large.
        """
        evaluation = self._evaluate()
        return {name: mean(evaluation, *where) for name, where in STATISTICS.items()}

    def classwise_results(self) -> list[dict[str, Any]]:
        """`name`, `AP`, `AP50` and `boxes` of each class; `boxes` is the number of annotations that are not crowds."""
        evaluation = self._evaluate()
        evaluated = np.isin(self._fitted["image_id"], np.array(self.image_ids, dtype=np.int64))
        boxes = Counter(self._fitted["category_id"][evaluated & ~self._fitted["iscrowd"]].tolist())
        return [
            {
                "name": name,
                "AP": mean(evaluation, "precision", None, "all", 100, self._position(category)),
                "AP50": mean(evaluation, "precision", 0.50, "all", 100, self._position(category)),
                "boxes": boxes[category],
            }
            for name, category in zip(self.class_names, self.category_ids)
        ]

    def ground_truth(self) -> np.ndarray:
        """The annotations (K,) that detections are compared with, clipped to the images, of type `coco_truth.TRUTH`."""
        self._evaluate()
        return self._fitted

    def table(self) -> str:
        """A line about the evaluation, the twelve lines that pycocotools prints, and the classes with `classwise`."""
        numbers = self.compute()
        lines = [
            f"COCO bbox: {counted(len(self._seen), 'image')}, {counted(len(self.detections), 'detection')}, "
            f"computed by {evaluation_package()} in {self._seconds:.1f} s"
        ]
        lines += summary_lines(numbers)
        if self.classwise:
            lines.append(self.classwise_table())
        return "\n".join(lines)

    def classwise_table(self) -> str:
        """One line for each class: AP and AP50 in percent, and the number of annotated boxes."""
        names = [printable(name) for name in self.class_names]
        width = max([5] + [columns(name) for name in names])
        lines = [f"{'class':<{width}}  {'AP':>5}  {'AP50':>5}  {'boxes':>7}"]
        for name, row in zip(names, self.classwise_results()):
            values = ["-" if row[key] < 0 else f"{100 * row[key]:.1f}" for key in ("AP", "AP50")]
            lines.append(f"{padded(name, width)}  {values[0]:>5}  {values[1]:>5}  {row['boxes']:>7d}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write `results` to a COCO result file; an existing file is replaced only by a complete one."""
        write_json(path, self.results)

    def _convert(self) -> None:
        """Move what `update` got to `_parts`, all at once, since NumPy's calls for each image take longer."""
        if not self._new:
            return
        rows = np.concatenate([rows for rows, _, _ in self._new])
        counts, ids = (np.concatenate([entry[i] for entry in self._new]).astype(np.int64) for i in (1, 2))
        self._new = []
        found, left_out = detections_of_rows(rows, np.repeat(ids, counts), self.category_ids)
        self._left_out += left_out
        self._parts.append(found)

    def _position(self, category_id: int) -> int:
        """Position of a category in the arrays of `_evaluate`, which are sorted by id."""
        return sorted(set(self.category_ids)).index(category_id)

    def _evaluate(self) -> dict[str, Any]:
        """The result of `evaluate_boxes`, computed once until detections are added."""
        if self._evaluation is None:
            unknown = [i for i in self._seen if i not in self._known]
            if unknown:
                raise ValueError(
                    f"{self.source}: image id {unknown[0]} is not in it ({len(unknown)} of "
                    f"{len(self._seen)} evaluated images): expected the annotations of the evaluated images"
                )
            self._convert()
            if self._left_out:
                logger.warning("%d detections with NaN or infinity were left out", self._left_out)
            start = time.perf_counter()
            self._fitted = self._fit()
            self._evaluation = evaluate_boxes(
                truth=self._fitted,
                detections=self.detections,
                image_ids=self.image_ids,
                category_ids=self.category_ids,
            )
            self._seconds = time.perf_counter() - start
        return self._evaluation

    def _fit(self) -> np.ndarray:
        """The annotations, clipped to the images; a warning counts clipped boxes, again only if the numbers change."""
        truth = truth_of_records(self._records, self.category_ids) if self._truth is None else self._truth
        truth, *clipped = fit_to_images(truth, self.sizes)
        if clipped[0] and clipped != self._clipped:
            logger.warning(
                "%s: %d boxes reach beyond their images and are evaluated clipped to these, %d lie outside and are "
                "left out, as in training",
                *(self.source, clipped[0] - clipped[1], clipped[1]),
            )
        self._clipped = clipped
        return truth
