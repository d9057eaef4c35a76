"""Transforms one after the other."""

from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

from ppdet.data.errors import DataError


class Compose:
    """Calls `transforms` in turn on a sample, or on a list of samples. A batch transform (`takes_batch`)
    gets the list, any other one each sample of it.

    `Compose(reader.sample_transforms)({"im_file": path})` prepares a single image. `rng` may be left out
    when no transform is random.
    """

    def __init__(self, transforms: Sequence[Callable]) -> None:
        self.transforms = list(transforms)

    def __call__(self, sample: Any, rng: Optional[np.random.Generator] = None) -> Any:
        for transform in self.transforms:
            try:
                # Published files list Permute and NormalizeImage among the batch transforms too.
                if isinstance(sample, list) and not getattr(transform, "takes_batch", False):
                    sample = [transform(one, rng) for one in sample]
                else:
                    sample = transform(sample, rng)
            except DataError:
                raise
            except Exception as error:
                where = sample.get("im_file", "an image") if isinstance(sample, dict) else "a batch"
                raise RuntimeError(f"{type(transform).__name__} failed on {where}: {error!r}") from error
        return sample
