"""The base class of transforms: a callable on samples, whose attributes describe how it changes them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ppdet.utils.errors import DataError
from ppdet.utils.ranges import require_number

Property = Literal["takes_batch", "keeps_uint8", "moves_pixels", "pixels_only", "makes_targets", "moves_objects"]

ListedStep = Literal["", "NormalizeImage", "Permute", "PadBatch"]


class Transform:
    """Base class of transforms.

    A transform is called as `transform(sample, rng)` and returns the sample, changed or not. A sample is a dict; the
    keys are listed in `ppdet.data.transforms`. It may replace the sample's arrays, but must not write into them:
    records share their arrays between epochs. All of its randomness must come from the NumPy generator `rng`, so that a
    sample depends on seed, epoch and image alone.

    Data workers may receive transforms as pickles, so their attributes must be picklable.

    The attributes below allow readers to do more than call a list of transforms in turn. The defaults promise nothing
    and are always safe. Any other callable works as a transform too, with these defaults unless it has such attributes.

    Attributes:
        takes_batch: it is called with the list of a batch's samples instead of one sample, and returns such a list.
        keeps_uint8: given a uint8 image it returns a uint8 image, and `im_shape` is the size of that image.
            Readers then leave the normalization after it to the device, to which uint8 is a quarter of the transfer.
        moves_pixels: it gives the same result before and after NormalizeImage, since it only moves, copies or drops
            pixels, or does not touch the image. Padding with zeros counts, since the padding of a batch is zero after
            normalization as well.
        pixels_only: it changes the values of `image`, but neither its size nor another field. Only such transforms may
            make the two views of an image in semi-supervised training.
        moves_objects: it moves objects or cuts some off, other than by a resizing, so that detections in its image are
            not where the objects of the file's image are. Only readers for training may list it.
        makes_targets: it adds the targets of the loss to each sample of a batch.
        listed_before: "NormalizeImage" if it needs bytes, "Permute" if it needs images (H, W, 3), "PadBatch" if it
            needs images without padding. Readers refuse it after that transform, and after a later one of the three.
            "": it takes whatever comes.
        further_images: how many other images of the data set it takes besides the sample's own, as Mosaic does. It is
            called with 1 + further_images samples, its own first, to all of which the transforms listed before it were
            applied. A further sample is made when it is first used: one that is not looked at costs nothing. Only the
            sample_transforms of TrainReader and SemiTrainReader may list such a transform.
        used_until: the setting of these readers that says until when the transform is used, for one of several images.
            After that, samples pass it unchanged. "": it is always used.
        grows_until: the training step until which its probability grows, its parameter upper_iter; 0: it does not.
        members: the transforms that it applies itself, as RandomSelect does.
    """

    takes_batch: bool = False
    keeps_uint8: bool = False
    moves_pixels: bool = False
    pixels_only: bool = False
    makes_targets: bool = False
    moves_objects: bool = False
    listed_before: ListedStep = ""
    further_images: int = 0
    used_until: Literal["", "mosaic_epoch", "mixup_epoch", "cutmix_epoch"] = ""
    grows_until: int = 0
    members: Sequence[Callable] = ()

    def __call__(self, sample: Any, rng: np.random.Generator) -> Any:
        """Transform a sample (a dict), or a list of samples if `takes_batch` or `further_images` is set."""
        raise NotImplementedError(f"{type(self).__name__}.__call__(sample, rng)")

    def keep_largest(self) -> bool:
        """Draw only the largest of its sizes from now on, for an estimate of memory; return whether it had several."""
        return False


def has_property(transform: Callable, name: Property) -> bool:
    """Whether a transform, or any other callable used as one, has an attribute of `Transform` set."""
    return bool(getattr(transform, name, False))


def takes_several(transform: Callable) -> bool:
    """Whether a transform takes further images besides the sample's own."""
    return getattr(transform, "further_images", 0) > 0


def growing(transforms: Iterable[Callable]) -> dict[str, int]:
    """For each transform whose probability grows, by its class's name: the training step until which it does."""
    found: dict[str, int] = {}
    for transform in transforms:
        found |= growing(getattr(transform, "members", ()))
        if getattr(transform, "grows_until", 0):
            found[type(transform).__name__] = transform.grows_until  # type: ignore[attr-defined]
    return found


def refuse_several(transforms: Iterable[Callable], name: str) -> None:
    """Raise ValueError for a transform of several images; `name` is of the list that may not have it."""
    advice = "takes several images: list it in the sample_transforms of TrainReader or SemiTrainReader, by itself"
    _refuse(filter(takes_several, transforms), name, advice)


def refuse_batches(transforms: Iterable[Callable], name: str) -> None:
    """Raise ValueError for a transform of whole batches; `name` is of the list of sample transforms that has it."""
    found = (one for one in transforms if has_property(one, "takes_batch"))
    _refuse(found, name, "takes the samples of a batch together: list it in the batch transforms")


def refuse_moves(transforms: Iterable[Callable], name: str) -> None:
    """Raise ValueError for a transform with which detections would lie elsewhere; `name` is that of the reader."""
    found = (one for one in transforms if has_property(one, "moves_objects"))
    advice = "moves objects, so that detections would not be where the objects are: list it for training alone"
    _refuse(found, name, advice)


def _refuse(unwanted: Iterable[Callable], name: str, advice: str) -> None:
    """Raise ValueError for the first of the transforms, if there is one; `advice` continues "which …"."""
    for transform in unwanted:
        raise ValueError(f"{name} has {type(transform).__name__}, which {advice}")


def check_probability(value: float, name: str) -> None:
    """Raise ValueError unless `value` is from 0 to 1; `name` is the parameter's, such as "RandomFlip.prob"."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, expected a probability from 0 to 1")


def check_some(value: Sequence, name: str, expected: str) -> None:
    """Raise ValueError for an empty list, with which a transform would do nothing without a word.

    Args:
        name: the parameter, such as "RandomCrop.thresholds".
        expected: what the list has to have.
    """
    if not len(value):
        raise ValueError(f"{name} is empty, expected {expected}")


def check_range(value: Any, name: str, most: float = np.inf) -> tuple[float, float]:
    """Return a range [low, high] as a pair; ValueError unless 0 < low <= high <= most and high is finite.

    `name` is the parameter's, such as "RandomCrop.scaling".
    """
    if len(value) != 2 or not 0 < value[0] <= value[1] <= most or value[1] == np.inf:
        at_most = "" if most == np.inf else f", at most {most}"
        raise ValueError(f"{name} is {list(value)}, expected [low, high] above 0{at_most}")
    return value[0], value[1]


def check_span(value: Any, name: str, most: float) -> tuple[float, float]:
    """Return a range [low, high] as a pair; ValueError unless -most <= low <= high <= most.

    `name` is the parameter's, such as "Mosaic.degrees".
    """
    if len(value) != 2 or not -most <= value[0] <= value[1] <= most:
        raise ValueError(f"{name} is {list(value)}, expected [low, high] from {-most:g} to {most:g}")
    return value[0], value[1]


def check_color(value: Any, name: str) -> tuple[float, float, float]:
    """Return a color (red, green, blue) that is given as three numbers or one; ValueError unless from 0 to 255.

    `name` is the parameter's, such as "RandomExpand.fill_value".
    """
    if np.shape(value) not in ((), (1,), (3,)):
        raise ValueError(f"{name} is {value}; it must be one number or three")
    red, green, blue = np.broadcast_to(np.asarray(value, dtype=np.float64), (3,)).tolist()
    for number in (red, green, blue):
        require_number(name, number, minimum=0, maximum=255)
    return red, green, blue


def require_uint8(sample: dict, transform: str) -> None:
    """Raise DataError unless the image of a sample is uint8."""
    if sample["image"].dtype != np.uint8:
        raise DataError(f"{transform} got a {sample['image'].dtype} image: list it before NormalizeImage")
