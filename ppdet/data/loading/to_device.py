"""From arrays of a batch to tensors where the model is. Images come as uint8 and are normalised there.

Bytes are a quarter of the floats on their way out of a worker, through shared memory, and over the bus to a GPU.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from ppdet.data.loading.collate import REPORT, describe
from ppdet.data.transforms.color import NormalizeImage, Permute
from ppdet.utils import device

if TYPE_CHECKING:
    from paddle import Tensor


def take_normalize(
    sample_transforms: Sequence[Callable], batch_transforms: Sequence[Callable]
) -> tuple[list[Callable], list[Callable], NormalizeImage | None]:
    """The two lists without their NormalizeImage, and that transform, where the device can do its work.

    It can when every transform before it gives uint8 images (`keeps_uint8`) and every one after it, Permute among
    them, only moves pixels or looks at none (`moves_pixels`): such transforms give the same in either order. Any
    other chain comes back as it is, with None.
    """
    chain = [*sample_transforms, *batch_transforms]
    places = [i for i, transform in enumerate(chain) if type(transform) is NormalizeImage]
    if len(places) != 1:
        return list(sample_transforms), list(batch_transforms), None
    normalize = chain[places[0]]
    before, after = chain[: places[0]], chain[places[0] + 1 :]
    possible = (
        all(getattr(transform, "keeps_uint8", False) for transform in before)
        and all(getattr(transform, "moves_pixels", False) for transform in after)
        and sum(isinstance(transform, Permute) for transform in after) == 1
    )
    if not possible:
        return list(sample_transforms), list(batch_transforms), None
    samples, batches = ([t for t in chain if t is not normalize] for chain in (sample_transforms, batch_transforms))
    return samples, batches, normalize


class ToDevice:
    """Batches of arrays as `Collator` makes them -> batches of tensors on Paddle's current device.

    Args:
        normalize: applied to images that come as (N, H, W, 3) uint8; they leave as (N, 3, H, W) float32, zero
            outside of each image's `im_shape`. Other arrays, float images among them, keep values and shape.
    """

    def __init__(self, normalize: NormalizeImage | None) -> None:
        self.normalize = normalize
        self._mean_std: list[Tensor] | None = None

    def read(self, batches: Callable[[Callable], Iterator[Any]]) -> Iterator[dict[str, "Tensor"]]:
        """Tensors of all batches of `batches(finish)`, which calls finish(arrays) for the arrays of each."""
        return batches(self.on_cpu) if device.is_cpu() else self.ahead(batches)

    def on_cpu(self, arrays: dict[str, np.ndarray]) -> dict[str, "Tensor"]:
        """The arrays themselves may be overwritten afterwards."""
        import paddle

        tensors = {key: paddle.to_tensor(array) for key, array in arrays.items() if key != "image"}
        image = arrays.get("image")
        if image is not None:
            is_raw = self.normalize is not None and image.dtype == np.uint8
            image = self.normalize.batch(image, arrays["im_shape"]) if is_raw else image.copy()
            # The tensor takes over the array's memory: paddle.to_tensor would need longer than normalising does.
            tensors["image"] = paddle.utils.dlpack.from_dlpack(image.__dlpack__())
        return tensors

    def ahead(self, batches: Callable[[Callable], Iterator[Any]]) -> Iterator[dict[str, "Tensor"]]:
        """As `read`, one step ahead: paddle's loader copies the next batch on a stream of its own meanwhile."""
        import paddle

        class Batches(paddle.io.IterableDataset):
            def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
                # Runs in a thread of the loader's, which would hide what is raised in it.
                try:
                    yield from source
                except Exception as error:
                    report = {"skipped": {}, "error": describe(error)}
                    yield {REPORT: np.frombuffer(json.dumps(report).encode(), dtype=np.uint8).copy()}

        source = batches(lambda arrays: {key: array.copy() for key, array in arrays.items()})
        loader = paddle.io.DataLoader(Batches(), batch_size=None, collate_fn=lambda batch: batch, return_list=True)
        iterator = iter(loader)
        try:
            for tensors in iterator:
                image = tensors.get("image")
                if self.normalize is not None and image is not None and image.dtype == paddle.uint8:
                    tensors["image"] = self.on_gpu(image, tensors["im_shape"])
                yield tensors
        finally:
            iterator._try_shutdown_all()  # paddle ends the thread of a loop that was left early only when asked to
            source.close()

    def on_gpu(self, image: "Tensor", im_shape: "Tensor") -> "Tensor":
        """(N, H, W, 3) uint8 and (N, 2) heights and widths -> (N, 3, H, W) float32."""
        import paddle

        if self._mean_std is None:  # copied to the device once
            values = (paddle.to_tensor(value, dtype="float32") for value in self.normalize.pixel_mean_std())
            self._mean_std = [value.reshape([1, 3, 1, 1]) for value in values]
        mean, std = self._mean_std
        image = image.transpose([0, 3, 1, 2])
        return normalized(image, mean, std, image.shape[2:], im_shape, to_bgr=self.normalize.is_bgr)


def normalized(
    image: "Tensor",
    mean: "Tensor",
    std: "Tensor",
    size: Sequence[Union[int, "Tensor"]],
    im_shape: "Tensor",
    *,
    to_bgr: bool,
) -> "Tensor":
    """(image - mean) / std inside of the images, 0 in their padding, also in a static graph.

    Args:
        image: (N, 3, H, W) RGB of any type; the result is float32. mean, std: (1, 3, 1, 1), of the result's channels.
        size: H and W. im_shape: (N, 2), heights and widths without padding. to_bgr: the result is BGR.
    """
    import paddle

    if to_bgr:  # slices, since every format that a graph may be converted to has them
        image = paddle.concat([image[:, 2:], image[:, 1:2], image[:, :1]], axis=1)
    height, width = size
    # In whole numbers: an engine that computes in bfloat16 would round 427 to 428, and a column of padding be image.
    limits = im_shape.astype("int32")
    rows = paddle.arange(height, dtype="int32").reshape([1, 1, -1, 1]) < limits[:, 0].reshape([-1, 1, 1, 1])
    columns = paddle.arange(width, dtype="int32").reshape([1, 1, 1, -1]) < limits[:, 1].reshape([-1, 1, 1, 1])
    inside = rows.astype("float32") * columns.astype("float32")
    return (image.astype("float32") - mean) / std * inside
