"""Reading, writing and dividing many tensors with one kernel."""

from collections.abc import Sequence

import paddle
from paddle import Tensor


class Joined:
    """Copies many tensors into one array, and an array back into the tensors.

    On a GPU, each kernel takes some microseconds to start, however small its tensor, and a detector has hundreds of
    tensors. (Tensors that share one memory permanently would save the copies. But `Tensor.numpy` copies and keeps all
    of the memory that a tensor is part of: a checkpoint would take hundreds of times the model's size.)

    Args:
        tensors: float32. Tensors on another device are moved to the current one, such as the two numbers for each
            weight that Adam keeps on the CPU.
    """

    @paddle.no_grad()
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        self.sizes = [tensor.size for tensor in self.tensors]
        # One-dimensional tensors in the memory of the given ones: these can be joined whatever their shapes are.
        self.flat = []
        for tensor, size in zip(self.tensors, self.sizes):
            flat = paddle.empty([size])
            if str(tensor.place) != str(flat.place):
                moved = paddle.empty(tensor.shape)
                moved.copy_(tensor.detach(), True)
                moved._share_buffer_to(tensor)
            tensor._share_buffer_to(flat)
            self.flat.append(flat)

    def share(self) -> list[Tensor]:
        """The flat tensors, after a check that they are still in the memory of the given ones."""
        for tensor, flat in zip(self.tensors, self.flat):
            if tensor.data_ptr() != flat.data_ptr():
                tensor._share_buffer_to(flat)
        return self.flat

    @paddle.no_grad()
    def read(self) -> Tensor:
        """A copy of all values, as one array of one dimension."""
        return paddle._C_ops.concat(self.share(), 0)

    @paddle.no_grad()
    def write(self, values: Tensor) -> None:
        """Write an array of the shape that `read` returns to the tensors, which keep their memory."""
        # The current operator makes new tensors. This older one, which DataParallel uses too, writes to given ones.
        paddle._legacy_C_ops.split(values, self.share(), "sections", self.sizes, "axis", 0)
        for tensor, flat in zip(self.tensors, self.flat):
            # On devices without a kernel of their own, Paddle's kernel gives the flat tensors new memory.
            if flat.data_ptr() != tensor.data_ptr():
                tensor.copy_(flat.reshape(tensor.shape), False)


@paddle.no_grad()
def divide(tensors: Sequence[Tensor], divisor: Tensor) -> Tensor:
    """Divide float32 tensors by one number, in place, with one kernel for all; it multiplies by the inverse.

    Returns:
        Whether all results are finite, as a tensor on the device.
    """
    _, overflowed = paddle._C_ops.check_finite_and_unscale_(list(tensors), divisor)
    return paddle.logical_not(overflowed)
