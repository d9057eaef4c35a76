"""In which order transforms can be listed."""

from collections.abc import Callable, Iterable

from ppdet.data.transforms.base import ListedStep
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.normalize import NormalizeImage, Permute

# In the order in which they are listed.
STEPS: dict[ListedStep, type] = {"NormalizeImage": NormalizeImage, "Permute": Permute, "PadBatch": PadBatch}


def check_order(transforms: Iterable[Callable], name: str) -> None:
    """Raise ValueError for a transform that comes after the one that it must be `listed_before`.

    It would flip the wrong axis, or add colors to normalized values, without an error. `name` is that of the reader.
    """
    steps, passed = list(STEPS), -1
    for transform in transforms:
        before: ListedStep = getattr(transform, "listed_before", "")
        if before and steps.index(before) <= passed:
            raise ValueError(f"{name}: {type(transform).__name__} comes after {steps[passed]}: list it before {before}")
        kinds = [place for place, kind in enumerate(STEPS.values()) if isinstance(transform, kind)]
        passed = max([passed, *kinds])
