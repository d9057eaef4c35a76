"""Options that engines get for GPUs: forced here, and checked against Paddle's own classes.

All of it passes without a GPU, with Paddle for CPUs as well as with the build for GPUs, which answers what it was told.
"""

import importlib.util

import numpy as np
import paddle
import pytest
from paddle import inference
from toy import KEEPS_RATIO, write_toy

from ppdet.deploy.backends import tensorrt
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime, providers
from ppdet.deploy.backends.operator_names import LEFT_IN_FLOAT32, NOT_FOR_TENSORRT
from ppdet.deploy.backends.paddle_inference import PaddleInference
from ppdet.utils import device
from ppdet.utils.errors import DeployError

PADDLE_2 = not hasattr(inference.Config, "new_ir_enabled")
HALF, BFLOAT16, WHOLE = (getattr(inference.PrecisionType, name) for name in ("Half", "Bfloat16", "Float32"))
# What a build says that does not have a device; before that, its binding has checked the arguments.
LACKING = ("please compile", "Should call EnableXpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), KEEPS_RATIO)


@pytest.fixture
def calls(monkeypatch):
    """Calls of Paddle's Config: names, arguments, named arguments. They are executed as far as this build can."""
    made = []

    class Recording(inference.Config):
        def __getattribute__(self, name):
            method = super().__getattribute__(name)
            if name.startswith("_") or not callable(method):
                return method

            def call(*arguments, **named):
                made.append((name, arguments, named))
                try:
                    return method(*arguments, **named)
                except RuntimeError as error:
                    if not any(text in str(error) for text in LACKING):
                        raise

            return call

    monkeypatch.setattr(inference, "Config", Recording)
    return made


def with_options(folder, **options):
    """PaddleInference with the options for a device, but loaded on the CPU."""
    backend = PaddleInference(folder, Options())
    backend.options = Options(**options)
    return backend


def settings(folder, **options):
    backend = with_options(folder, **options)
    return backend.config(backend.find(folder, "fp32"))


def of(calls, *names):
    return [call for call in calls if call[0] in names]


CPU_CALLS = ("disable_gpu", "enable_mkldnn", "enable_mkldnn_bfloat16", "set_cpu_math_library_num_threads")
DEVICE_CALLS = ("enable_use_gpu", "enable_xpu", "set_xpu_device_id", "enable_custom_device")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "gpu"}, [("enable_use_gpu", (200, 0, WHOLE), {})]),
        ({"device": "gpu:1", "precision": "fp16"}, [("enable_use_gpu", (200, 1, HALF), {})]),
        ({"device": "gpu:2", "precision": "bf16"}, [("enable_use_gpu", (200, 2, BFLOAT16), {})]),
        # TensorRT has a precision of its own, and what it leaves to Paddle is in float32.
        ({"device": "gpu", "precision": "fp16", "tensorrt": True}, [("enable_use_gpu", (200, 0, WHOLE), {})]),
        ({"device": "xpu:3"}, [("enable_xpu", (), {}), ("set_xpu_device_id", (3,), {})]),
        ({"device": "npu"}, [("enable_custom_device", ("npu", 0, WHOLE), {})]),
        ({"device": "iluvatar_gpu:1", "precision": "fp16"}, [("enable_custom_device", ("iluvatar_gpu", 1, HALF), {})]),
        ({"device": "mlu", "precision": "bf16"}, [("enable_custom_device", ("mlu", 0, BFLOAT16), {})]),
    ],
)
def test_devices(folder, calls, options, expected):
    backend = with_options(folder, **options)
    calls.clear()
    config = backend.config(backend.find(folder, "fp32"))
    assert of(calls, *CPU_CALLS, *DEVICE_CALLS) == expected
    in_float32 = of(calls, "exp_disable_mixed_precision_ops")
    mixed = any(precision in call[1] for call in expected for precision in (HALF, BFLOAT16))
    assert in_float32 == [("exp_disable_mixed_precision_ops", (set(LEFT_IN_FLOAT32),), {})] * mixed
    # Paddle 3 does not load a graph that asks for it.
    assert len(of(calls, "enable_memory_optim")) == PADDLE_2
    if paddle.is_compiled_with_cuda() and options["device"].startswith("gpu"):
        index = int(options["device"].partition(":")[2] or 0)
        told = (config.use_gpu(), config.gpu_device_id(), config.memory_pool_init_size_mb(), config.use_xpu())
        assert told == (True, index, 200, False)


def test_the_cpu(folder, calls):
    settings(folder, threads=3)
    assert ("set_cpu_math_library_num_threads", (3,), {}) in calls and ("disable_gpu", (), {}) in calls
    assert not of(calls, *DEVICE_CALLS, "exp_disable_mixed_precision_ops", "enable_memory_optim")


@pytest.mark.parametrize(
    ("options", "kinds", "count", "message"),
    [
        (
            {"device": "gpu"},
            ["cpu"],
            0,
            "this Paddle has no gpu support: install paddlepaddle-gpu, the build",
        ),
        (
            {"device": "npu"},
            ["cpu", "gpu"],
            2,
            "this Paddle has no npu support: install the plugin of",
        ),
        ({"device": "gpu"}, ["cpu", "gpu"], 0, "Paddle sees 0 devices of type gpu, and no gpu: is its driver there?"),
        ({"device": "gpu:2"}, ["cpu", "gpu"], 2, "Paddle sees 2 devices of type gpu, and no gpu:2"),
        ({"device": "xpu", "precision": "fp16"}, ["cpu", "xpu"], 1, "no fp16 on xpu: it has fp32"),
        ({"device": "gpu:1"}, ["cpu", "gpu"], 2, None),
        ({"device": "npu:0", "precision": "bf16"}, ["cpu", "npu"], 1, None),
    ],
)
def test_devices_that_are_not_there(monkeypatch, options, kinds, count, message):
    monkeypatch.setattr(device, "supported_types", lambda: kinds)
    monkeypatch.setattr(device, "count", lambda kind: count)
    said = PaddleInference.why_unavailable(Options(**options))
    assert said is None if message is None else said.startswith(message)


def test_this_build_has_no_gpu():
    """Nothing is forced here: each build reports what it lacks."""
    said = PaddleInference.why_unavailable(Options(device="gpu"))
    if not paddle.is_compiled_with_cuda():
        assert said.startswith("this Paddle has no gpu support")
    else:
        assert said is None or said.startswith("Paddle sees 0 devices of type gpu")
    if not paddle.is_compiled_with_xpu():
        assert PaddleInference.why_unavailable(Options(device="xpu:1")).startswith("this Paddle has no xpu support")


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="the build for GPUs takes no plugins")
def test_a_device_with_a_plugin_computes_what_the_cpu_does(pretend, tmp_path):
    code = """
import sys
from pathlib import Path
import numpy as np
from ppdet.utils.process.paddle_setup import load_paddle
load_paddle(announce=False)
import paddle
from pretend import library
from toy import write_toy
from ppdet.deploy.detector import Detector, DeployError
folder = write_toy(Path(sys.argv[1]))
library().pretend_touched()
for device in ("cpu", "pretend:1"):
    rows = Detector(folder, "auto", device=device).predict(np.full((64, 96, 3), 51, np.uint8)).rows
    print(device, [round(float(value), 3) for value in rows[0]], library().pretend_touched())
try:
    Detector(folder, "paddle", device="pretend:2")
except DeployError as error:
    print(error)
from ppdet.engine.export.check import on_cpu
paddle.set_device("pretend:1")
with on_cpu():
    print(paddle.zeros([1]).place)
print(paddle.zeros([1]).place)
"""
    printed = pretend.run(code, tmp_path)
    row = [1.0, 0.2, 16.0, 24.0, 48.0, 40.0]
    assert f"cpu {row} 0\npretend:1 {row} 2\n" in printed
    assert "Paddle sees 2 devices of type pretend, and no pretend:2" in printed
    assert "Place(cpu)\nPlace(pretend:1)" in printed


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_onnx_runtime_tells_when_it_goes_on_without_its_gpu(tmp_path):
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert ONNXRuntime(tmp_path, Options()).session.get_providers() == ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DeployError, match="ONNX Runtime cannot start CUDAExecutionProvider on gpu:1"):
            ONNXRuntime(tmp_path, Options(device="gpu:1"))
        with pytest.raises(DeployError, match="ONNX Runtime cannot start TensorrtExecutionProvider on gpu"):
            ONNXRuntime(tmp_path, Options(device="gpu", tensorrt=True))
    said = ONNXRuntime.why_unavailable(Options(device="gpu", tensorrt=True))
    assert said == "this ONNX Runtime has no TensorrtExecutionProvider: install onnxruntime-gpu, or use device cpu"
    assert ONNXRuntime.why_unavailable(Options(device="xpu")) == "no device of type xpu: it has cpu, gpu"


def test_providers_of_onnx_runtime():
    cuda = ("CUDAExecutionProvider", {"device_id": 1, "cudnn_conv_algo_search": "HEURISTIC"})
    cpu = ("CPUExecutionProvider", {})
    assert list(providers(Options()).items()) == [cpu]
    assert list(providers(Options(device="gpu:1")).items()) == [cuda, cpu]
    engine = ("TensorrtExecutionProvider", {"device_id": 1, "trt_fp16_enable": True})
    both = providers(Options(device="gpu:1", precision="fp16", tensorrt=True))
    assert list(both.items()) == [engine, cuda, cpu]


@pytest.fixture
def versions(monkeypatch):
    """Simulated versions of a GPU and TensorRT, for folder names."""
    monkeypatch.setattr(device, "gpu_description", lambda index: f"NVIDIA {'AB'[index]} 8.0")
    monkeypatch.setattr(inference, "get_trt_runtime_version", lambda: (8, 5, 3))


@pytest.mark.skipif(not PADDLE_2, reason="Paddle 3 has another way")
def test_tensorrt_of_paddle_2(folder, calls, versions, tmp_path, monkeypatch):
    """The range of every tensor's shape is collected for real, and Paddle's settings say what they were told."""
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    backend = with_options(tmp_path, device="gpu", precision="fp16", tensorrt=True, max_batch=4)
    graph = backend.find(tmp_path, "fp32")
    with tensorrt.compiled(graph, backend.options, backend.config) as config:
        (kept,) = (path for path in (tmp_path / tensorrt.FOLDER).iterdir() if path.is_dir())
        assert not (kept / tensorrt.DONE).exists()
    assert (kept / tensorrt.DONE).exists()
    options = {
        "workspace_size": 1 << 30,
        "max_batch_size": 4,
        "min_subgraph_size": 24,
        "precision_mode": HALF,
        "use_static": True,
        "use_calib_mode": False,
    }
    assert of(calls, "enable_tensorrt_engine") == [("enable_tensorrt_engine", (), options)]
    assert of(calls, "exp_disable_tensorrt_ops") == [("exp_disable_tensorrt_ops", (sorted(NOT_FOR_TENSORRT),), {})]
    assert of(calls, "set_optim_cache_dir") == [("set_optim_cache_dir", (str(kept),), {})]
    assert config.tuned_tensorrt_dynamic_shape() and config.trt_allow_build_at_runtime()
    if paddle.is_compiled_with_cuda():
        assert config.tensorrt_engine_enabled() and config.tensorrt_precision_mode() == HALF
    ranges = (kept / tensorrt.SHAPES).read_text().split("shape_range_info")
    (of_image,) = (one for one in ranges if 'name: "image"' in one)
    found = {kind: [int(line.split()[1]) for line in of_image.splitlines() if kind in line] for kind in
             ("min_shape", "max_shape", "opt_shape")}  # fmt: skip
    assert found == {"min_shape": [1, 3, 64, 64], "max_shape": [4, 3, 128, 128], "opt_shape": [1, 3, 64, 128]}
    # The second time nothing is compiled.
    monkeypatch.setattr(tensorrt, "collect_shapes", None)
    with tensorrt.compiled(graph, backend.options, backend.config):
        pass


@pytest.mark.parametrize(
    ("options", "converts", "compiled_with", "runtime", "message"),
    [
        ({"precision": "bf16"}, True, (10, 5, 0), True, "no bf16 with TensorRT: it has fp32, fp16"),
        ({}, False, (0, 0, 0), False, "this Paddle was built without TensorRT"),
        ({"device": "gpu:1"}, True, (10, 5, 0), True, "TensorRT is not installed: pip install tensorrt"),
        ({"device": "gpu:1"}, False, (8, 5, 3), True, None),
        ({}, False, (8, 5, 3), False, "TensorRT's library is not found: install TensorRT 8.5.3 and name its folder in"),
    ],
)
def test_tensorrt_that_is_not_there(monkeypatch, options, converts, compiled_with, runtime, message):
    def version():
        if not runtime:
            raise RuntimeError("libnvinfer.so is not found")
        return compiled_with

    monkeypatch.setattr(tensorrt, "converts", lambda: converts)
    monkeypatch.setattr(inference, "get_trt_compile_version", lambda: compiled_with)
    monkeypatch.setattr(inference, "get_trt_runtime_version", version)
    monkeypatch.setattr(device, "supported_types", lambda: ["cpu", "gpu"])
    monkeypatch.setattr(device, "count", lambda kind: 2)
    said = PaddleInference.why_unavailable(Options(**{"device": "gpu", "tensorrt": True, **options}))
    assert said is None if message is None else said.startswith(message)


def test_this_build_says_what_it_lacks(monkeypatch):
    """Unchanged: Paddle for CPUs has no TensorRT; the build for GPUs of 2.6.2 has it, and its library is not here."""
    said = tensorrt.why_unavailable(Options(device="gpu", tensorrt=True))
    if inference.get_trt_compile_version() == (0, 0, 0):
        assert said.startswith("this Paddle was built without TensorRT")
    else:
        assert said is None or said.startswith("TensorRT's library is not found: install TensorRT 8.")
    if not tensorrt.converts():
        monkeypatch.setattr(tensorrt, "converts", lambda: True)
        assert tensorrt.why_unavailable(Options(device="gpu", tensorrt=True)).startswith(
            "TensorRT is not installed: pip"
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ValueError, "(InvalidArgument) Expect nms_top_k (1000) <= num of boxes per batch (769).\n  [Hint: Expected"),
        (OSError, "(External) CUDA error(9), invalid configuration argument. \n  [Hint: 'cudaErrorInvalid"),
    ],
)
def test_graphs_whose_suppression_a_gpu_does_not_take(folder, kind, message):
    """Messages as Paddle 2.6.2 has them in its library for GPUs; messages of other errors are not changed."""

    class Predictor:
        def __init__(self, message):
            self.message = message

        def get_input_handle(self, name):
            return self

        def copy_from_cpu(self, array):
            pass

        def run(self):
            raise kind(f"{self.message} ...] (at /paddle/...)\n  [operator < multiclass_nms3 > error]")

    backend = PaddleInference(folder, Options(onednn=False))
    arrays = {"image": np.zeros((1, 3, 192, 192), np.float32), "scale_factor": np.ones((1, 2), np.float32)}
    backend.predictor = Predictor(message)
    with pytest.raises(DeployError, match=r"on image \[1, 3, 192, 192\].*: export the model again with"):
        backend(arrays)
    backend.predictor = Predictor("(External) CUDA error(2), out of memory.")
    with pytest.raises(DeployError, match="operator < multiclass_nms3 > error"):
        backend(arrays)
