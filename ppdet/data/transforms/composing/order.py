"""In which order transforms can be listed."""

from collections.abc import Callable, Iterable

from ppdet.data.transforms.base import ListedStep, has_property
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import NormalizeImage, Permute

# In the order in which they are listed.
STEPS: dict[ListedStep, type] = {"NormalizeImage": NormalizeImage, "Permute": Permute, "PadBatch": PadBatch}


def check_order(transforms: Iterable[Callable], name: str) -> None:
    """Raise ValueError for a transform that comes after the one that it must be `listed_before`.

    It would flip the wrong axis, or add colors to normalized values, without an error. Decode comes first, since
    others need its image, and what sets the size of images comes before the targets, which belong to that size.
    `name` is that of the reader, or of a list within its lists.
    """
    steps, passed, first, maker = list(STEPS), -1, "", ""
    for transform in transforms:
        kind = type(transform).__name__
        before: ListedStep = getattr(transform, "listed_before", "")
        if before and steps.index(before) <= passed:
            raise ValueError(f"{name}: {kind} comes after {steps[passed]}: list it before {before}")
        if first and isinstance(transform, Decode):
            raise ValueError(f"{name}: {kind} comes after {first}, which needs an image: list {kind} first")
        kinds = [place for place, step in enumerate(STEPS.values()) if isinstance(transform, step)]
        if maker and (before or kinds):
            raise ValueError(f"{name}: {kind} comes after {maker}, whose targets it would not change: list it first")
        passed = max([passed, *kinds])
        first = first or (kind if before or kinds else "")
        maker = maker or (kind if has_property(transform, "makes_targets") else "")
