"""Constant batch norms, folded into their convolutions: never an earlier value, and few kernels."""

import itertools
import threading

import numpy as np
import paddle
import pytest
from counting import Kernels
from paddle import nn

from ppdet.modeling import cpu, folding
from ppdet.modeling.folding import CachedFolds, fold_together
from ppdet.modeling.layers import Conv2D, ConvNorm
from ppdet.optimizer import ModelEMA


class Network(nn.Layer):
    """Two convolutions with norms, of which each forward pass folds what is constant, as a detector's does."""

    def __init__(self, freeze=True, norms=2):
        super().__init__()
        sizes = [3, *range(4, 4 + norms)]
        self.blocks = nn.Sequential(*(ConvNorm(*pair, 3, freeze_norm=freeze) for pair in itertools.pairwise(sizes)))
        for block in self.blocks:
            fill(block.norm)

    def forward(self, x):
        with CachedFolds(self):
            return self.blocks(x)


def fill(norm):
    rng = np.random.default_rng(norm.weight.shape[0])
    for value in (norm.weight, norm.bias, norm._mean, norm._variance):
        value.set_value(rng.uniform(0.5, 2.0, value.shape).astype(np.float32))


def expected(network, x):
    """By the formula of batch norm, y = weight (x - mean) / sqrt(variance + epsilon) + bias."""
    for block in network.blocks:
        norm = block.norm
        y = nn.functional.conv2d(x, block.conv.weight, padding=1).numpy()
        weight, bias, mean, variance = (
            v.numpy().astype(np.float64).reshape(1, -1, 1, 1)
            for v in (norm.weight, norm.bias, norm._mean, norm._variance)
        )
        x = paddle.to_tensor((weight * (y - mean) / np.sqrt(variance + 1e-5) + bias).astype(np.float32))
    return x.numpy()


def close(network, x):
    with paddle.no_grad():
        return np.allclose(network(x).numpy(), expected(network, x), rtol=1e-4, atol=1e-4)


def share(tensor):
    new = tensor.detach().clone() * 2.0 + 0.5
    new._share_buffer_to(tensor)


def in_flat_buffer(tensor):
    """A kernel on memory that a tensor shares with others moves no version of it."""
    flat = paddle.concat([tensor.detach().flatten(), paddle.ones([3])])
    flat._slice(0, tensor.size)._share_buffer_to(tensor)
    version = tensor.inplace_version
    flat.scale_(1.5)
    assert tensor.inplace_version == version


CHANGES = {
    "set_value": lambda t: t.set_value(t * 2.0 + 0.5),
    "set_value of an array": lambda t: t.set_value(t.numpy() * 2 + 0.5),
    "assign": lambda t: paddle.assign(t * 2.0 + 0.5, t),
    "lerp_": lambda t: t.lerp_(paddle.full(t.shape, 3.0), paddle.full([], 0.5)),
    "scale_": lambda t: t.scale_(1.5),
    "index": lambda t: t.__setitem__(0, 5.0),
    "copy_": lambda t: t.copy_(t * 2.0 + 0.5, True),
    "get_tensor": lambda t: t.get_tensor().set(t.numpy() * 2 + 0.5, paddle.CPUPlace()),
    "_share_buffer_to": share,
    "flat buffer": in_flat_buffer,
}


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_kind_counts_in_the_next_pass(change, onednn):
    network, x = Network(), paddle.rand([2, 3, 6, 6])
    cpu.set_enabled(onednn)
    try:
        assert close(network, x)
        for name in ("weight", "bias", "_mean", "_variance"):
            with paddle.no_grad():
                CHANGES[change](getattr(network.blocks[0].norm, name))
            assert close(network, x), name
    finally:
        cpu.set_enabled(True)


def test_other_weights_count_in_the_next_pass():
    network, other, x = Network(), Network(), paddle.rand([2, 3, 6, 6])
    for block in other.blocks:
        block.norm.weight.set_value(block.norm.weight * 3.0)
    network(x)
    network.set_state_dict(other.state_dict())
    assert np.array_equal(network(x).numpy(), other(x).numpy())
    names = ["weight", "bias", "_mean", "_variance"]
    assert list(network.blocks[0].norm.state_dict()) == names and not network.blocks[0].norm.__dict__.get("folded")


def test_what_the_optimizer_trained_counts_in_the_next_evaluation():
    network, x = Network("statistics"), paddle.rand([2, 3, 6, 6])
    optimizer = paddle.optimizer.Momentum(0.1, parameters=network.parameters())
    network.eval()
    for _ in range(2):
        assert close(network, x)
        network.train()
        network(x).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        network.eval()
    assert close(network, x)


def test_a_teacher_is_always_the_average_of_now():
    student, teacher, x = Network(freeze=False), Network(freeze=False), paddle.rand([2, 3, 6, 6])
    average = ModelEMA(student, decay=0.5, decay_type="normal", into=teacher)
    teacher.eval()
    for step in range(3):
        for block in student.blocks:
            block.norm.weight.set_value(block.norm.weight + 1.0)
            block.norm._mean.set_value(block.norm._mean + 0.25)
        average.update()
        assert close(teacher, x), step


def test_training_and_evaluation_take_turns():
    """A norm that trains is not constant; it is while the model is evaluated, and what it learned counts."""
    network, x = Network(freeze=False), paddle.rand([2, 3, 6, 6])
    for _ in range(2):
        network.train()
        before = network.blocks[0].norm._mean.numpy()
        network(x)
        assert not np.array_equal(before, network.blocks[0].norm._mean.numpy())
        network.eval()
        with paddle.no_grad(), CachedFolds():
            assert close(network, x) and close(network, x)


FOLDING = {"concat": 4, "sqrt": 1, "divide": 1, "subtract": 1, "split": 2}


def test_kernels_do_not_grow_with_the_number_of_norms():
    x = paddle.rand([1, 3, 6, 6])
    cpu.set_enabled(False)
    try:
        counts = {}
        for norms in (2, 12):
            network = Network(norms=norms)
            network.eval()
            with Kernels() as kernels:
                network(x)
            counts[norms] = folds(kernels)
        assert counts[2] == counts[12] == FOLDING
        with paddle.no_grad(), CachedFolds():
            network(x)
            with Kernels() as again:
                network(x)
    finally:
        cpu.set_enabled(True)
    assert not folds(again)
    found = dict(again.counts[""])
    assert found.pop("reshape", 12) == 12 and found == {"conv2d": 12, "add": 12}


def folds(kernels):
    """Of the kernels, those that folding alone needs."""
    return {name: count for name, count in kernels.counts[""].items() if name in FOLDING}


def test_norms_of_another_epsilon_and_a_single_one():
    norms = [nn.BatchNorm2D(4), nn.BatchNorm2D(5), nn.BatchNorm2D(6, epsilon=0.5)]
    for norm in norms:
        fill(norm)
    for fold in fold_together(norms):
        scale, shift = folding.scale_and_shift(fold.norm)
        assert np.allclose(fold.scale, scale, rtol=1e-6) and np.allclose(fold.shift, shift, rtol=1e-5, atol=1e-6)
        assert fold.scale.shape == fold.norm.weight.shape


def test_nothing_is_left_behind_and_nothing_goes_to_other_threads():
    network, x = Network(), paddle.rand([1, 3, 6, 6])
    network.eval()
    seen = []
    with pytest.raises(KeyError), paddle.no_grad(), CachedFolds():
        network(x)
        assert len(folding._state.folds) == 2
        thread = threading.Thread(target=lambda: seen.append(folding._state.folds))
        thread.start()
        thread.join()
        raise KeyError
    assert (folding._state.folds, folding._state.weights, seen) == (None, None, [None])


@pytest.mark.parametrize("options", [{}, {"padding_mode": "reflect"}, {"groups": 3, "stride": 2, "dilation": 2}])
def test_paddles_convolution_with_a_fold_is_the_one_without_it_and_the_fold(options):
    conv, x = Conv2D(3, 6, 3, padding=1, bias_attr=False, **options), paddle.rand([2, 3, 8, 8])
    scale, shift = paddle.rand([6]), paddle.rand([6])
    y = nn.Conv2D.forward(conv, x) * scale.reshape([1, -1, 1, 1]) + shift.reshape([1, -1, 1, 1])
    assert np.allclose(conv.convolve_by_paddle(x, scale, shift), y, rtol=1e-4, atol=1e-5)
