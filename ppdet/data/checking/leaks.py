"""Images for training that a split for evaluation has, too, and which of them a cleaned copy leaves out."""

from collections.abc import Sequence

from ppdet.data.checking.image_pass import ImageFacts
from ppdet.data.checking.listed_split import ListedSplit

MOST_ALIKE = 0.1  # share of a split's images; with more, all pictures may look alike, as those of a fixed camera do


def leaked(
    split: ListedSplit, splits: Sequence[ListedSplit], facts: dict[str, ImageFacts], alike: Sequence[Sequence[str]]
) -> tuple[set[str], set[str]]:
    """Return the files of a split for training that are in one for evaluation, too.

    Args:
        splits: all splits.
        alike: groups of files that show the same picture, see `image_pass.near_duplicates`.

    Returns:
        The copies of images for evaluation, and the other images that look like one.
    """
    if split.is_evaluated:
        return set(), set()
    evaluated = {path for other in splits if other.is_evaluated for path in other.files}
    digests = {facts[path].digest for path in evaluated if facts[path].size}
    ours = set(split.files)
    copies = {path for path in ours if path in evaluated or (facts[path].size and facts[path].digest in digests)}
    similar = {path for group in alike if evaluated & set(group) for path in group if path in ours}
    return copies, similar - copies


def left_out_of_training(
    split: ListedSplit, splits: Sequence[ListedSplit], facts: dict[str, ImageFacts], alike: Sequence[Sequence[str]]
) -> tuple[set[str], int]:
    """Return the files that a cleaned copy leaves out of a split because they are for evaluation; see `leaked`.

    Images that only look like one are left out if they are few.

    Returns:
        The files, and the number of images that look like one for evaluation and stay.
    """
    copies, similar = leaked(split, splits, facts, alike)
    if len(similar) > max(1, MOST_ALIKE * len(set(split.files))):
        return copies, len(similar)
    return copies | similar, 0
