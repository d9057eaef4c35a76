"""The size of images that an exported graph takes, where it takes one alone."""

from collections.abc import Sequence

from ppdet.data.transforms.geometry import Resize
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def graph_size(inputs_def: dict | None, where: str) -> tuple[int | None, int | None]:
    """Fixed height and width of the exported graph's input, None where any will do."""
    shape = (inputs_def or {}).get("image_shape")
    if shape is None:
        return None, None
    if not isinstance(shape, list) or len(shape) not in (3, 4) or shape[-3] != 3:
        raise ConfigError(f"{where}: TestReader.inputs_def.image_shape is {shape}; expected [3, height, width]")
    height, width = (None if side in (None, -1) else side for side in shape[-2:])
    if (height is None) != (width is None):
        raise ConfigError(f"{where}: TestReader.inputs_def.image_shape is {shape}; height and width: both, or neither")
    return height, width


def warn_if_too_small(size: tuple[int | None, int | None], transforms: Sequence[object]) -> None:
    """Warn where TestReader resizes images to more than a graph of fixed `size` takes: it would refuse them."""
    resize = next((t for t in transforms if isinstance(t, Resize)), None)
    if None in size or resize is None:
        return
    sides, room = (sorted(pair) if resize.keep_ratio else pair for pair in (resize.target_size, size))
    if sides[0] > room[0] or sides[1] > room[1]:
        logger.warning(
            "TestReader resizes images to %dx%d, but the graph takes %dx%d at most and will refuse larger ones: set "
            "input_size (or target_size), or a larger TestReader.inputs_def.image_shape",
            *(*resize.target_size, *size),
        )
