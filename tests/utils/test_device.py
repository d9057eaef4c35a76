"""What is asked of the device, on a CPU."""

import threading

import paddle
import pytest
from paddle.base import core

from ppdet.utils import device


def test_a_cpu():
    assert (device.name(), device.device_type(), device.is_cpu(), device.runs_behind_host()) == (
        "cpu",
        "cpu",
        True,
        False,
    )
    assert "cpu" in device.supported_types() and device.count("cpu") == 1 and device.count("abacus") == 0
    assert device.capability() is None and device.peak_memory() is None
    assert not device.casts_to("float16") and not device.casts_to("bfloat16")
    assert device.has_kernel("conv2d") and not device.has_kernel("sync_batch_norm")
    device.synchronize()
    device.thread_initializer()()


@pytest.mark.parametrize("kind", ["gpu", "xpu", "npu"])
def test_other_devices(monkeypatch, kind):
    monkeypatch.setattr(paddle, "get_device", lambda: f"{kind}:1")
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (8, 6))
    assert (device.device_type(), device.is_cpu(), device.runs_behind_host()) == (kind, False, True)
    assert device.capability() == ((8, 6) if kind == "gpu" else None)


@pytest.mark.parametrize(("kind", "times"), [("cpu", 0), ("gpu", 1), ("npu", 1)])
def test_waiting(monkeypatch, kind, times):
    """Paddle raises an error when it is asked to wait for a CPU."""
    waited = []
    monkeypatch.setattr(device, "device_type", lambda: kind)
    monkeypatch.setattr(paddle.device, "synchronize", lambda: waited.append(kind))
    device.synchronize()
    assert len(waited) == times


@pytest.mark.parametrize(("kind", "expected"), [("gpu", True), ("xpu", False), ("cpu", False), ("npu", False)])
def test_kernels_are_looked_up_by_the_name_of_the_device(monkeypatch, kind, expected):
    keys = {"sync_batch_norm": ["(GPU, Undefined(AnyLayout), float32)", "(GPUX, Undefined(AnyLayout), float32)"]}
    monkeypatch.setattr(paddle.base.core, "_get_registered_phi_kernels", lambda which: keys)
    monkeypatch.setattr(device, "device_type", lambda: kind)
    assert device.has_kernel("sync_batch_norm") is expected and not device.has_kernel("conv2d")


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError])
def test_capability_without_a_driver(monkeypatch, error):
    def fail():
        raise error("CUDA driver version is insufficient")

    monkeypatch.setattr(device, "device_type", lambda: "gpu")
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", fail)
    assert device.capability() is None


def test_capability_as_paddle_has_it(monkeypatch):
    """A build for CUDA without a driver raises OSError, one for CPUs ValueError."""
    monkeypatch.setattr(device, "device_type", lambda: "gpu")
    assert (device.capability() is None) == (device.count("gpu") == 0)
    monkeypatch.setattr(paddle, "is_compiled_with_rocm", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (9, 0))
    assert device.capability() is None  # AMD's capabilities have other numbers


def test_types_and_numbers_of_devices(monkeypatch):
    core = paddle.base.core

    def no_driver():
        raise OSError("(External) CUDA error(35), CUDA driver version is insufficient")

    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle, "is_compiled_with_xpu", lambda: True)
    monkeypatch.setattr(paddle.device, "get_all_custom_device_type", lambda: ["npu"])
    monkeypatch.setattr(core, "get_cuda_device_count", lambda: 2, raising=False)
    monkeypatch.setattr(core, "get_xpu_device_count", lambda: 3, raising=False)
    monkeypatch.setattr(core, "get_custom_device_count", {"npu": 4}.__getitem__)
    assert device.supported_types() == ["cpu", "gpu", "xpu", "npu"]
    assert [device.count(kind) for kind in (*device.supported_types(), "mlu")] == [1, 2, 3, 4, 0]
    monkeypatch.setattr(core, "get_cuda_device_count", no_driver)
    assert device.count("gpu") == 0
    monkeypatch.setattr(paddle.device, "get_all_custom_device_type", lambda: None)
    assert device.supported_types() == ["cpu", "gpu", "xpu"] and device.count("npu") == 0


def test_an_operator_tells_a_thread_its_device(monkeypatch):
    """Operators that are given a place make it the thread's current device, before anything else."""
    called = []
    monkeypatch.setattr(device, "is_cpu", lambda: False)
    set_device = device.thread_initializer()
    empty = paddle._C_ops.empty
    monkeypatch.setattr(
        paddle._C_ops, "empty", lambda *args: called.append((threading.get_ident(), args)) or empty(*args)
    )
    thread = threading.Thread(target=set_device)
    thread.start()
    thread.join()
    assert [(ident == thread.ident, args[0], str(args[2])) for ident, args in called] == [(True, [0], "Place(cpu)")]


def test_memory_now_and_a_peak_from_now_on(monkeypatch):
    """On the CPU there is neither; on a device Paddle is asked for the one that is the current one."""
    assert device.memory() is None and device.reset_peak_memory() is False
    asked, bytes_of = [], {"Allocated": 3 << 20, "Reserved": 5 << 20}

    def value(kind, number):
        asked.append((kind, number))
        return bytes_of[kind]

    monkeypatch.setattr(device, "name", lambda: "xpu:1")
    monkeypatch.setattr(core, "device_memory_stat_current_value", value)
    monkeypatch.setattr(core, "device_memory_stat_reset_peak_value", value, raising=False)
    assert device.memory() == {"allocated": 3 << 20, "reserved": 5 << 20}
    assert device.reset_peak_memory() is True
    assert asked == [("Allocated", 1), ("Reserved", 1), ("Allocated", 1)]
    bytes_of["Reserved"] = bytes_of["Allocated"] = 0  # Paddle 2.6 counts nothing on custom devices
    assert device.memory() is None
    monkeypatch.delattr(core, "device_memory_stat_reset_peak_value")
    assert device.reset_peak_memory() is False
