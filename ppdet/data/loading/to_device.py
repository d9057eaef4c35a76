"""Copying batches of arrays to the device, and normalizing their images there.

Images leave the workers as uint8: a quarter of the bytes of float32, through shared memory and to a GPU.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.data.loading.collate import REPORT, error_text, pack_report
from ppdet.data.normalization import normalize
from ppdet.data.transforms.base import has_property
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.utils import device

if TYPE_CHECKING:
    from paddle import Tensor

# Yields finish(arrays) for the arrays of each batch, where `finish` makes tensors of them.
Batches = Callable[[Callable[[dict[str, np.ndarray]], Any]], Generator[Any, None, None]]


def split_off_normalize(
    sample_transforms: Sequence[Callable], batch_transforms: Sequence[Callable]
) -> tuple[list[Callable], list[Callable], NormalizeImage | None]:
    """Return the two lists without NormalizeImage, and that transform, if the device can do its work.

    It can if every transform before it returns uint8 images (`keeps_uint8`), and every one after it gives the same on
    pixels that are not normalized (`moves_pixels`), Permute among them. Otherwise the lists are returned unchanged, and
    None.
    """
    unchanged = list(sample_transforms), list(batch_transforms), None
    chain = [*sample_transforms, *batch_transforms]
    normalizers = [transform for transform in chain if type(transform) is NormalizeImage]
    if len(normalizers) != 1:
        return unchanged
    place = chain.index(normalizers[0])
    before, after = chain[:place], chain[place + 1 :]
    is_possible = (
        all(has_property(transform, "keeps_uint8") for transform in before)
        and all(has_property(transform, "moves_pixels") for transform in after)
        and sum(isinstance(transform, Permute) for transform in after) == 1
    )
    if not is_possible:
        return unchanged
    samples, batches = ([t for t in ts if t is not normalizers[0]] for ts in (sample_transforms, batch_transforms))
    return samples, batches, normalizers[0]


class ToDevice:
    """Turns the arrays of a batch, as `Collator` makes them, into tensors on Paddle's current device.

    Args:
        normalizer: applied to images that come as (N, H, W, 3) uint8; they become (N, 3, H, W) float32, with zeros in
            the padding. All other arrays keep their values and shapes. None: there are no such images.
    """

    def __init__(self, normalizer: NormalizeImage | None) -> None:
        self.normalizer = normalizer
        self._mean_std: tuple[Tensor, Tensor] | None = None

    def read(self, batches: Batches) -> Generator[dict[str, "Tensor"], None, None]:
        """Yield the tensors of all batches of `batches`."""
        return batches(self.on_cpu) if device.is_cpu() else self.prefetch(batches)

    def on_cpu(self, arrays: dict[str, np.ndarray]) -> dict[str, "Tensor"]:
        """Tensors of one batch on the CPU. They do not share memory with `arrays`."""
        import paddle

        tensors = {key: paddle.to_tensor(array) for key, array in arrays.items() if key != "image"}
        image = arrays.get("image")
        if image is not None:
            if self.normalizer is not None and image.dtype == np.uint8:
                image = self.normalizer.normalize_batch(image, arrays["im_shape"])
            else:
                image = image.copy()
            # The tensor takes over the array's memory: paddle.to_tensor would take longer than normalizing does.
            tensors["image"] = paddle.utils.dlpack.from_dlpack(image.__dlpack__())
        return tensors

    def prefetch(self, batches: Batches) -> Generator[dict[str, "Tensor"], None, None]:
        """Like `read` for GPUs: Paddle's loader prefetches the next batch on a separate CUDA stream."""
        import paddle

        class Loaded(paddle.io.IterableDataset):
            def __iter__(self) -> Generator[dict[str, np.ndarray], None, None]:
                # Paddle's loader runs this in a thread, which would hide an exception.
                try:
                    yield from source
                except Exception as error:
                    yield {REPORT: pack_report({}, error_text(error))}

        source = batches(lambda arrays: {key: array.copy() for key, array in arrays.items()})
        loader = paddle.io.DataLoader(Loaded(), batch_size=None, collate_fn=lambda batch: batch, return_list=True)
        iterator = iter(loader)
        try:
            for tensors in iterator:
                image = tensors.get("image")
                if image is not None and image.dtype == paddle.uint8:
                    tensors["image"] = self._normalize(image, tensors["im_shape"])
                yield tensors
        finally:
            iterator._try_shutdown_all()  # without it, Paddle leaves the thread running when a loop ends early
            source.close()

    def _normalize(self, image: "Tensor", im_shape: "Tensor") -> "Tensor":
        """Normalize (N, H, W, 3) uint8 with heights and widths (N, 2) to (N, 3, H, W) float32."""
        if self.normalizer is None:
            return image
        numbers = self.normalizer.normalization
        if self._mean_std is None:  # copied to the device once
            self._mean_std = numbers.tensors()
        image = image.transpose([0, 3, 1, 2])
        size = image.shape[2:]
        return normalize(image, *self._mean_std, size=size, im_shape=im_shape, to_bgr=numbers.is_bgr)
