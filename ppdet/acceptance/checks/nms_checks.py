"""Checks of NMS on the device against an implementation in NumPy, for many boxes, few boxes and none."""

import numpy as np

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.small_detector import CONFIG

SIZES = (1, 5, 143, 999, 1000, 1001, 3000, 25_000)  # numbers of boxes; 1000 is the default of nms_top_k
THRESHOLD = 0.6  # of IoU
SCORE_THRESHOLD = 0.025
TOLERANCE = 1e-5  # of scores, and of boxes relative to 1000 pixels; NMS only copies both
# How configurations of MMDetection and FCOS_PLUS choose candidates before NMS.
LEVEL_TOP_K = {
    "FCOSHead.level_top_k": 1000,
    "FCOSHead.class_threshold": 0.05,
    "FCOSHead.last_pixel": True,
    "FCOSHead.nms.score_threshold": 0.0,
    "FCOSHead.nms.nms_top_k": -1,
}
ROWS_ADVICE = """Evaluation, inference and exports would detect other boxes than on a CPU, or end with an error. The GPU
kernel of multiclass_nms3 raises if nms_top_k is above the number of boxes; ppdet/modeling/nms.py has to prevent this.
Please send the report. Until this is fixed, `--device cpu` evaluates on the CPU, and exports with `export.nms=false`
work."""


def random_scene(seed: int, count: int, images: int = 2, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, R, 4) that overlap in clusters of 8, and scores (N, C, R), no two of them equal; float32.

    Scores are 0 for one of two candidates whose IoU is so near to the threshold that rounding decides.

    Args:
        count: boxes per image, R.
    """
    rng = np.random.default_rng([seed, count])
    center = rng.uniform(0, 900, (images, 1 + count // 8, 2)).repeat(8, axis=1)[:, :count]
    size = rng.uniform(40, 100, (images, count, 2))
    corner = center + rng.normal(0, 15, (images, count, 2))
    boxes = np.concatenate([corner, corner + size], axis=2).astype(np.float32)
    total = images * classes * count
    scores = (rng.permutation(total).reshape(images, classes, count) + 1) / np.float32(total + 1)
    scores = scores.astype(np.float32)
    for image, class_scores in enumerate(scores):
        for values in class_scores:
            while True:
                order = np.argsort(-values)[:1000]
                near = np.abs(iou_matrix(boxes[image][order]) - THRESHOLD) < 1e-5
                if not near.any():
                    break
                values[order[near.any(axis=1)]] = 0.0
    return boxes, scores


def iou_matrix(boxes: np.ndarray) -> np.ndarray:
    """Return the IoU (R, R) of all pairs of boxes (R, 4)."""
    boxes = boxes.astype(np.float64)
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = np.clip(np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner, 0, None)
    overlap = sides.prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return overlap / (area[:, None] + area[None] - overlap)


def numpy_nms(boxes: np.ndarray, scores: np.ndarray, *, top_k: int, keep: int) -> np.ndarray:
    """Compute NMS by its definition.

    Args:
        boxes: (R, 4) boxes of one image.
        scores: (C, R).
        top_k: number of the best candidates of each class above SCORE_THRESHOLD that take part.
        keep: number of the best detections of all classes to return.

    Returns:
        Rows (M, 6) of [class, score, x1, y1, x2, y2], best score first.
    """
    rows = []
    for number, values in enumerate(scores):
        order = np.argsort(-values)[:top_k]
        order = order[values[order] > SCORE_THRESHOLD]
        overlaps = iou_matrix(boxes[order]) > THRESHOLD
        kept = np.ones(len(order), bool)
        for place in range(len(order)):
            if kept[place]:
                kept[place + 1 :] &= ~overlaps[place, place + 1 :]
        chosen = order[kept]
        rows.append(np.column_stack([np.full(len(chosen), number), values[chosen], boxes[chosen]]))
    together = np.concatenate(rows)
    return together[np.argsort(-together[:, 1])][:keep]


def device_nms(boxes: np.ndarray, scores: np.ndarray, *, keep: int = 100) -> list[np.ndarray]:
    """Return the rows of each image that `MultiClassNMS` computes on the current device, best score first."""
    import paddle

    from ppdet.modeling.nms import MultiClassNMS

    nms = MultiClassNMS(nms_threshold=THRESHOLD, keep_top_k=keep)
    rows, counts = (tensor.numpy() for tensor in nms(paddle.to_tensor(boxes), paddle.to_tensor(scores)))
    ends = np.cumsum(counts)
    if len(ends) != len(boxes) or rows.shape != (ends[-1], 6):
        raise Failed(f"{len(boxes)} images gave rows of shape {rows.shape} and counts {counts.tolist()}")
    return [part[np.argsort(-part[:, 1])] for part in np.split(rows, ends[:-1])]


def compare_nms(boxes: np.ndarray, scores: np.ndarray, *, keep: int) -> tuple[int, float]:
    """Compare NMS on the device with NumPy. Returns the number of rows, and their largest difference.

    Raises:
        Failed: the rows differ by more than the tolerance.
    """
    total, worst = 0, 0.0
    for image, rows in enumerate(device_nms(boxes, scores, keep=keep)):
        expected = numpy_nms(boxes[image], scores[image], top_k=1000, keep=keep)
        if rows.shape != expected.shape:
            raise Failed(f"image {image}: {len(rows)} rows, {len(expected)} with NumPy")
        difference = np.abs(rows - expected) / np.array([1, 1, 1e3, 1e3, 1e3, 1e3])
        total, worst = total + len(rows), max(worst, float(difference.max(initial=0)))
        if not worst <= TOLERANCE:
            row = int(difference.max(axis=1).argmax())
            actual = rows[row].round(4).tolist()
            raise Failed(f"image {image}, row {row}: {actual}, with NumPy {expected[row].round(4).tolist()}")
    return total, worst


def add_check(count: int) -> None:
    """Register a check with so many boxes; the kernel's conditions depend on the number."""

    @check(f"nms/boxes_{count}", title=f"NMS of {count} boxes, compared with NumPy", advice=ROWS_ADVICE, seconds=1)
    def compare_rows(context: Context) -> Outcome:
        boxes, scores = random_scene(context.seed, count)
        rows, error = compare_nms(boxes, scores, keep=100)
        # For one class, all detections are compared, not only the best ones.
        rows_of_one, error_of_one = compare_nms(boxes, scores[:, :1], keep=1000)
        numbers = {"rows": rows, "rows_of_one_class": rows_of_one, "largest_difference": max(error, error_of_one)}
        return Outcome(f"{rows} rows of four classes and {rows_of_one} rows of one class are equal", numbers)


for _count in SIZES:
    add_check(_count)


@check("nms/nothing", seconds=1)
def nothing(context: Context) -> Outcome:
    """NMS without any candidate, twice, and with candidates in one of two images

    If no image of a batch has a candidate, the GPU kernel launches nothing, and its next call may raise CUDA error
    9. Evaluation and inference would end at images without objects. ppdet/modeling/nms.py has to prevent this by an
    extra detection that it removes again. Please send the report.
    """
    boxes, scores = random_scene(context.seed, 143)
    one_empty = scores.copy()
    one_empty[0] = 0.8 * SCORE_THRESHOLD
    for attempt in range(2):
        for images in (1, 2):
            rows = sum(map(len, device_nms(boxes[:images], 0 * scores[:images])))
            if rows:
                raise Failed(f"{images} images without a candidate gave {rows} rows", attempt=attempt)
        compare_nms(boxes, one_empty, keep=100)
    total, _ = compare_nms(boxes, scores, keep=100)
    return Outcome(f"0 rows without candidates, then {total} rows")


@check("nms/nothing_in_detector", seconds=3)
def nothing_in_detector(context: Context) -> Outcome:
    """The whole detector with class scores near 0, twice, and then with high ones

    Like nms/nothing, but with the head, which chooses candidates before NMS. Evaluation and inference would end at
    images without objects. Please send the report with the traceback.
    """
    import paddle

    from ppdet.core.workspace import load_config
    from ppdet.engine.build import build_model

    numbers, side, total = {}, context.pick(full=256, quick=64), 0
    for name, overrides in (("one_threshold", {}), ("level_top_k", LEVEL_TOP_K)):
        model = build_model(load_config(CONFIG, overrides))
        model.eval()
        image = paddle.full([2, 3, side, side], 0.1)
        batch = {"image": image, "scale_factor": paddle.ones([2, 2]), "im_shape": paddle.full([2, 2], float(side))}
        class_bias = model.fcos_head.fcos_head_cls.bias
        with paddle.no_grad():
            for bias in (-20.0, -20.0, 2.0):
                class_bias.set_value(paddle.full_like(class_bias, bias))
                rows, counts = model(batch)
                numbers[f"{name}, bias {bias}"] = counts.numpy().tolist()
                total = int(counts.numpy().sum())
                if (total == 0) != (bias < 0) or len(rows.numpy()) != total:
                    raise Failed(f"{name}: class logits near {bias} gave {rows.shape[0]} rows", **numbers)
    return Outcome(f"0 rows without candidates, then {total} rows", numbers)
