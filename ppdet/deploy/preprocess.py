"""Preprocessing of an exported model, with the very operations that training used."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Union

import numpy as np
import yaml

from ppdet.data.errors import ImageError
from ppdet.data.transform.batch import PadBatch
from ppdet.data.transform.color import NormalizeImage, Permute
from ppdet.data.transform.compose import Compose
from ppdet.data.transform.decode import Decode
from ppdet.data.transform.geometry import Resize
from ppdet.deploy.errors import DeployError

OPERATIONS = {
    "Resize": Resize,
    "NormalizeImage": NormalizeImage,
    "Permute": Permute,
    "PadStride": lambda stride, size=None: PadBatch(pad_to_stride=stride, pad_to_size=size),
}


def read_infer_cfg(folder: Path) -> dict:
    """The settings that export wrote beside the model.

    Raises:
        DeployError: no infer_cfg.yml there, or one that says nothing of preprocessing.
    """
    path = folder / "infer_cfg.yml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeployError(
            f"{path}: no such file: --model_dir takes a folder that tools/export_model.py wrote"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("Preprocess"), list):
        raise DeployError(f"{path}: expected a list Preprocess: export the model again")
    return settings


class Preprocess:
    """Turns images into the arrays that the exported graph takes."""

    def __init__(self, settings: dict) -> None:
        operations = [Decode()]
        for entry in settings["Preprocess"]:
            options = dict(entry) if isinstance(entry, dict) else {}
            kind = options.pop("type", None)
            if kind not in OPERATIONS:
                raise DeployError(f"infer_cfg.yml: Preprocess has {kind}; expected one of {', '.join(OPERATIONS)}")
            try:
                operations.append(OPERATIONS[kind](**options))
            except (TypeError, ValueError) as error:
                raise DeployError(f"infer_cfg.yml: Preprocess: {kind}: {error}") from None
        self.sample = Compose([op for op in operations if not isinstance(op, PadBatch)])
        self.batch = Compose([op for op in operations if isinstance(op, PadBatch)])

        resizes = [op for op in operations if isinstance(op, Resize)]
        sides = [max(op.target_size) for op in resizes] or [1344]
        # Rounded up to a multiple of the largest stride that a network here has.
        self.max_size = -(-max(sides) // 128) * 128

    def prepare(self, image: Union[str, os.PathLike, bytes, np.ndarray]) -> dict:
        """Preprocess one image: a path, the bytes of an image file, or an RGB array (H, W, 3) uint8.

        Raises:
            ImageError: it cannot be read.
        """
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise ImageError("an array", f"{image.dtype} {image.shape}; expected uint8 (height, width, 3), RGB")
            return self.sample({"image": image})
        if isinstance(image, bytes):
            return self.sample({"im_file": "image", "encoded": image})
        return self.sample({"im_file": str(image)})

    def join(self, samples: Sequence[dict]) -> dict[str, np.ndarray]:
        """Arrays of a batch: image (N, 3, H, W), scale_factor and im_shape (N, 2), all float32."""
        padded = self.batch([dict(sample) for sample in samples])
        shapes = {sample["image"].shape for sample in padded}
        if len(shapes) > 1:
            raise DeployError("images of different sizes in one batch, and the model's Preprocess has no PadStride")
        return {
            key: np.stack([np.asarray(sample[key], dtype=np.float32) for sample in padded])
            for key in ("image", "scale_factor", "im_shape")
        }
