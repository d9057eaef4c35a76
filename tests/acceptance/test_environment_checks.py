"""The kit reports what the machine has, and notices TF32."""

import contextlib
import os

import numpy as np
import paddle
import pytest
from broken import change, run

from ppdet.acceptance import device_probe
from ppdet.acceptance.checks import environment_checks
from ppdet.utils import device


def test_what_is_here(context):
    result = run("environment/paddle", context)
    assert result.status == "pass", result
    assert result.detail.startswith(f"paddle {paddle.__version__}, ") and result.detail.endswith(", no TF32")
    assert result.numbers["device"] == "cpu" and result.numbers["cards"] == 1
    result = run("environment/machine", context)
    assert result.status == "pass" and result.numbers["processors"] >= 1, result


def rounded(values: paddle.Tensor) -> paddle.Tensor:
    """Round to the 10 bits of mantissa of TF32."""
    bits = values.numpy().view(np.uint32)
    return paddle.to_tensor(((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32))


def test_tf32_is_told_and_refused_where_it_would_spoil_the_comparison(context, monkeypatch):
    assert run("operators/tf32", context).status == "pass"

    def wrap(right):
        return lambda x, y, **options: right(rounded(x), rounded(y), **options)

    change(monkeypatch, paddle, "matmul", wrap)
    assert run("environment/paddle", context).detail.endswith(", TF32 in matrix product")
    result = run("operators/tf32", context)
    assert result.status == "fail" and "limit 1e-05" in result.detail, result


def test_a_device_that_computes_something_else_is_found(context, monkeypatch):
    change(monkeypatch, paddle, "matmul", lambda right: lambda x, y, **options: right(x, y, **options) * 1.1)
    assert run("environment/paddle", context).detail == "a matrix product on cpu is off by 1.0e-01"


SMI = """#!/bin/sh
case "$*" in
  "topo -m") echo "GPU0 GPU1" ;;
  *csv*) echo "NVIDIA A10, 550.54.14, 23028 MiB, 2 MiB, 0 %, 150.00 W"
         echo "NVIDIA A10, 550.54.14, 23028 MiB, 2 MiB, 0 %, 150.00 W" ;;
esac
exit {code}
"""


@pytest.mark.parametrize("code", [0, 9])
def test_cards_are_as_nvidia_smi_has_them_and_its_failure_is_none(code, context, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(SMI.format(code=code))
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    result = run("environment/machine", context)
    assert result.status == "pass" and result.numbers["environment"]["NCCL_DEBUG"] == "INFO", result
    if code:
        assert result.detail.endswith("; no nvidia-smi")
        return
    assert result.detail.startswith("2 x NVIDIA A10, driver 550.54.14, 23028 MiB; ")
    assert result.numbers["cards"][1]["power.limit"] == "150.00 W" and result.numbers["topology"] == "GPU0 GPU1"


def test_the_first_device_that_is_no_cpu_is_taken(monkeypatch):
    monkeypatch.setattr(device, "supported_types", lambda: ["cpu", "xpu", "gpu"])
    monkeypatch.setattr(device, "count", {"cpu": 1, "xpu": 2, "gpu": 0}.__getitem__)
    assert device_probe.device_counts() == {"xpu": 2}
    monkeypatch.setattr(device, "count", {"cpu": 1, "xpu": 2, "gpu": 8}.__getitem__)
    assert list(device_probe.device_counts().items()) == [("gpu", 8), ("xpu", 2)]


def test_types_of_mixed_precision(monkeypatch):
    for capability, types in (((6, 1), ()), ((7, 5), ("float16",)), ((8, 0), ("float16", "bfloat16"))):
        monkeypatch.setattr(device, "capability", lambda capability=capability: capability)
        assert device_probe.types_of_mixed_precision("gpu") == types
    monkeypatch.setattr(device, "capability", lambda: None)
    monkeypatch.setattr(device, "casts_to", lambda dtype: True)  # and yet it has no kernel of that type
    monkeypatch.setattr(device_probe, "convolves_in", lambda dtype: dtype == "bfloat16")
    assert device_probe.types_of_mixed_precision("npu") == ("bfloat16",)


@pytest.mark.filterwarnings("ignore:amp_guard can only be enabled")
def test_a_convolution_is_tried_in_the_type(monkeypatch):
    """Paddle's CPU kernels for convolutions support only float32."""
    assert not device_probe.convolves_in("float16")
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **options: contextlib.nullcontext())
    assert device_probe.convolves_in("float32") and not device_probe.convolves_in("bfloat16")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["cpu"], "is a build for CPUs: install the build for your device into this environment"),
        (["cpu", "gpu"], "is built for gpu, but finds no such device"),
    ],
)
def test_why_there_is_no_device(kinds, said, monkeypatch):
    monkeypatch.setattr(device, "supported_types", lambda: kinds)
    monkeypatch.setattr(device, "count", lambda kind: int(kind == "cpu"))
    with pytest.raises(ValueError, match=said):
        device_probe.find_facts("auto")
    with pytest.raises(ValueError, match=f"--device xpu: there is no such device: paddle .* {said}"):
        device_probe.find_facts("xpu")


def test_the_group_of_operators_asks_nvidia_for_no_tf32():
    from ppdet.acceptance.check_registry import GROUPS

    environments = {group.name: group.environment for group in GROUPS}
    assert environments["operators"] == environments["nms"] == {"NVIDIA_TF32_OVERRIDE": "0"}
    assert environments["environment"] == environments["training"] == {}
    assert environment_checks.FLOAT32 < 1e-4


def test_a_system_that_does_not_say_what_it_has(context, monkeypatch):
    """macOS has no sched_getaffinity, and Windows has neither that nor sysconf."""
    for name in ("sched_getaffinity", "sysconf"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setenv("PATH", "")
    result = run("environment/machine", context)
    assert result.status == "pass" and result.detail == "6 processors, memory unknown; no nvidia-smi", result
