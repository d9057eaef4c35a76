"""Tensors that are read, written and divided together, by one kernel each."""

from collections.abc import Sequence

import paddle
from paddle import Tensor


class Joined:
    """Copies tensors into one, and one into tensors.

    On a device that works behind the host each kernel costs some microseconds to start, however small its tensor: a
    detector has hundreds. (Tensors that share one memory for good would save the copies. But `Tensor.numpy` copies all
    of the memory that a tensor is a part of, and keeps it: a checkpoint would take hundreds of times the model.)

    Args:
        tensors: in float32. Those that are elsewhere, as two numbers that Adam keeps of each weight on the CPU, are
            moved to the current device.
    """

    @paddle.no_grad()
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        self.sizes = [tensor.size for tensor in self.tensors]
        self.lines = []  # of one dimension, which is what can be joined whatever the shapes; in the tensors' memory
        for tensor, size in zip(self.tensors, self.sizes):
            line = paddle.empty([size])
            if str(tensor.place) != str(line.place):
                moved = paddle.empty(tensor.shape)
                moved.copy_(tensor.detach(), True)
                moved._share_buffer_to(tensor)
            tensor._share_buffer_to(line)
            self.lines.append(line)

    def share(self) -> list[Tensor]:
        """The lines, in the memory that the tensors have by now."""
        for tensor, line in zip(self.tensors, self.lines):
            if tensor.data_ptr() != line.data_ptr():
                tensor._share_buffer_to(line)
        return self.lines

    @paddle.no_grad()
    def read(self) -> Tensor:
        """All values, of shape (numbers,)."""
        return paddle._C_ops.concat(self.share(), 0)

    @paddle.no_grad()
    def write(self, values: Tensor) -> None:
        """Give the tensors the values that `read` gave, or what has become of them; they keep their memory."""
        # Today's operator makes new tensors. The old one fills given ones; DataParallel uses it, too.
        paddle._legacy_C_ops.split(values, self.share(), "sections", self.sizes, "axis", 0)
        for tensor, line in zip(self.tensors, self.lines):
            # Where a device has no kernel of its own, Paddle's gives the lines other memory.
            if line.data_ptr() != tensor.data_ptr():
                tensor.copy_(line.reshape(tensor.shape), False)


@paddle.no_grad()
def divide(tensors: Sequence[Tensor], divisor: Tensor) -> Tensor:
    """Divide float32 tensors by one number, in place. Returns whether all came out finite, on the device.

    One kernel for all tensors, and two for single numbers. It multiplies by the number's inverse.
    """
    _, overflowed = paddle._C_ops.check_finite_and_unscale_(list(tensors), divisor)
    return paddle.logical_not(overflowed)
