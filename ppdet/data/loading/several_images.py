"""Transforms of several images, such as Mosaic: which other images they get, and until when they are used."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from ppdet.data.transforms.base import takes_several
from ppdet.data.transforms.composing.compose import Compose
from ppdet.utils.ranges import require_length, require_number

MAX_FURTHER = 100  # further images of one transform
UNTIL = ("mosaic_epoch", "mixup_epoch", "cutmix_epoch")  # settings of readers, see `Transform.used_until`


class SeveralImages(Sequence[dict]):
    """The samples that a transform of several images is called with: its own, and further ones.

    Args:
        own: the sample itself.
        count: number of the further samples.
        make: make(number) -> the further sample of this number, from 0. It is called when the sample is first used.
    """

    def __init__(self, own: dict, count: int, make: Callable[[int], dict]) -> None:
        self.name = f"{own.get('im_file', 'an image')} and further images"
        self._samples: list[dict | None] = [own, *[None] * count]
        self._make = make

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index: int | slice) -> dict | list[dict]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        sample = self._samples[place]
        if sample is None:
            sample = self._samples[place] = self._make(place - 1)
        return sample


def split_parts(transforms: Sequence[Callable]) -> list[Any]:
    """Return sample transforms as parts: each transform of several images, and a Compose of those between them.

    Raises:
        ValueError: a transform takes more than 100 further images.
    """
    return list(_parts(transforms))


def _parts(transforms: Sequence[Callable]) -> Iterator[Any]:
    single: list[Callable] = []
    for transform in transforms:
        if not takes_several(transform):
            single.append(transform)
            continue
        name = f"{type(transform).__name__}.further_images"
        require_number(name, transform.further_images, maximum=MAX_FURTHER)  # type: ignore[attr-defined]
        if single:
            yield Compose(single)
        yield transform
        single = []
    if single:
        yield Compose(single)


def images_per_sample(transforms: Sequence[Callable]) -> int:
    """Return how many images are read for one sample, at most."""
    return math.prod(1 + getattr(transform, "further_images", 0) for transform in transforms)


def check_until(reader: str, values: Sequence[int | str]) -> dict[str, int | str]:
    """Return the settings of `UNTIL` by name; ValueError unless they are integers from -1 on, or shares of the run."""
    for name, value in zip(UNTIL, values):
        require_length(f"{reader}.{name}", value, minimum=-1)
    return dict(zip(UNTIL, values))


class Closing:
    """Until when a reader uses its transforms of several images.

    Args:
        transforms: its sample transforms.
        until: the settings of `UNTIL`, see BaseReader.

    Attributes:
        run_epochs: length of the run in epochs, which shares need. As long as nobody sets it, they mean all epochs.
    """

    def __init__(self, transforms: Sequence[Callable], until: Mapping[str, int | str]) -> None:
        self.settings = {
            type(transform).__name__: getattr(transform, "used_until", "")
            for transform in transforms
            if takes_several(transform)
        }
        self.until = until
        self.run_epochs = math.inf

    def by_transform(self) -> dict[str, float]:
        """For each transform of several images, by its class's name: the number of epochs in which it is used."""
        return {name: self._epochs(self.until.get(setting, 0)) for name, setting in self.settings.items()}

    def _epochs(self, value: int | str) -> float:
        if isinstance(value, str):
            share = float(value.removesuffix("%")) / 100
            return share * self.run_epochs if 0 < share < 1 else share and math.inf
        return {0: math.inf, -1: 0.0}.get(value, value)

    def closed(self, step: int, steps_per_epoch: int) -> tuple[str, ...]:
        """The settings whose transforms are not used in a step, counted from 0."""
        return tuple(name for name, value in self.until.items() if step >= self._epochs(value) * steps_per_epoch)
