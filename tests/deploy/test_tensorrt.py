"""TensorRT under Paddle: what it is told of sizes, where what it compiled is kept, and Paddle 3's conversion.

No GPU and no TensorRT is needed: Paddle's part is real, and TensorRT's is the graph as it was.
"""

import sys
import threading
import types
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import inference
from patience import PATIENCE, wait_until
from toy import write_toy

from ppdet.deploy import Detector
from ppdet.deploy.backends import tensorrt
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.operators import NOT_FOR_TENSORRT
from ppdet.deploy.backends.paddle_inference import PaddleInference
from ppdet.deploy.check import FILE, SelfCheck
from ppdet.deploy.errors import DeployError
from ppdet.deploy.preprocess import Preprocess
from ppdet.utils import device

PADDLE_2 = not hasattr(inference.Config, "new_ir_enabled")
IMAGE_SHAPES = [(1, 3, 64, 64), (1, 3, 64, 128), (1, 3, 64, 128), (4, 3, 128, 128)]


# The toy looks at the pixel (32, 32).
PREPROCESS = [
    {"type": "Resize", "target_size": [64, 128], "keep_ratio": True, "interp": 1},
    {"type": "NormalizeImage", "mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True, "norm_type": "mean_std"},
    {"type": "Permute"},
    {"type": "PadStride", "stride": 64},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), PREPROCESS)


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
    arrays = tensorrt.warm_up(folder, 4)
    assert [sample["image"].shape for sample in arrays] == IMAGE_SHAPES
    assert arrays[3]["im_shape"].tolist() == [[128, 128]] * 4 and arrays[3]["scale_factor"].tolist() == [[1, 1]] * 4
    # "auto" runs the self-check, whose images are not resized.
    (tmp_path / "infer_cfg.yml").write_text((folder / "infer_cfg.yml").read_text())
    image = np.zeros((2, 3, 224, 96), np.float32)
    SelfCheck({"image": image}, [np.zeros((1, 6), np.float32)] * 2, 0.0, 0).write(tmp_path)
    assert (tmp_path / FILE).is_file()
    assert [sample["image"].shape[2:] for sample in tensorrt.warm_up(tmp_path, 1)] == [
        *((64, 64), (64, 128), (64, 128), (224, 128))
    ]


@pytest.fixture
def versions(monkeypatch):
    """A GPU and a TensorRT for the names of folders; neither is there."""
    monkeypatch.setattr(device, "title", lambda index: f"NVIDIA {'AB'[index]} 8.0")
    monkeypatch.setattr(inference, "get_trt_runtime_version", lambda: (8, 5, 3))


def test_other_things_have_other_folders(folder, tmp_path, versions):
    graph = PaddleInference.find(folder, "fp32")
    arrays = tensorrt.warm_up(folder, 4)
    names = [
        tensorrt.key(graph, Options(device="gpu"), arrays),
        tensorrt.key(graph, Options(device="gpu:1"), arrays),
        tensorrt.key(graph, Options(device="gpu", precision="fp16"), arrays),
        tensorrt.key(graph, Options(device="gpu"), tensorrt.warm_up(folder, 2)),
    ]
    for path in (graph, graph.with_name("model.pdiparams")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    same = tensorrt.key(tmp_path / graph.name, Options(device="gpu"), arrays)
    (tmp_path / "model.pdiparams").write_bytes(b"others")
    names.append(tensorrt.key(tmp_path / graph.name, Options(device="gpu"), arrays))
    assert same == names[0] and len(set(names)) == 5
    assert names[0].startswith(f"NVIDIA_A_8.0-{paddle.__version__}-8.5.3-fp32-1x3x64x64-1x3x64x128-4x3x128x128-")


class PaddleTensorRT(types.ModuleType):
    """Stands for `paddle.tensorrt` of Paddle 3's builds with TensorRT: the signatures of its source, and a conversion
    that writes the files which it writes there, with the graph as it was."""

    def __init__(self):
        super().__init__("paddle.tensorrt")
        self.conversions = []
        self.pause = lambda: None
        export = types.ModuleType("paddle.tensorrt.export")

        class Input:
            def __init__(
                self,
                warmup_data=None,
                min_input_shape=None,
                max_input_shape=None,
                optim_input_shape=None,
                input_data_type="float32",
                input_range=None,
                name=None,
            ):
                assert warmup_data is not None and input_data_type is None
                self.warmup_data = warmup_data

        class TensorRTConfig:
            def __init__(
                self,
                inputs,
                min_subgraph_size=3,
                save_model_dir=None,
                disable_ops=None,
                precision_mode=None,
                ops_run_float=None,
                optimization_level=3,
                disable_passes=(),
                workspace_size=1 << 30,
                refit_params_path=None,
            ):
                vars(self).update({name: value for name, value in locals().items() if name != "self"})

        export.Input, export.TensorRTConfig = Input, TensorRTConfig
        export.PrecisionMode = types.SimpleNamespace(FP32="FP32", FP16="FP16", BF16="BF16", INT8="INT8")
        self.export = export

    def convert(self, model_path, config):
        self.conversions.append(config)
        self.pause()
        for suffix in (".json", ".pdmodel", ".pdiparams"):
            source = Path(model_path + suffix)
            if source.exists():
                Path(config.save_model_dir + suffix).write_bytes(source.read_bytes())
        Path(config.save_model_dir).mkdir()
        (Path(config.save_model_dir) / "engine_1_1.trt").write_bytes(b"engine")


@pytest.fixture
def converter(monkeypatch, versions):
    module = PaddleTensorRT()
    monkeypatch.setitem(sys.modules, "paddle.tensorrt", module)
    monkeypatch.setitem(sys.modules, "paddle.tensorrt.export", module.export)
    monkeypatch.setattr(paddle, "tensorrt", module, raising=False)
    monkeypatch.setattr(tensorrt, "converts", lambda: True)
    return module


@pytest.fixture
def copied(folder, tmp_path):
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


needs_paddle_3 = pytest.mark.skipif(PADDLE_2, reason="Paddle 2 has another way")
FP16 = Options(device="gpu", precision="fp16", tensorrt=True, max_batch=4)


def run_compiled(folder, options=FP16):
    """What the compiled graph of the folder gives, on the CPU, for the usual size; and where it was kept."""
    graph = PaddleInference.find(folder, "fp32")
    with tensorrt.compiled(graph, options, tensorrt.cpu_config) as config:
        predictor = inference.create_predictor(config)
    arrays = tensorrt.warm_up(folder, 4)[1]
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(arrays[name])
    predictor.run()
    return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]


@needs_paddle_3
def test_tensorrt_of_paddle_3(copied, converter):
    found = run_compiled(copied)
    (settings,) = converter.conversions
    # In the order of the graph's inputs: smallest, usual twice, largest.
    names = tensorrt.input_names(PaddleInference.find(copied, "fp32"))
    assert sorted(names) == ["image", "scale_factor"]
    shapes = {name: [array.shape for array in one.warmup_data] for name, one in zip(names, settings.inputs)}
    assert shapes["image"] == IMAGE_SHAPES and shapes["scale_factor"] == [(n, 2) for n in (1, 1, 1, 4)]
    assert settings.precision_mode == "FP16" and settings.min_subgraph_size == 24 and settings.workspace_size == 1 << 30
    assert set(settings.disable_ops) == {f"pd_op.{name}" for name in NOT_FOR_TENSORRT}
    (kept,) = (path for path in (copied / "tensorrt").iterdir() if path.is_dir())
    assert settings.save_model_dir == str(kept / "model") and (kept / "complete").exists()
    assert paddle.get_flags("FLAGS_trt_engine_serialized_path") == {
        "FLAGS_trt_engine_serialized_path": str(kept / "model")
    }
    (expected,) = (PaddleInference(copied, Options())(tensorrt.warm_up(copied, 4)[1]) for _ in range(1))
    assert all(np.allclose(*pair, atol=1e-5) for pair in zip(found, expected))
    # Found again; another precision is compiled beside it.
    run_compiled(copied)
    assert len(converter.conversions) == 1
    run_compiled(copied, Options(device="gpu", tensorrt=True, max_batch=4))
    assert [one.precision_mode for one in converter.conversions] == ["FP16", "FP32"]


@needs_paddle_3
def test_a_conversion_that_fails_leaves_nothing_that_is_used(copied, converter):
    def fail():
        raise RuntimeError("out of memory")

    converter.pause = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        run_compiled(copied)
    (kept,) = (path for path in (copied / "tensorrt").iterdir() if path.is_dir())
    (kept / "model").mkdir()  # half a conversion
    converter.pause = lambda: None
    run_compiled(copied)
    assert len(converter.conversions) == 2 and (kept / "complete").exists()


@needs_paddle_3
def test_two_at_once_compile_once(copied, converter, log):
    entered, may_go_on = threading.Event(), threading.Event()

    def wait():
        entered.set()
        assert may_go_on.wait(PATIENCE)

    converter.pause = wait
    threads = [threading.Thread(target=run_compiled, args=(copied,)) for _ in range(2)]
    threads[0].start()
    assert entered.wait(PATIENCE)
    threads[1].start()
    wait_until(lambda: "waiting for another process that compiles" in log.text or len(converter.conversions) > 1)
    may_go_on.set()
    for thread in threads:
        thread.join()
    assert len(converter.conversions) == 1


@needs_paddle_3
def test_an_export_that_cannot_be_written(copied, converter, log):
    (copied / "tensorrt").write_text("in the way")
    assert run_compiled(copied)[0].shape == (1, 6)
    assert f"TensorRT compiles at every start: {copied} cannot be written" in log.text
    assert not Path(converter.conversions[0].save_model_dir).is_relative_to(copied)


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
