"""The choice between oneDNN's and Paddle's operations."""

import gc
import logging
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from patience import PATIENCE
from processors import needs_bfloat16

from ppdet.modeling import cpu
from ppdet.modeling.cpu import compiled_convolution, onednn, primitives, self_test
from ppdet.modeling.cpu.tensors import state
from ppdet.modeling.layers import Conv2D, ConvNorm, bfloat16_to_float32_on_cpu
from ppdet.utils import device

ROOT = Path(__file__).resolve().parents[3]

needs_onednn = pytest.mark.skipif(not cpu.ready(), reason="oneDNN cannot be used on this machine")


@pytest.fixture
def undecided(tmp_path, monkeypatch):
    """The check of the library has not run, before and after the test, and no result is kept."""
    monkeypatch.setenv("PPDET_CACHE_HOME", str(tmp_path / "cache"))
    cpu.agrees.cache_clear()
    yield
    cpu.agrees.cache_clear()


@needs_onednn
def test_own_check_passes_and_leaves_the_random_state_alone():
    paddle.seed(3)
    expected = paddle.rand([4]).numpy()
    paddle.seed(3)
    difference = self_test.difference("float32")
    assert difference < 1e-5
    np.testing.assert_array_equal(paddle.rand([4]).numpy(), expected)
    names = [Conv2D(1, 1, 1).full_name() for _ in range(2) if self_test.difference("float32") == difference]
    assert len({int(name.rpartition("_")[2]) - i for i, name in enumerate(names)}) == 1
    # With weights of Paddle's random state, one process in some hundreds had a value that ReLU cut on one side only.
    paddle.seed(345)
    assert self_test.difference("float32") == difference


@needs_bfloat16
def test_bfloat16_is_used_where_the_processor_multiplies_it():
    assert 1e-4 < self_test.difference("bfloat16") < 0.1
    assert cpu.has_bfloat16() == onednn.multiplies_bfloat16()


SELECTION = """
from ppdet.utils.process.paddle_setup import load_paddle
load_paddle()
from ppdet.modeling import cpu
print(cpu.ready(), cpu.has_bfloat16())
"""


@needs_onednn
@pytest.mark.parametrize("instructions", ["SSE41", "AVX2", "AVX512_CORE"])
def test_processors_without_bfloat16_instructions_compute_in_float32(instructions):
    """With ONEDNN_MAX_CPU_ISA, oneDNN behaves as on a processor that only has these instructions."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SELECTION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_operations_that_are_missing_in_bfloat16_are_told_in_one_line(undecided, monkeypatch, log):
    log.set_level(logging.INFO)
    monkeypatch.setattr(onednn, "multiplies_bfloat16", lambda: True)
    right = self_test.convolve
    monkeypatch.setattr(
        self_test, "convolve", lambda *a, **b: None if state.data == onednn.BFLOAT16 else right(*a, **b)
    )
    assert cpu.ready() and not cpu.has_bfloat16()
    assert log.text.count("oneDNN cannot compute in bfloat16 (it has no convolution for training on this") == 1


def test_wrong_numbers_are_noticed(undecided, monkeypatch, log):
    right = self_test.maps.max_pool
    monkeypatch.setattr(self_test.maps, "max_pool", lambda *a: right(*a) * 1.01)
    assert not cpu.ready()
    assert "results differ" in log.text


def test_gradients_that_are_not_numbers_are_noticed(undecided, monkeypatch, log):
    right = self_test.maps.ResizeFunction.backward
    nan = staticmethod(lambda ctx, dy: right(ctx, dy) * float("nan"))
    monkeypatch.setattr(self_test.maps.ResizeFunction, "backward", nan)
    assert not cpu.ready()
    assert "differ from Paddle's by nan" in log.text


def missing():
    raise OSError("libdnnl.so.3: no such file")


def test_missing_library_leaves_the_work_to_paddle(undecided, monkeypatch, log):
    log.set_level(logging.INFO)
    monkeypatch.setattr(onednn, "library", missing)
    compiled_convolution.convolution.cache_clear()
    conv = Conv2D(4, 4, 3)
    assert conv(paddle.ones([1, 4, 5, 5])).shape == [1, 4, 3, 3]
    assert conv(paddle.ones([1, 4, 5, 5])).shape == [1, 4, 3, 3]
    assert log.text.count("oneDNN cannot compute in float32 (libdnnl.so.3: no such file); Paddle's layers do") == 1


@needs_onednn
def test_both_ways_give_the_same_block():
    layer = ConvNorm(32, 32, 3, norm_type="gn", norm_decay=None)
    x = paddle.randn([2, 32, 7, 9])
    ours = layer(x, residual=x, relu=True).numpy()
    cpu.set_enabled(False)
    try:
        assert not cpu.can_compute(x)
        theirs = layer(x, residual=x, relu=True).numpy()
    finally:
        cpu.set_enabled(True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize(("kind", "expected"), [("cpu", True), ("gpu", False), ("npu", False)])
def test_maps_of_other_devices_are_left_to_paddle(monkeypatch, kind, expected):
    """The input may be in host memory, but the results would not be."""
    monkeypatch.setattr(device, "device_type", lambda: kind)
    assert cpu.can_compute(paddle.ones([1, 4, 5, 5])) is expected


@pytest.mark.parametrize(("kind", "expected"), [("cpu", "float32"), ("gpu", "bfloat16"), ("npu", "bfloat16")])
def test_small_maps_are_cast_for_paddle_on_cpus_alone(monkeypatch, kind, expected):
    monkeypatch.setattr(device, "device_type", lambda: kind)
    assert bfloat16_to_float32_on_cpu(paddle.ones([2]).astype("bfloat16")).dtype == getattr(paddle, expected)


@needs_onednn
def test_caches_are_bounded_and_handles_are_given_back(monkeypatch):
    destroyed = []
    destroy = onednn.library().functions.dnnl_primitive_destroy

    def count(handle):
        destroyed.append(handle)
        return destroy(handle)

    monkeypatch.setattr(onednn.library().functions, "dnnl_primitive_destroy", count)
    primitives.relu_backward.cache_clear()
    gc.collect()
    destroyed.clear()
    for width in range(1, primitives.KEPT + 11):
        primitives.relu_backward((1, 1, 1, width), onednn.FLOAT32)
    assert primitives.relu_backward.cache_info().currsize == primitives.KEPT
    gc.collect()
    assert len(destroyed) == 10


def convolve_once(queue):
    conv = Conv2D(16, 16, 3)
    queue.put(float(conv(paddle.ones([1, 16, 8, 8])).abs().sum()) > 0)


@needs_onednn
def test_forked_processes_compute_too():
    assert Conv2D(16, 16, 3)(paddle.ones([1, 16, 8, 8])).shape == [1, 16, 6, 6]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=convolve_once, args=(queue,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0 and queue.get()


@pytest.mark.parametrize(
    ("names", "message"), [([], "has no oneDNN library"), (["libdnnl.so.3", "dnnl.lib"], "libdnnl.so.3")]
)
def test_wheels_without_the_library_leave_the_work_to_paddle(undecided, monkeypatch, log, tmp_path, names, message):
    """The folder of the wheel has no such file, or one that cannot be loaded."""
    log.set_level(logging.INFO)
    (tmp_path / "libs").mkdir()
    for name in names:
        (tmp_path / "libs" / name).write_bytes(b"of another system")
    monkeypatch.setattr(paddle, "__file__", str(tmp_path / "__init__.py"))
    # The library that is loaded stays: compiled operations of this process belong to it.
    monkeypatch.setattr(onednn, "library", onednn.library.__wrapped__)
    assert not cpu.ready() and message in log.text
    assert Conv2D(4, 4, 3)(paddle.ones([1, 4, 5, 5])).shape == [1, 4, 3, 3]
    assert log.text.count("Paddle's layers do") == 1


def test_an_error_without_a_message_leaves_the_work_to_paddle(undecided, monkeypatch, log):
    def fail():
        raise OSError

    log.set_level(logging.INFO)
    monkeypatch.setattr(onednn, "library", fail)
    assert not cpu.ready()
    assert "oneDNN cannot compute in float32 (OSError)" in log.text
