"""Suppression on the device beside the same in NumPy, for many and for few boxes, and for none."""

import numpy as np

from ppdet.acceptance import made
from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome

SIZES = (1, 5, 143, 999, 1000, 1001, 3000, 25_000)  # around 1000, the default of nms_top_k
THRESHOLD = 0.6
TOLERANCE = 1e-5  # of boxes, in their size of up to 1000, and of scores: they are only copied
ROWS_ADVICE = """Evaluation, inference and exports would detect other boxes than on a CPU, or stop with an error. The
GPU kernel of multiclass_nms3 refuses nms_top_k above the number of boxes: ppdet/modeling/nms.py is to prevent that.
Report it; until it is mended, `--device cpu` evaluates on the CPU, and exports with `export.nms=false` run."""


def scene(seed: int, count: int, images: int = 2, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, R, 4) that overlap in clusters, and scores (N, C, R), no two of which are equal; float32.

    No two boxes overlap so nearly by the threshold that rounding decides.
    """
    rng = np.random.default_rng([seed, count])
    middle = rng.uniform(0, 900, (images, 1 + count // 8, 2)).repeat(8, axis=1)[:, :count]
    size = rng.uniform(40, 100, (images, count, 2))
    corner = middle + rng.normal(0, 15, (images, count, 2))
    boxes = np.concatenate([corner, corner + size], axis=2).astype(np.float32)
    places = images * classes * count
    scores = (rng.permutation(places).reshape(images, classes, count) + 1) / np.float32(places + 1)
    scores = scores.astype(np.float32)
    return boxes, scores


def ious(boxes: np.ndarray) -> np.ndarray:
    """IoU (R, R) of boxes (R, 4)."""
    boxes = boxes.astype(np.float64)
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = np.clip(np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner, 0, None)
    overlap = sides.prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return overlap / (area[:, None] + area[None] - overlap)


def suppress(boxes: np.ndarray, scores: np.ndarray, *, lowest: float, top_k: int, keep: int) -> np.ndarray:
    """Rows (M, 6) of [class, score, x1, y1, x2, y2] of one image's boxes (R, 4) and scores (C, R), best first.

    The definition: of each class the `top_k` best above `lowest`; one by one, best first, without those that overlap a
    better one that stayed by more than the threshold; of all that stay, the `keep` best.
    """
    rows = []
    for number, values in enumerate(scores):
        order = np.argsort(-values)[:top_k]
        order = order[values[order] > lowest]
        overlaps = ious(boxes[order]) > THRESHOLD
        stays = np.ones(len(order), bool)
        for place in range(len(order)):
            if stays[place]:
                stays[place + 1 :] &= ~overlaps[place, place + 1 :]
        chosen = order[stays]
        rows.append(np.column_stack([np.full(len(chosen), number), values[chosen], boxes[chosen]]))
    together = np.concatenate(rows)
    return together[np.argsort(-together[:, 1])][:keep]


def detect(boxes: np.ndarray, scores: np.ndarray, **options: object) -> list[np.ndarray]:
    """Rows of each image as `MultiClassNMS` gives them on the current device, best first."""
    import paddle

    from ppdet.modeling.nms import MultiClassNMS

    nms = MultiClassNMS(nms_threshold=THRESHOLD, **options)
    rows, counts = nms(paddle.to_tensor(boxes), paddle.to_tensor(scores))
    rows, ends = rows.numpy(), np.cumsum(counts.numpy())
    if len(ends) != len(boxes) or rows.shape != (ends[-1], 6):
        raise Failed(f"{len(boxes)} images gave rows of shape {rows.shape} and counts {counts.numpy().tolist()}")
    return [part[np.argsort(-part[:, 1])] for part in np.split(rows, ends[:-1])]


def compare(boxes: np.ndarray, scores: np.ndarray, *, keep: int) -> tuple[int, float]:
    """How many rows there are, and by how much they differ at most from `suppress`.

    Raises:
        Failed: the rows are others.
    """
    found = detect(boxes, scores, keep_top_k=keep)
    total, worst = 0, 0.0
    for image, rows in enumerate(found):
        expected = suppress(boxes[image], scores[image], lowest=0.025, top_k=1000, keep=keep)
        if rows.shape != expected.shape:
            raise Failed(f"image {image}: {len(rows)} rows, {len(expected)} by NumPy")
        difference = np.abs(rows - expected) / np.array([1, 1, 1e3, 1e3, 1e3, 1e3])
        total, worst = total + len(rows), max(worst, float(difference.max(initial=0)))
        if not worst <= TOLERANCE:
            row = int(difference.max(axis=1).argmax())
            raise Failed(
                f"image {image}, row {row}: {rows[row].round(4).tolist()}, by NumPy {expected[row].round(4).tolist()}"
            )
    return total, worst


def add_check(count: int) -> None:
    """A check of its own for each number of boxes: the kernel's conditions depend on it."""

    @check(f"nms/boxes_{count}", title=f"rows of {count} boxes beside NumPy's", advice=ROWS_ADVICE, limit=60, seconds=1)
    def rows_of(context: Context) -> Outcome:
        boxes, scores = without_near_ones(*scene(context.seed, count))
        rows, error = compare(boxes, scores, keep=100)
        # Of one class, so that all that stay are among the rows.
        of_one_class, error_of_one = compare(boxes, scores[:, :1], keep=1000)
        numbers = {"rows": rows, "rows_of_one_class": of_one_class, "largest_difference": max(error, error_of_one)}
        return Outcome(f"{rows} rows of four classes and {of_one_class} of one are equal", numbers)


for size in SIZES:
    add_check(size)


def without_near_ones(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give score 0 to one of each two candidates whose IoU is the threshold but for rounding."""
    scores = scores.copy()
    for image, class_scores in enumerate(scores):
        for values in class_scores:
            while True:
                order = np.argsort(-values)[:1000]
                near = np.abs(ious(boxes[image][order]) - THRESHOLD) < 1e-5
                if not near.any():
                    break
                values[order[near.any(axis=1)]] = 0.0
    return boxes, scores


@check(
    "nms/nothing",
    title="images without any detection, twice, and one that has some",
    advice="""Where no image of a batch has a detection, the GPU kernel launches nothing, and its next call may raise
    CUDA error 9: evaluation and inference would stop at images that are empty. ppdet/modeling/nms.py is to prevent that
    by a detection that it removes again; report it.""",
    seconds=1,
)
def nothing(context: Context) -> Outcome:
    boxes, scores = without_near_ones(*scene(context.seed, 143))
    empty, one_empty = scores * 0, scores.copy()
    one_empty[0] = 0.02  # below the threshold
    for attempt in range(2):
        for images in (1, 2):
            rows = detect(boxes[:images], empty[:images])
            if sum(map(len, rows)):
                raise Failed(f"{images} images without a candidate gave {sum(map(len, rows))} rows", attempt=attempt)
        compare(boxes, one_empty, keep=100)
    total, _ = compare(boxes, scores, keep=100)
    return Outcome(f"none, and then {total} rows")


@check(
    "nms/nothing_in_detector",
    title="the whole detector on grey images that have nothing, and then on ones that have",
    advice="""As nms/nothing, by way of the head, which chooses candidates first: evaluation and inference would stop at
    images that are empty. Report it with the traceback below.""",
    seconds=3,
)
def nothing_in_detector(context: Context) -> Outcome:
    import paddle

    from ppdet.core.workspace import load_config
    from ppdet.engine.build import build_model

    numbers, side = {}, context.pick(full=256, quick=64)
    for name, more in (("one_threshold", {}), ("level_top_k", LEVEL_TOP_K)):
        model = build_model(load_config(made.CONFIG, more))
        model.eval()
        image = paddle.full([2, 3, side, side], 0.1)
        batch = {"image": image, "scale_factor": paddle.ones([2, 2]), "im_shape": paddle.full([2, 2], float(side))}
        of_classes = model.fcos_head.fcos_head_cls.bias
        with paddle.no_grad():
            for bias in (-20.0, -20.0, 2.0):
                of_classes.set_value(paddle.full_like(of_classes, bias))
                rows, counts = model(batch)
                numbers[f"{name}, bias {bias}"] = counts.numpy().tolist()
                if (sum(counts.numpy()) == 0) != (bias < 0) or len(rows.numpy()) != sum(counts.numpy()):
                    raise Failed(f"{name}: class logits near {bias} gave {rows.shape[0]} rows", **numbers)
    return Outcome(f"none, and then {sum(counts.numpy())} rows", numbers)


# As configurations of MMDetection and FCOS_PLUS choose candidates.
LEVEL_TOP_K = {
    "FCOSHead.level_top_k": 1000,
    "FCOSHead.class_threshold": 0.05,
    "FCOSHead.last_pixel": True,
    "FCOSHead.nms.score_threshold": 0.0,
    "FCOSHead.nms.nms_top_k": -1,
}
