"""Splitting images into training, validation and test parts: by seed, each class in its share, groups kept together."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ppdet.data.splitting.split import shuffled
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FAR_OFF = 0.5  # of its share, by which a part may miss it without a warning
NAMES = ("train", "val", "test")


def shares_of(text: str) -> list[float]:
    """Return the shares in a text such as "0.8/0.2", "80/20" or "0.7/0.2/0.1", which add up to 1.

    Raises:
        DataError: they are not two or three numbers above 0 that add up to 1 or 100.
    """
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        shares = []
    total = sum(shares)
    if not (2 <= len(shares) <= 3 and all(0 < share < np.inf for share in shares) and total > 0):
        raise DataError(f"--split {text[:40]}: expected shares for train and val (and test), such as 0.8/0.2")
    if min(abs(total - 1), abs(total - 100)) > 1e-6:
        raise DataError(f"--split {text[:40]}: the shares add up to {total:g}, expected 1 or 100")
    return [share / total for share in shares]


def split_groups(
    classes: Sequence[Counter], groups: Sequence[Sequence[int]], shares: Sequence[float], seed: int
) -> list[int]:
    """Return the part of each image: 0 for the first share, and so on.

    This is iterative stratification (Sechidis et al., 2011) of groups: again and again, the class with the fewest boxes
    that are still to be placed is looked at, and one of its groups goes to the part that lacks most boxes of it; ties
    are decided by the lack of images, then by the order of the parts. Groups without boxes come last. The groups are
    taken in an order that the seed decides, larger ones first.

    Args:
        classes: how many boxes of each class each of the N images has.
        groups: each image's number once; the images of a group go to the same part.
        shares: the shares of the parts, which add up to 1.
        seed: decides among equal choices; the same seed gives the same parts on every machine.

    Raises:
        DataError: there are fewer groups than parts.
    """
    if len(groups) < len(shares):
        raise DataError(
            f"images that do not look alike: {len(groups)}, too few to split into {len(shares)} parts: label more "
            "pictures of other places, leave out --split, or let images that look alike come apart with --split_similar"
        )
    order = shuffled(len(groups), seed).tolist()
    order.sort(key=lambda number: -len(groups[number]))
    boxes = [sum((classes[image] for image in group), Counter()) for group in groups]
    totals = sum(boxes, Counter())
    lack = [Counter({name: totals[name] * share for name in totals}) for share in shares]
    lack_images = [len(classes) * share for share in shares]
    part = [0] * len(classes)
    holders = {name: [number for number in order if boxes[number][name]] for name in totals}
    is_placed = [False] * len(groups)

    def place(number: int, name: str | None) -> None:
        side = max(range(len(shares)), key=lambda k: (lack[k][name] if name is not None else 0, lack_images[k], -k))
        is_placed[number] = True
        lack_images[side] -= len(groups[number])
        for other, count in boxes[number].items():
            lack[side][other] -= count
        for image in groups[number]:
            part[image] = side

    # Placing all groups of the rarest class first is the same as looking for the rarest one again after each group,
    # but for classes that become rarer meanwhile.
    for name in sorted(totals, key=lambda name: (totals[name], str(name))):
        for number in holders[name]:
            if not is_placed[number]:
                place(number, name)
    for number in order:
        if not is_placed[number]:
            place(number, None)
    _fill_empty(part, groups, order, len(shares))
    _warn_of_missed_shares(part, shares, max(map(len, groups)))
    return part


def _warn_of_missed_shares(part: list[int], shares: Sequence[float], largest: int) -> None:
    """Log a warning if a part has far more or fewer images than its share because of the largest group."""
    for side, share in enumerate(shares):
        count = part.count(side)
        if largest > 1 and abs(count / len(part) - share) > FAR_OFF * share:
            logger.warning(
                "%s has %d of %d images, %.0f %% instead of %.0f %%: %d images look alike, and stay together; "
                "with --split_similar they come apart, as images of a fixed camera may",
                *(NAMES[side], count, len(part), 100 * count / len(part), 100 * share, largest),
            )


def _fill_empty(part: list[int], groups: Sequence[Sequence[int]], order: list[int], parts: int) -> None:
    """Give each part without images the smallest group of the part with most groups."""
    for side in range(parts):
        if side in part:
            continue
        counts = Counter(part[group[0]] for group in groups)
        donor = counts.most_common(1)[0][0]
        number = next(number for number in reversed(order) if part[groups[number][0]] == donor)
        for image in groups[number]:
            part[image] = side
