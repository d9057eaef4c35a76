"""TensorRT under Paddle: input sizes, the cache of compiled graphs, and Paddle 3's conversion.

No GPU and no TensorRT is needed: Paddle's part is real, and TensorRT's is the graph as it was.
"""

import json
import os
import threading
from pathlib import Path

import fake_tensorrt
import numpy as np
import paddle
import pytest
from paddle import inference
from paddle_error import PADDLES_ERROR
from patience import wait_until
from processes import alive
from toy import KEEPS_RATIO, write_toy

from ppdet.deploy import Detector
from ppdet.deploy.backends import tensorrt, tensorrt_conversion
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.operator_names import NOT_FOR_TENSORRT
from ppdet.deploy.backends.paddle_inference import PaddleInference
from ppdet.deploy.backends.warm_up import warm_up
from ppdet.deploy.compare import FILE, SelfCheck
from ppdet.deploy.preprocess import Preprocess
from ppdet.utils import device
from ppdet.utils.errors import DeployError
from ppdet.utils.process import child

PADDLE_2 = not hasattr(inference.Config, "new_ir_enabled")
ROOT = Path(__file__).resolve().parents[2]
IMAGE_SHAPES = [(1, 3, 64, 64), (1, 3, 64, 128), (1, 3, 64, 128), (4, 3, 128, 128)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), KEEPS_RATIO)


@pytest.mark.parametrize(
    ("preprocess", "others", "expected"),
    [
        # COCO's recipes: 800 x 1333, in multiples of 32 or 128; either side may be the long one.
        (([800, 1333], True, 32), {}, ((32, 32), (800, 1344), (1344, 1344))),
        (([800, 1333], True, 128), {}, ((128, 128), (896, 1408), (1408, 1408))),
        (([480, 640], False, 32), {}, ((480, 640),) * 3),
        (([800, 1333], True, 32), {"use_dynamic_shape": False, "image_shape": [3, 640, 640]}, ((640, 640),) * 3),
        (([8, 8], False, 0), {}, ((32, 32),) * 3),
    ],
)
def test_range_of_sizes(preprocess, others, expected):
    size, keep, stride = preprocess
    resize = {"type": "Resize", "target_size": size, "keep_ratio": keep, "interp": 1}
    steps = [resize, {"type": "Permute"}, {"type": "PadStride", "stride": stride}]
    assert Preprocess({"Preprocess": steps, **others}).sizes() == expected


def test_images_of_any_size():
    with pytest.raises(DeployError, match="no Resize in Preprocess, and no image_shape"):
        Preprocess({"Preprocess": [{"type": "Permute"}]}).sizes()
    padded = [{"type": "Pad", "size": [96, 64]}, {"type": "Permute"}]
    assert Preprocess({"Preprocess": padded}).sizes() == ((96, 64),) * 3


def test_warm_up(folder, tmp_path):
    arrays = warm_up(folder, 4)
    assert [sample["image"].shape for sample in arrays] == IMAGE_SHAPES
    assert arrays[3]["im_shape"].tolist() == [[128, 128]] * 4 and arrays[3]["scale_factor"].tolist() == [[1, 1]] * 4
    # "auto" runs the self-check, whose images are not resized.
    (tmp_path / "infer_cfg.yml").write_text((folder / "infer_cfg.yml").read_text())
    image = np.zeros((2, 3, 224, 96), np.float32)
    SelfCheck({"image": image}, [np.zeros((1, 6), np.float32)] * 2, 0.0, 0).write(tmp_path)
    assert (tmp_path / FILE).is_file()
    assert [sample["image"].shape[2:] for sample in warm_up(tmp_path, 1)] == [
        *((64, 64), (64, 128), (64, 128), (224, 128))
    ]


@pytest.fixture
def versions(monkeypatch):
    """Simulated versions of a GPU and TensorRT, for folder names."""
    monkeypatch.setattr(device, "gpu_description", lambda index: f"NVIDIA {'AB'[index]} 8.0")
    monkeypatch.setattr(inference, "get_trt_runtime_version", lambda: (8, 5, 3))


def test_other_things_have_other_folders(folder, tmp_path, versions):
    graph = PaddleInference.find(folder, "fp32")
    arrays = warm_up(folder, 4)
    names = [
        tensorrt.cache_name(graph, Options(device="gpu"), arrays),
        tensorrt.cache_name(graph, Options(device="gpu:1"), arrays),
        tensorrt.cache_name(graph, Options(device="gpu", precision="fp16"), arrays),
        tensorrt.cache_name(graph, Options(device="gpu"), warm_up(folder, 2)),
    ]
    for path in (graph, graph.with_name("model.pdiparams")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    same = tensorrt.cache_name(tmp_path / graph.name, Options(device="gpu"), arrays)
    (tmp_path / "model.pdiparams").write_bytes(b"others")
    names.append(tensorrt.cache_name(tmp_path / graph.name, Options(device="gpu"), arrays))
    assert same == names[0] and len(set(names)) == 5
    assert names[0].startswith(f"NVIDIA_A_8.0-{paddle.__version__}-8.5.3-fp32-1x3x64x64-1x3x64x128-4x3x128x128-")


class Converter:
    """Records requests to converting processes; can inject code that the next ones run first."""

    def __init__(self, folder):
        self.folder = folder
        self.run_first("")

    def run_first(self, code):
        (self.folder / "before.py").write_text(code)

    @property
    def conversions(self):
        path = self.folder / "conversions"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.fixture
def converter(monkeypatch, versions, tmp_path_factory):
    one = Converter(tmp_path_factory.mktemp("converter"))
    monkeypatch.setenv(fake_tensorrt.FOLDER, str(one.folder))
    tests = str(Path(fake_tensorrt.__file__).parent)
    first = f"import sys; sys.path.insert(1, {tests!r}); import fake_tensorrt; fake_tensorrt.install(); "
    monkeypatch.setattr(child, "START", first + child.START)
    monkeypatch.setattr(tensorrt, "converts", lambda: True)
    return one


@pytest.fixture
def copied(folder, tmp_path):
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


needs_paddle_3 = pytest.mark.skipif(PADDLE_2, reason="Paddle 2 has another way")
FP16 = Options(device="gpu", precision="fp16", tensorrt=True, max_batch=4)


def run_compiled(folder, options=FP16):
    """Outputs of the folder's compiled graph on the CPU, for the usual size, and the path of its cache."""
    graph = PaddleInference.find(folder, "fp32")
    with tensorrt.compiled(graph, options, tensorrt.cpu_config) as config:
        predictor = inference.create_predictor(config)
    arrays = warm_up(folder, 4)[1]
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(arrays[name])
    predictor.run()
    return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]


@needs_paddle_3
def test_tensorrt_of_paddle_3(copied, converter):
    found = run_compiled(copied)
    (asked,) = converter.conversions
    # In the order of the graph's inputs: smallest, usual twice, largest.
    names = tensorrt.input_names(PaddleInference.find(copied, "fp32"))
    assert sorted(names) == ["image", "scale_factor"]
    shapes = {name: [tuple(shape) for shape in shapes] for name, shapes in zip(names, asked["inputs"])}
    assert shapes == {"image": IMAGE_SHAPES, "scale_factor": [(n, 2) for n in (1, 1, 1, 4)]}
    assert asked["precision_mode"] == "FP16"
    assert asked["min_subgraph_size"] == 24 and asked["workspace_size"] == 1 << 30
    assert set(asked["disable_ops"]) == {f"pd_op.{name}" for name in NOT_FOR_TENSORRT}
    (kept,) = (path for path in (copied / "tensorrt").iterdir() if path.is_dir())
    assert asked["save_model_dir"] == str(kept / "model") and (kept / "complete").exists()
    assert paddle.get_flags("FLAGS_trt_engine_serialized_path") == {
        "FLAGS_trt_engine_serialized_path": str(kept / "model")
    }
    (expected,) = (PaddleInference(copied, Options())(warm_up(copied, 4)[1]) for _ in range(1))
    assert all(np.allclose(*pair, atol=1e-5) for pair in zip(found, expected))
    # Found again; another precision is compiled beside it. Each time in a process that has ended.
    run_compiled(copied)
    assert len(converter.conversions) == 1
    run_compiled(copied, Options(device="gpu", tensorrt=True, max_batch=4))
    assert [one["precision_mode"] for one in converter.conversions] == ["FP16", "FP32"]
    processes = {one["process"] for one in converter.conversions}
    assert len(processes - {os.getpid()}) == 2 and not any(map(alive, processes))


@pytest.mark.parametrize(
    ("visible", "index", "expected"),
    [
        (None, 0, "0"),
        (None, 3, "3"),
        ("", 1, "1"),
        ("5", 0, "5"),
        ("4, 6,7", 1, "6"),
        ("GPU-8932f937,GPU-1e7b2c55", 1, "GPU-1e7b2c55"),
    ],
)
def test_the_process_has_the_gpu_that_was_asked_for(monkeypatch, visible, index, expected):
    """As its first one, on which Paddle converts. Its number counts those that this process may see."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("FLAGS_selected_gpus", str(index))
    monkeypatch.setenv("FLAGS_allocator_strategy", "naive_best_fit")
    variables = tensorrt_conversion.environment(index)
    assert variables["CUDA_VISIBLE_DEVICES"] == expected and "FLAGS_selected_gpus" not in variables
    assert variables["FLAGS_allocator_strategy"] == "naive_best_fit"
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@needs_paddle_3
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('out of memory')", "ended with exit code 1: RuntimeError: out of memory"),
        (
            f"sys.stderr.write({PADDLES_ERROR!r}); sys.stderr.flush(); os.abort()",
            "was ended by SIGABRT: ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 1.0GB memory",
        ),
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL)"),
        ("os._exit(0)", "ended with exit code 0)"),
    ],
)
def test_a_conversion_that_fails_leaves_nothing_that_is_used(copied, converter, monkeypatch, code, says):
    """One line with the last words of its process, also from the engine; the next time all is made anew."""
    converter.run_first(code)
    backend = PaddleInference.__new__(PaddleInference)
    monkeypatch.setattr(backend, "config", tensorrt.cpu_config, raising=False)
    backend.folder, backend.options = copied, FP16
    with pytest.raises(DeployError) as raised:
        backend.load()
    said = str(raised.value)
    assert said.startswith(f"{copied}: TensorRT cannot compile it in fp16: try without TensorRT, or export it again (")
    assert f"the conversion {says}" in said and "\n" not in said
    (kept,) = (path for path in (copied / "tensorrt").iterdir() if path.is_dir())
    assert not (kept / "complete").exists()
    if "memory" in code:
        (kept / "model").mkdir(exist_ok=True)  # half a conversion
        converter.run_first("")
        run_compiled(copied)
        assert len(converter.conversions) == 2 and (kept / "complete").exists()


@needs_paddle_3
def test_two_at_once_compile_once(copied, converter):
    may_go_on = converter.folder / "may_go_on"
    converter.run_first(f"import time\nwhile not os.path.exists({str(may_go_on)!r}): time.sleep(0.01)")
    threads = [threading.Thread(target=run_compiled, args=(copied,)) for _ in range(2)]
    threads[0].start()
    wait_until(lambda: converter.conversions)
    threads[1].start()
    may_go_on.write_text("")
    for thread in threads:
        thread.join()
    assert len(converter.conversions) == 1


@needs_paddle_3
def test_an_export_that_cannot_be_written(copied, converter, log):
    (copied / "tensorrt").write_text("in the way")
    assert run_compiled(copied)[0].shape == (1, 6)
    assert f"TensorRT compiles at every start: {copied} cannot be written" in log.text
    assert not Path(converter.conversions[0]["save_model_dir"]).is_relative_to(copied)


def test_larger_batches_run_in_parts(folder):
    images = [np.full((40, 60, 3), 40 * value, np.uint8) for value in range(5)]
    detector = Detector(folder, "paddle")
    expected = [found.rows for found in detector.predict(images)]
    counts = []
    detector.backend.options = Options(device="gpu", tensorrt=True, max_batch=2)
    run_once = detector.backend.run_once
    detector.backend.run_once = lambda arrays: counts.append(len(arrays["image"])) or run_once(arrays)
    assert all(np.array_equal(found.rows, rows) for found, rows in zip(detector.predict(images), expected))
    assert counts == [2, 2, 1] and len({rows[0, 1] for rows in expected}) == 5
