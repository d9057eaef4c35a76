"""Preprocessing of an exported model, with the very operations that training used."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml

from ppdet.data.loading.padded_sizes import padded_size
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.data.transforms.batch import PadBatch
from ppdet.data.transforms.color import NormalizeImage, Permute
from ppdet.data.transforms.compose import Compose
from ppdet.data.transforms.decode import Decode, decode_image, read_image
from ppdet.data.transforms.geometry import Resize, as_pair
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import DataError, DeployError, ImageError


class Pad:
    """Pads an image (H, W, 3) below and on the right to `size` (height, width), with `fill_value` in each channel.

    PaddleDetection's exports have it, with pixels that are not normalised yet.
    """

    def __init__(self, *, size: int | Sequence[int], fill_value: Sequence[float] = (114.0, 114.0, 114.0)) -> None:
        self.size = as_pair(size, "size")
        self.fill_value = np.asarray(fill_value, dtype=np.float32)
        if self.fill_value.shape != (3,):
            raise ValueError(f"fill_value is {list(fill_value)}; expected three numbers")

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        image = sample["image"]
        h, w = image.shape[:2]
        if h > self.size[0] or w > self.size[1]:
            raise DataError(f"Pad: an image of {h} x {w} does not fit into {self.size[0]} x {self.size[1]}")
        exact = (self.fill_value.astype(image.dtype) == self.fill_value).all()
        padded = np.empty((*self.size, 3), dtype=image.dtype if exact else np.float32)
        padded[:] = self.fill_value
        padded[:h, :w] = image
        sample["image"] = padded
        return sample


Size = tuple[int, int]  # height and width

OPERATIONS = {
    "Resize": Resize,
    "NormalizeImage": NormalizeImage,
    "Permute": Permute,
    "Pad": Pad,
    "PadStride": lambda stride=0, size=None: PadBatch(pad_to_stride=stride, pad_to_size=size),
}
# What exports of other PaddleDetection versions spell out, and what it must be: the operations here do just that.
IMPLIED = {
    "NormalizeImage": {"is_channel_first": False},
    "Permute": {"to_bgr": False, "channel_first": True},
}


def read_infer_cfg(folder: Path) -> dict:
    """The settings that export wrote beside the model.

    Raises:
        DeployError: no infer_cfg.yml there, or one that says nothing of preprocessing.
    """
    path = folder / "infer_cfg.yml"
    try:
        settings = yaml.safe_load(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise DeployError(
            f"{path}: no such file: --model_dir takes a folder that tools/export_model.py wrote"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("Preprocess"), list):
        raise DeployError(f"{path}: expected a list Preprocess: export the model again")
    for key, kind, content in (("label_list", (str, int), "names"), ("category_ids", int, "numbers")):
        value = settings.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            raise DeployError(f"{path}: {key} is {value!r:.60}; expected a list of {content}")
    if "category_ids" in settings and len(settings["category_ids"]) != len(settings.get("label_list", [])):
        raise DeployError(f"{path}: category_ids and label_list are of different lengths: export the model again")
    return settings


def category_ids(settings: dict, class_names: Sequence[str]) -> list[int]:
    """Ids of the classes in COCO's annotations.

    PaddleDetection's exports do not say them: those of a model with COCO's 80 classes are COCO's own, and others are
    numbered from 0.
    """
    if "category_ids" in settings:
        return list(settings["category_ids"])
    if [name.lower() for name in class_names] == [name for _, name in COCO_CATEGORIES]:
        return [number for number, _ in COCO_CATEGORIES]
    return list(range(len(class_names)))


def read_pixels(image: str | os.PathLike | bytes | np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a path, the bytes of an image file, or such an array, which is returned itself.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(image, np.ndarray):
        return check_pixels(image)
    return decode_image(image, "image") if isinstance(image, bytes) else read_image(str(image))


def check_pixels(image: np.ndarray) -> np.ndarray:
    """The array itself; ImageError when it is not (H, W, 3) of uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ImageError("an array", f"{image.dtype} {image.shape}; expected uint8 (height, width, 3), RGB")
    return image


class Preprocess:
    """Turns images into the arrays that the exported graph takes."""

    def __init__(self, settings: dict) -> None:
        operations = [Decode()]
        for entry in settings["Preprocess"]:
            options = dict(entry) if isinstance(entry, dict) else {}
            kind = options.pop("type", None)
            if not isinstance(kind, str) or kind not in OPERATIONS:
                raise DeployError(f"infer_cfg.yml: Preprocess has {kind}; expected one of {', '.join(OPERATIONS)}")
            implied = IMPLIED.get(kind, {})
            options = {k: v for k, v in options.items() if k not in implied or v != implied[k]}
            try:
                operations.append(OPERATIONS[kind](**options))
            except (TypeError, ValueError) as error:
                raise DeployError(f"infer_cfg.yml: Preprocess: {kind}: {error} (of {options})") from None
        of_samples = [op for op in operations if not isinstance(op, PadBatch)]
        if not isinstance(of_samples[-1], Permute):
            raise DeployError("infer_cfg.yml: Preprocess must have Permute, with nothing behind it but PadStride")
        self.sample = Compose(of_samples)
        self.unresized = Compose([op for op in of_samples if not isinstance(op, Resize)])
        shape = settings.get("image_shape") if settings.get("use_dynamic_shape") is False else None
        self.fixed_size = fixed_size(shape)
        fixed = [PadBatch(pad_to_size=self.fixed_size)] if self.fixed_size else []
        self.batch = Compose([op for op in operations if isinstance(op, PadBatch)] + fixed)
        self.resize = next((op for op in operations if isinstance(op, Resize)), None)

    def sizes(self) -> tuple[Size, Size, Size]:
        """The least, the usual and the largest height and width of the graph's input, for engines that compile for a
        range of sizes.

        Raises:
            DeployError: images are not resized, so that any size may come.
        """
        pad = next((op for op in self.sample.transforms if isinstance(op, Pad)), None)
        if self.fixed_size or pad:
            return ((self.fixed_size or pad.size),) * 3
        if self.resize is None:
            raise DeployError("infer_cfg.yml: no Resize in Preprocess, and no image_shape: what sizes may come?")
        least = usual = largest = self.resize.target_size
        if self.resize.keep_ratio:
            short, long = min(least), max(least)
            # One side may be as short as images are thin, and either side may be the long one.
            least, usual, largest = (1, 1), (short, long), (long, long)
        # A network halves its input five times.
        return tuple(tuple(max(side, 32) for side in self.padded(size)) for size in (least, usual, largest))

    def padded(self, size: Size) -> Size:
        """Height and width of an image of this size that is padded alone."""
        return padded_size(size, self.batch.transforms)

    def prepare(self, image: str | os.PathLike | bytes | np.ndarray, *, resize: bool = True) -> dict:
        """Preprocess one image: a path, the bytes of an image file, or an RGB array (H, W, 3) uint8.

        resize: false leaves the image as large as it is.

        Raises:
            ImageError: it cannot be read, or is too large for a graph of fixed size.
        """
        name = str(image) if isinstance(image, (str, os.PathLike)) else "image"
        sample: dict = {"im_file": name}
        if isinstance(image, np.ndarray):
            sample["image"] = check_pixels(image)
        elif isinstance(image, (bytes, bytearray, memoryview)):
            sample["encoded"] = bytes(image)
        elif not isinstance(image, (str, os.PathLike)):
            raise ImageError("image", f"{type(image).__name__}; expected a path, the bytes of a file, or an array")
        sample = (self.sample if resize else self.unresized)(sample)
        height, width = sample["image"].shape[1:]
        if self.fixed_size and (height > self.fixed_size[0] or width > self.fixed_size[1]):
            raise ImageError(
                name,
                f"{height}x{width} after resizing, but the graph takes {self.fixed_size[0]}x{self.fixed_size[1]} at "
                "most: export it with TestReader.inputs_def.image_shape null, or a larger one",
            )
        return sample

    def batches(self, samples: Sequence[dict]) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """Places in `samples` and arrays of each batch: those of one padded size, so that what is detected in an image
        depends on no other one. See `ppdet.data.loading.padded_sizes`."""
        places: dict[tuple[int, int], list[int]] = {}
        for place, sample in enumerate(samples):
            places.setdefault(padded_size(sample["image"].shape[1:], self.batch.transforms), []).append(place)
        for group in places.values():
            yield group, self.join([samples[place] for place in group])

    def join(self, samples: Sequence[dict]) -> dict[str, np.ndarray]:
        """Arrays of one batch, padded to its largest image: image (N, 3, H, W), scale_factor and im_shape (N, 2), all
        float32."""
        padded = self.batch([dict(sample) for sample in samples])
        shapes = {sample["image"].shape for sample in padded}
        if len(shapes) > 1:
            raise DeployError(
                "images of different sizes in one batch, and the model's Preprocess has no PadStride: use batches of 1"
            )
        return {
            key: np.stack([np.asarray(sample[key], dtype=np.float32) for sample in padded])
            for key in ("image", "scale_factor", "im_shape")
        }


def fixed_size(shape: object) -> tuple[int, int] | None:
    """Height and width of a fixed input [3, H, W], or None where a side is free.

    Raises:
        DeployError: the shape is none.
    """
    if shape is None:
        return None
    sides = shape[-2:] if isinstance(shape, list) and len(shape) in (3, 4) else [None]
    if not all(side is None or isinstance(side, int) for side in sides) or len(sides) != 2:
        raise DeployError(f"infer_cfg.yml: image_shape is {shape}; expected [3, height, width]")
    return tuple(sides) if all(side and side > 0 for side in sides) else None
