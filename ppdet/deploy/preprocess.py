"""Preprocessing of an exported model: infer_cfg.yml, and the transforms of training that it lists."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.core.tree import parse, to_plain
from ppdet.core.yaml_graph import Allowance
from ppdet.data.loading.padded_sizes import padded_size
from ppdet.data.loading.views import View, resized, transforms_of_view
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.composing.compose import Compose
from ppdet.data.transforms.decode import Decode, decode_image, read_image
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.data.transforms.normalize import Permute
from ppdet.deploy.operations import Pad, make_operation
from ppdet.utils.class_thresholds import thresholds_of
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import ConfigError, DeployError, ImageError
from ppdet.utils.ranges import require_pixels

Image = str | os.PathLike | bytes | np.ndarray  # a path, an image file's bytes, or RGB pixels (H, W, 3) uint8
Size = tuple[int, int]  # height and width


def read_infer_cfg(folder: Path) -> dict:
    """Read infer_cfg.yml, the settings that export wrote beside the graph.

    Raises:
        DeployError: the file is missing, no YAML, more than a configuration may be, or has no list Preprocess.
    """
    path = folder / "infer_cfg.yml"
    try:
        settings = to_plain(parse(read_text(path, largest=Allowance.size), str(path), checks_requires=False))
    except (FileNotFoundError, NotADirectoryError):
        what = f"{path}: no such file" if folder.is_dir() else f"{folder}: no such folder"
        raise DeployError(f"{what}: expected a folder that `ppdet export` wrote") from None
    except UnicodeDecodeError as error:
        raise DeployError(f"{path}: not a YAML file: {error}") from None
    except OSError as error:
        raise DeployError(f"{path}: cannot be read: {error.strerror}") from None
    except ConfigError as error:
        raise DeployError(str(error)) from None
    if not isinstance(settings, dict) or not isinstance(settings.get("Preprocess"), list):
        raise DeployError(f"{path}: expected a list Preprocess: export the model again")
    for key, kind, content in (("label_list", (str, int), "names"), ("category_ids", int, "numbers")):
        value = settings.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            raise DeployError(f"{path}: {key} is {value!r:.60}; expected a list of {content}")
    if "category_ids" in settings and len(settings["category_ids"]) != len(settings.get("label_list", [])):
        raise DeployError(f"{path}: category_ids and label_list are of different lengths: export the model again")
    try:
        thresholds_of(settings, class_list(settings)[0])
    except ValueError as error:
        raise DeployError(f"{path}: {error}") from None
    return settings


def class_list(settings: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Names of the model's classes, and their category ids in COCO's annotations.

    Exports of PaddleDetection have no category ids. If the names are COCO's 80 names, the ids are COCO's own; otherwise
    classes are numbered from 0.
    """
    names = [str(name) for name in settings.get("label_list") or []]
    if "category_ids" in settings:
        return names, list(settings["category_ids"])
    if [name.lower() for name in names] == [name for _, name in COCO_CATEGORIES]:
        return names, [number for number, _ in COCO_CATEGORIES]
    return names, list(range(len(names)))


def read_pixels(image: Image) -> np.ndarray:
    """The pixels of an image, (H, W, 3) uint8 RGB; an array is returned unchanged.

    Raises:
        ImageError: the image cannot be read.
    """
    if isinstance(image, np.ndarray):
        return check_pixels(image)
    return decode_image(image, "image") if isinstance(image, bytes) else read_image(str(image))


def check_pixels(image: np.ndarray) -> np.ndarray:
    """Return the array; raise ImageError unless it is (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ImageError("an array", f"{image.dtype} {image.shape}; expected uint8 (height, width, 3), RGB")
    return image


class Preprocess:
    """Turns images into the input arrays of the exported graph.

    Args:
        settings: content of infer_cfg.yml.

    Attributes:
        fixed_size: height and width of the graph's input if it takes only one size, else None.

    Raises:
        DeployError: the list Preprocess has an operation or an option that is unknown, or no Permute.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        operations = [make_operation(entry, settings) for entry in settings["Preprocess"]]
        sample_transforms = [op for op in operations if not isinstance(op, PadBatch)]
        if [place for place, op in enumerate(reversed(sample_transforms)) if isinstance(op, Permute)] != [0]:
            raise DeployError("infer_cfg.yml: Preprocess must have Permute once, with nothing behind it but PadStride")
        self._resize = next((op for op in operations if isinstance(op, Resize)), None)
        self._pad = next((op for op in operations if isinstance(op, Pad)), None)
        self._transforms: list[Callable] = [Decode(), *sample_transforms]
        self._sample = Compose(self._transforms)
        self._views: dict[View, Compose] = {}
        self._sample_unresized = Compose([Decode(), *(op for op in sample_transforms if op is not self._resize)])
        self.fixed_size = None if settings.get("use_dynamic_shape", True) else fixed_size(settings.get("image_shape"))
        fixed = [make_operation({"type": "PadStride", "size": self.fixed_size}, settings)] if self.fixed_size else []
        self._pad_batch = Compose([*(op for op in operations if isinstance(op, PadBatch)), *fixed])

    def sizes(self, scale: float = 1.0) -> tuple[Size, Size, Size]:
        """The smallest, the usual and the largest height and width of the graph's input.

        Engines that compile a graph for a range of sizes need them.

        Args:
            scale: of a view, see `TTA.scales`.

        Raises:
            DeployError: images are not resized, so that any size may come.
        """
        one_size = self.fixed_size or (self._pad.size if self._pad else None)
        if one_size:
            return one_size, one_size, one_size
        if self._resize is None:
            raise DeployError("infer_cfg.yml: no Resize in Preprocess, and no image_shape: what sizes may come?")
        smallest = usual = largest = resized(self._resize, scale).target_size
        if self._resize.keep_ratio:
            short, long = sorted(usual)
            # One side can be as short as a thin image, and either side can be the long one.
            smallest, usual, largest = (1, 1), (short, long), (long, long)
        return self._input_size(smallest), self._input_size(usual), self._input_size(largest)

    def _input_size(self, size: Size) -> Size:
        height, width = self.padded(size)
        return max(height, 32), max(width, 32)  # a network halves its input five times

    def padded(self, size: Size) -> Size:
        """Height and width to which an image of this size is padded when it is alone in a batch."""
        return padded_size(size, self._pad_batch.transforms)

    def prepare(self, image: Image, *, resize: bool = True, view: View | None = None) -> dict:
        """Preprocess one image: a path, the bytes of an image file, or RGB pixels (H, W, 3) uint8.

        Args:
            resize: whether to resize the image as infer_cfg.yml says; False leaves its size.
            view: make this view of the image, which is resized to another size, or flipped; None makes the image
                as it is.

        Returns:
            A sample for `batches` and `join`: `image` (3, h, w) before padding; `h` and `w`, the size of the image
            itself; `im_shape` (h, w) and `scale_factor` (y, x), see
            docs/INPUTS_OUTPUTS.md.

        Raises:
            ImageError: the image cannot be read, or is too large for a graph of fixed size.
        """
        name = str(image) if isinstance(image, (str, os.PathLike)) else "image"
        sample: dict = {"im_file": name}
        if isinstance(image, np.ndarray):
            sample["image"] = check_pixels(image)
        elif isinstance(image, (bytes, bytearray, memoryview)):
            sample["encoded"] = bytes(image)
        elif not isinstance(image, (str, os.PathLike)):
            raise ImageError("image", f"{type(image).__name__}; expected a path, the bytes of a file, or an array")
        if view is not None:
            sample = self._of_view(view)(sample)
        else:
            sample = (self._sample if resize else self._sample_unresized)(sample)
        height, width = sample["image"].shape[1:]
        if self.fixed_size and (height > self.fixed_size[0] or width > self.fixed_size[1]):
            raise ImageError(
                name,
                f"{height}x{width} after resizing, but the graph takes {self.fixed_size[0]}x{self.fixed_size[1]} at "
                "most: export it with TestReader.inputs_def.image_shape null, or a larger one",
            )
        return sample

    def _of_view(self, view: View) -> Compose:
        """The transforms that make a view, which are built once."""
        if view not in self._views:
            self._views[view] = Compose(transforms_of_view(self._transforms, view))
        return self._views[view]

    def require_scales(self, scales: Sequence[float]) -> None:
        """Raise DeployError if the graph takes images of one size only, and a scale is not 1."""
        size = self.fixed_size or (self._pad.size if self._pad else None)
        if size and any(scale != 1 for scale in scales):
            raise DeployError(
                f"test-time augmentation: the graph takes images of {size[0]}x{size[1]} only, so that scales "
                "(--tta_scales) must be 1, with flips; or export it with TestReader.inputs_def.image_shape null"
            )

    def pad(self, sample: dict) -> dict:
        """The sample with its image padded as if it were alone in a batch."""
        return self._pad_batch([sample])[0]

    def batches(self, samples: Sequence[dict]) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """Group samples by their padded size; yield positions in `samples`, and the arrays (see `join`) of each batch.

        Thus the detections in an image do not depend on the other images: see `data.loading.padded_sizes`.
        """
        places: dict[Size, list[int]] = {}
        for place, sample in enumerate(samples):
            places.setdefault(self.padded(sample["image"].shape[1:]), []).append(place)
        for group in places.values():
            yield group, self.join([samples[place] for place in group])

    def join(self, samples: Sequence[dict]) -> dict[str, np.ndarray]:
        """Pad samples to the largest one and stack them.

        Returns:
            image (N, 3, H, W); im_shape (N, 2), height and width without padding; scale_factor (N, 2), the resizing in
            y and x. All are float32.
        """
        padded = self._pad_batch([dict(sample) for sample in samples])
        if len({sample["image"].shape for sample in padded}) > 1:
            raise DeployError(
                "images of different sizes in one batch, and the model's Preprocess has no PadStride: use batches of 1"
            )
        return {
            key: np.stack([np.asarray(sample[key], dtype=np.float32) for sample in padded])
            for key in ("image", "scale_factor", "im_shape")
        }


def fixed_size(shape: Any) -> Size | None:
    """Height and width of the input shape [3, H, W]; None if there is no shape, or a side is null or -1 (free).

    Raises:
        DeployError: `shape` is not a shape.
    """
    if shape is None:
        return None
    if (
        not isinstance(shape, list)
        or len(shape) not in (3, 4)
        or not all(side is None or isinstance(side, int) for side in shape[-2:])
    ):
        raise DeployError(f"infer_cfg.yml: image_shape is {shape!r:.60}; expected [3, height, width]")
    height, width = (side or 0 for side in shape[-2:])
    try:
        require_pixels("image_shape", height, width)
    except ValueError as error:
        raise DeployError(f"infer_cfg.yml: {error}") from None
    return (height, width) if height > 0 and width > 0 else None
