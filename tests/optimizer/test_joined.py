"""Tensors that are read and written by one kernel each stay what they are."""

import numpy as np
import paddle
from counting import Kernels
from paddle import nn

from ppdet.optimizer.joined import Joined


def make():
    return [paddle.create_parameter([n, 3], "float32") for n in range(1, 12)] + [paddle.to_tensor(2.0)]


def test_reading_and_writing_is_one_kernel_each():
    tensors = make()
    addresses = [tensor.data_ptr() for tensor in tensors]
    before = [tensor.numpy() for tensor in tensors]
    joined = Joined(tensors)
    with Kernels() as kernels:
        values = joined.read()
    assert dict(kernels.counts[""]) == {"concat": 1}
    assert np.array_equal(values.numpy(), np.concatenate([value.flatten() for value in before]))
    new = np.random.default_rng(0).normal(size=values.shape).astype("float32")
    values = paddle.to_tensor(new)
    with Kernels() as kernels:
        joined.write(values)
    assert dict(kernels.counts[""]) == {"split": 1}
    assert [tensor.data_ptr() for tensor in tensors] == addresses
    assert [tensor.shape for tensor in tensors] == [list(value.shape) for value in before]
    assert np.array_equal(np.concatenate([tensor.numpy().flatten() for tensor in tensors]), new)
    assert all(tensor.trainable for tensor in tensors[:-1])


def test_tensors_that_get_other_memory_are_followed():
    layer = nn.Linear(3, 2)
    joined = Joined(layer.parameters())
    paddle.full([3, 2], 5.0)._share_buffer_to(layer.weight)
    assert joined.read().numpy().tolist() == [5.0] * 6 + [0.0] * 2
    paddle.full([2], 6.0)._share_buffer_to(layer.bias)
    joined.write(paddle.arange(8, dtype="float32"))
    assert layer.weight.numpy().tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert layer.bias.numpy().tolist() == [6.0, 7.0]


def test_no_tensor_is_a_part_of_another():
    """Tensor.numpy would copy all of that for each of them."""
    tensors = make()
    joined = Joined(tensors)
    values = joined.read()
    joined.write(values)
    others = [values, *tensors[1:]]
    assert not any(tensors[0]._is_shared_buffer_with(other) for other in others)
    assert not any(tensor._is_shared_buffer_with(values) for tensor in tensors)
