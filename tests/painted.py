"""Images with painted rectangles, each of a color of its own, so that a box can be compared with its pixels."""

import numpy as np

BACKGROUND = 60  # gray; no color is near it, near the gray of mosaics, or near another color


def colors_of(count: int) -> np.ndarray:
    """(count, 3) colors of which any two differ by at least 80 in a channel."""
    levels = (0, 85, 170, 255)
    every = np.array([(r, g, b) for r in levels for g in levels for b in levels if len({r, g, b}) > 1], dtype=np.uint8)
    return every[np.random.default_rng(7).permutation(len(every))[:count]]


def painted_sample(
    rng: np.random.Generator, first: int, *, size: tuple[int, int], count: int, crowd: int | None = None
) -> dict:
    """A sample after Decode, with `count` rectangles that do not touch. Their classes are first, first + 1, ...

    Args:
        size: (h, w) of the image.
        crowd: number of the rectangle that is a crowd.
    """
    h, w = size
    image = np.full((h, w, 3), BACKGROUND, dtype=np.uint8)
    boxes, taken = [], np.zeros((h, w), dtype=bool)
    while len(boxes) < count:
        height, width = (int(rng.integers(8, side // 2)) for side in size)
        y, x = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
        if taken[y : y + height, x : x + width].any():
            continue
        taken[max(0, y - 3) : y + height + 3, max(0, x - 3) : x + width + 3] = True
        image[y : y + height, x : x + width] = colors_of(first + count)[first + len(boxes)]
        boxes.append([x, y, x + width, y + height])
    classes = np.arange(first, first + count, dtype=np.int32)[:, None]
    return {
        "image": image,
        "im_id": np.array([first], dtype=np.int64),
        "im_file": f"{first}.png",
        "im_shape": np.array(size, dtype=np.float32),
        "scale_factor": np.ones(2, dtype=np.float32),
        "gt_bbox": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "gt_class": classes,
        "is_crowd": (np.arange(count) == crowd).astype(np.int32)[:, None],
    }


def painted_samples(seed: int, count: int, rectangles: int = 3) -> list[dict]:
    """Samples of random sizes with rectangles of different colors; one of them may have none, and one has a crowd."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        size = (int(rng.integers(50, 130)), int(rng.integers(50, 130)))
        found = 0 if number == 2 and seed % 2 else rectangles
        crowd = 1 if number == 1 else None
        samples.append(painted_sample(rng, number * rectangles, size=size, count=found, crowd=crowd))
    return samples


def seen_box(image: np.ndarray, label: int, tolerance: int = 25) -> tuple[np.ndarray, int] | None:
    """The box (4,) around the pixels that have nearly the color of a label, and their number; None without any."""
    color = colors_of(label + 1)[label].astype(int)
    ys, xs = np.nonzero((np.abs(image.astype(int) - color) <= tolerance).all(axis=-1))
    if not len(ys):
        return None
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]), len(ys)


def frozen(samples: list[dict]) -> list[dict]:
    """The samples, whose arrays refuse to be written into."""
    for sample in samples:
        for value in sample.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
    return samples
