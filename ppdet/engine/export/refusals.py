"""What an export refuses in one line before weights are loaded: sizes, formats and networks that do not fit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from paddle import nn
from paddle.vision.ops import DeformConv2D

from ppdet.core.config import Config
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.deploy.backends import BACKENDS
from ppdet.deploy.precisions import CALIBRATION, MAX_DROP, PRECISIONS
from ppdet.utils.errors import ConfigError, ConfigKeyError, config_error
from ppdet.utils.extras import require_package

ENGINES = {kind.format: name for name, kind in BACKENDS.items()}  # the engine that runs a format
IMAGE_SHAPE = "TestReader.inputs_def.image_shape"


def graph_size(inputs_def: Mapping[str, Any] | None, source: str) -> tuple[int, int] | None:
    """Return the fixed (height, width) of the graph's input, None if images of any size are accepted.

    Args:
        inputs_def: TestReader's inputs_def, such as {"image_shape": [3, 640, 640]}; -1 or null for any height and
            width. PaddleDetection's files may have a 1, -1 or null before, for the number of images, which stays free.
        source: names the place in the configuration in errors.

    Raises:
        ConfigError: image_shape is something else, or names another number of images.
    """
    shape = (inputs_def or {}).get("image_shape")
    if shape is None:
        return None
    expected = config_error(source, IMAGE_SHAPE, f"expected [3, height, width], got {shape}")
    if not isinstance(shape, list) or len(shape) not in (3, 4) or shape[-3] != 3:
        raise expected
    if len(shape) == 4 and (shape[0] not in (None, -1, 1) or isinstance(shape[0], bool)):
        images = "--target tensorrt --batch_size N is what fixes it, in model_tensorrt.onnx"
        message = f"got {shape}; graphs take any number of images: write {shape[1:]}; {images}"
        raise config_error(source, IMAGE_SHAPE, message)
    height, width = (None if side in (None, -1) else side for side in shape[-2:])
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise config_error(source, IMAGE_SHAPE, f"got {shape}: set both height and width")
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise expected
    return height, width


def origin_of_size(cfg: Config) -> str:
    """Return where the configuration sets the size of the graph's input, such as "fcos.yml:12", or else its path."""
    try:
        return cfg.origin(IMAGE_SHAPE)
    except ConfigKeyError:
        return cfg.path


def stride_of(model: nn.Layer, transforms: Sequence[Any]) -> int:
    """Return the number of which the height and width of the network's input are multiples.

    Args:
        transforms: those of TestReader. Where a detector from outside has no backbone, its PadBatch alone tells.
    """
    strides = [level.stride for level in model.backbone.out_shape] if hasattr(model, "backbone") else []
    strides += [t.pad_to_stride for t in transforms if isinstance(t, PadBatch) and t.pad_to_stride]
    return math.lcm(*strides)


def check_size(size: tuple[int, int] | None, stride: int, source: str) -> None:
    """Raise ConfigError for a fixed size that is no multiple of the stride, with the nearest sizes that are."""
    if size is None or not any(side % stride for side in size):
        return
    smaller = [3, *(max(side // stride, 1) * stride for side in size)]
    larger = [3, *(-(-side // stride) * stride for side in size)]
    nearest = f"{larger}" if smaller == larger else f"{smaller} or {larger}"
    message = f"got {[3, *size]}; height and width must be multiples of {stride}, the network's stride: use {nearest}"
    raise config_error(source, IMAGE_SHAPE, message)


def check_network(model: nn.Layer, formats: Sequence[str]) -> None:
    """Raise ConfigError for a network with layers that a format does not have."""
    deformable = next((name for name, layer in model.named_sublayers() if isinstance(layer, DeformConv2D)), None)
    if deformable is not None and "openvino" in formats:
        raise ConfigError(
            f"--format openvino: OpenVINO has no deformable convolutions, such as {deformable}: use --format onnx, "
            "which ONNX Runtime runs, or Paddle's graph, or train with ResNet.dcn_v2_stages [-1] and "
            "FCOSFeat.use_dcn false"
        )


def check_formats(formats: Sequence[str], precision: str, output: str, target: str | None = None) -> None:
    """Raise ConfigError for unknown formats and precisions, and for those that cannot be combined."""
    for name in formats:
        if name not in ENGINES or name == "paddle":
            raise ConfigError(f"formats: expected onnx, openvino or triton, got {name!r}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision: expected {', '.join(PRECISIONS)}, got {precision!r}")
    if precision != "fp32" and output != "detections":
        raise ConfigError(f"--precision {precision}: set export.post_process and export.nms true, benchmark false")
    if precision == "int8" and not formats and target is None:
        raise ConfigError(
            "--precision int8 needs --format onnx or openvino, or --target tensorrt: Paddle Inference has no int8 here"
        )
    if precision == "int8" and "openvino" in formats:
        require_package(ConfigError, "nncf")
    if precision == "fp16" and not formats:
        raise ConfigError(
            "--precision fp16 needs --format onnx or openvino; Paddle Inference converts an export in fp32 to float16 "
            "itself, when it loads it on a GPU: Detector(folder, device='gpu', precision='fp16')"
        )
    if precision == "bf16" and "onnx" in formats:
        raise ConfigError(
            "--precision bf16: ONNX Runtime does not have it; leave out --format onnx and triton, or use --format "
            "openvino"
        )


def check_quantization(precision: str, calibration: int, max_drop: float) -> None:
    """Raise ConfigError for values out of range, and for those that a precision other than int8 would not use."""
    if precision != "int8":
        for name, value, default in (("calibration", calibration, CALIBRATION), ("max_drop", max_drop, MAX_DROP)):
            if value != default:
                raise ConfigError(f"--{name} {value}: only int8 uses it: add --precision int8, or leave out --{name}")
        return
    if type(calibration) is not int or calibration < 1:
        raise ConfigError(f"--calibration {calibration}: expected a whole number of images, at least 1")
    if not isinstance(max_drop, (int, float)) or not max_drop >= 0:
        raise ConfigError(f"--max_drop {max_drop}: expected a number of at least 0, in percent of AP")
