"""Normalization of pixels, (pixel - mean) / std, in NumPy and with Paddle's tensors.

The transform NormalizeImage computes the same with NumPy. Readers compute it here on the device, and exported models in
their graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from paddle import Tensor


@dataclass(frozen=True)
class Normalization:
    """The numbers of a normalization.

    Attributes:
        mean, std: one number for each channel of the result, in units of pixel values from 0 to 255.
        is_bgr: the channels of the result are blue, green, red. The images themselves are always RGB.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    is_bgr: bool

    def tensors(self) -> tuple["Tensor", "Tensor"]:
        """Mean and std as (1, 3, 1, 1) float32 on the current device."""
        import paddle

        mean, std = (paddle.to_tensor(values, "float32").reshape([1, 3, 1, 1]) for values in (self.mean, self.std))
        return mean, std


def normalize(
    image: "Tensor",
    mean: "Tensor",
    std: "Tensor",
    *,
    size: Sequence[Union[int, "Tensor"]],
    im_shape: "Tensor",
    to_bgr: bool,
) -> "Tensor":
    """Return (image - mean) / std as (N, 3, H, W) float32, with zeros in the padding. It also works in a static graph.

    Args:
        image: (N, 3, H, W) RGB pixels of any type.
        mean, std: (1, 3, 1, 1), see `Normalization.tensors`.
        size: H and W.
        im_shape: (N, 2) heights and widths of the images without padding.
        to_bgr: reverse the channels, so that the result is BGR.
    """
    import paddle

    if to_bgr:  # slices, because every format that a graph is converted to has them
        image = paddle.concat([image[:, 2:], image[:, 1:2], image[:, :1]], axis=1)
    height, width = size
    # In integers: an engine that computes in bfloat16 would round 427 to 428, and leave one column of padding unmasked.
    limits = im_shape.astype("int32")
    rows = paddle.arange(height, dtype="int32").reshape([1, 1, -1, 1]) < limits[:, 0].reshape([-1, 1, 1, 1])
    columns = paddle.arange(width, dtype="int32").reshape([1, 1, 1, -1]) < limits[:, 1].reshape([-1, 1, 1, 1])
    mask = rows.astype("float32") * columns.astype("float32")
    return (image.astype("float32") - mean) / std * mask
