"""An export of a model that detects nothing in the images of the check is compared all the same."""

import cv2
import numpy as np
import paddle
import pytest
from noise import TWO_LEVELS, noisy, write_padded

from ppdet.core.workspace import load_config
from ppdet.deploy.compare import SelfCheck, tolerance_of
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_trained_model
from ppdet.engine.export import check
from ppdet.engine.export import onnx as onnx_export
from ppdet.engine.export.check import (
    ExportError,
    check_arrays,
    check_images,
    drawn_image,
    expected_outputs,
    temporary_inside,
)
from ppdet.engine.export.graph import export_model
from ppdet.engine.export.static_graph import ExportedDetector
from ppdet.utils import device
from ppdet.utils.errors import DeployError

NOTHING = [*TWO_LEVELS, "FCOSHead.nms.score_threshold=0.99"]
# Locations before suppression are compared in their order, whatever the head would leave out or sort.
RULES = [*NOTHING, "FCOSHead.level_top_k=20", "FCOSHead.class_threshold=0.6", "FCOSHead.last_pixel=true"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """More images than the check tries, and a configuration without weights."""
    folder = tmp_path_factory.mktemp("check")
    write_padded(folder, images=7)
    return folder


@pytest.fixture
def small_images(monkeypatch):
    """The check's images, which are tried one after the other, have a fifth of their pixels."""
    monkeypatch.setattr(check, "LONG_SIDE", 192)


def test_all_locations_are_compared(folder, tmp_path, log, small_images):
    onnx, _ = (pytest.importorskip(name) for name in ("onnx", "openvino"))
    cfg = noisy(folder / "padded.yml", RULES)
    compiled = tmp_path / "padded" / "tensorrt"  # of an earlier export
    compiled.mkdir(parents=True)
    exported = export_model(cfg, str(tmp_path), formats=["onnx", "openvino"], precision="fp16")
    assert not compiled.exists()
    assert "detects too little in the check's images" in log.text and "--check_image" in log.text
    lines = [line for line in log.messages if "locations before NMS, none unmatched" in line]
    engines = ["paddle, fp32"] + [
        f"{name}, {kind}" for name in ("onnxruntime", "openvino") for kind in ("fp32", "fp16")
    ]
    assert [line.split(":")[0] for line in lines] == [f"checked in {name}" for name in engines]
    assert {path.name for path in exported.iterdir()} >= {"model.onnx", "model.xml", "model_fp16.onnx"}
    # What was exported has the rules and suppression that it was configured with.
    outputs = [value.name for value in onnx.load(str(exported / "model.onnx")).graph.output]
    assert outputs == ["bbox", "bbox_num"]


def test_another_network_is_refused_though_it_detects_as_little(folder, tmp_path, monkeypatch, small_images):
    onnx = pytest.importorskip("onnx")
    cfg = noisy(folder / "padded.yml", NOTHING)
    convert = onnx_export.convert

    def wrong(graph):
        model = convert(graph)
        tensors = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
        weights = next(tensor for tensor in tensors if len(tensor.dims) == 4)
        weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
        return model

    monkeypatch.setattr(onnx_export, "convert", wrong)
    message = "wrong in onnxruntime, fp32: its locations before NMS differ from the trained model's: .* locations"
    with pytest.raises(ExportError, match=message):
        export_model(cfg, str(tmp_path), formats=["onnx"])
    assert not list((tmp_path / "padded").iterdir())


def test_images_of_the_check(folder, tmp_path, log):
    """Up to five readable labeled images; or only the named file; or a synthetic image if there are none."""
    cfg = load_config(str(folder / "padded.yml"))
    names = [folder / "data" / "images" / f"{i:03d}.png" for i in range(1, 8)]
    pixels = [cv2.imread(str(name))[..., ::-1] for name in names]
    found = list(check_images(cfg, None))
    assert len(found) == 5 and all(np.array_equal(*pair) for pair in zip(found, pixels))
    (named,) = check_images(cfg, str(names[6]))
    assert np.array_equal(named, pixels[6])
    for damaged in (0, 1):
        content = names[damaged].read_bytes()
        names[damaged].write_bytes(content[:100])
        found, others = list(check_images(cfg, None)), [*pixels[:damaged], *pixels[damaged + 1 : 5]]
        names[damaged].write_bytes(content)
        assert len(found) == 4 and all(np.array_equal(*pair) for pair in zip(found, others))
    assert "drawn image" not in log.text
    none = load_config(str(folder / "padded.yml"), [f"EvalDataset.dataset_dir={tmp_path}"])
    (drawn,) = check_images(none, None)
    assert np.array_equal(drawn, drawn_image()) and "the export is checked on a drawn image" in log.text


@pytest.mark.parametrize(("height", "width", "sizes"), [(320, 448, (256, 384)), (30, 900, (128, 384))])
def test_images_that_are_not_padded_have_one_size(height, width, sizes):
    """The second one is the first one, mirrored and at another scale."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    arrays = check_arrays(Preprocess({"Preprocess": [{"type": "Permute"}]}), pixels)
    assert arrays["image"].shape == (2, 3, *sizes) and arrays["im_shape"].tolist() == [[*sizes], [*sizes]]
    assert np.array_equal(arrays["image"][0], arrays["image"][1][:, :, ::-1])
    assert arrays["scale_factor"].tolist() == [[1, 1], [0.5, 0.75]]
    padded = check_arrays(
        Preprocess({"Preprocess": [{"type": "Permute"}, {"type": "PadStride", "stride": 32}]}), pixels
    )
    assert len(np.unique(padded["im_shape"], axis=0)) == 2


def in_tf32(tensor):
    """Rounded to TF32's 10 bits of mantissa, the nearest and of two the even one, as GPUs read what they multiply."""
    bits = tensor.numpy().view(np.uint32).astype(np.uint64)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000
    return paddle.to_tensor(rounded.astype(np.uint32).view(np.float32))


@pytest.fixture
def tf32(monkeypatch):
    """Convolutions as on a GPU that multiplies in TF32, and sums in float32."""
    from paddle.nn.functional import conv

    from ppdet.modeling import cpu

    monkeypatch.setattr(cpu, "convolve", lambda *arguments, **named: None)  # oneDNN's, in place of Paddle's

    def switch(convolve):
        return lambda x, weight, *rest, **named: convolve(in_tf32(x), in_tf32(weight), *rest, **named)

    def on():
        monkeypatch.setattr(conv, "_conv_nd", switch(conv._conv_nd))
        monkeypatch.setattr(paddle.nn.functional, "conv2d", switch(paddle.nn.functional.conv2d))

    return on


def test_tf32_is_no_other_model(folder, tf32):
    """A GPU's float32 is refused by what holds on CPUs, and has a tolerance of its own, which refuses other models."""
    # With larger weights scores lie between 0 and 1, where rounding shows.
    options = ["FCOSHead.nms.score_threshold=0.4", "FCOSHead.nms.keep_top_k=-1", "FCOSHead.nms.nms_threshold=0.9"]
    model = build_trained_model(noisy(folder / "padded.yml", options))
    for layer, factor in ((model.fcos_head.fcos_head_cls, 8.0), (model.fcos_head.fcos_head_centerness, 4.0)):
        layer.weight.set_value(layer.weight * factor)
    detector = ExportedDetector(model, normalizer=None, output="detections")
    detector.eval()
    steps = [{"type": "NormalizeImage"}, {"type": "Permute"}, {"type": "PadStride", "stride": 32}]
    preprocess = Preprocess({"Preprocess": steps, "use_dynamic_shape": False, "image_shape": [3, 160, 160]})
    names = ["image", "scale_factor", "im_shape"]
    arrays = check_arrays(preprocess, cv2.imread(str(folder / "data" / "images" / "001.png"))[..., ::-1])

    def found(arrays):
        return expected_outputs(detector, arrays, names)

    self_check = SelfCheck.of(arrays, *found(arrays), floor=0.4, top=-1)
    rows, counts = found(arrays)
    mean = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
    others = {
        "a wrong mean": found({**arrays, "image": arrays["image"] + mean}),
        "channels in another order": found({**arrays, "image": arrays["image"][:, ::-1].copy()}),
        "padding that is taken for image": found({**arrays, "im_shape": np.full((2, 2), 160, np.float32)}),
        "classes in another order": (np.concatenate([1 - rows[:, :1], rows[:, 1:]], axis=1), counts),
        "a class less": (rows[rows[:, 0] == 0], [int((part[:, 0] == 0).sum()) for part in self_check.rows]),
        "boxes a stride aside": (rows + np.array([0, 0, 8, 8, 8, 8], np.float32), counts),
    }
    tf32()
    rounded = found(arrays)
    with pytest.raises(DeployError, match="its detections differ from the trained model's"):
        self_check.verify(lambda _: rounded, "fp32")
    result = self_check.verify(lambda _: rounded, "fp32", "gpu")
    assert self_check.comparable("fp32", "gpu") == result.compared > 100 and 1e-3 < result.score < 1e-2
    assert tolerance_of("fp32", "npu") == tolerance_of("fp32", "gpu") != tolerance_of("fp32")
    assert tolerance_of("bf16", "gpu") == tolerance_of("bf16")
    for name, outputs in others.items():
        with pytest.raises(DeployError, match="its detections differ from the trained model's"):
            pytest.fail(f"{name}: {self_check.verify(lambda _, outputs=outputs: outputs, 'fp32', 'gpu')}")


def test_an_export_is_made_on_the_cpu(monkeypatch):
    """Whatever device the process has, and gets back, also when it fails."""
    chosen = []
    monkeypatch.setattr(device, "name", lambda: "gpu:1")
    monkeypatch.setattr(paddle, "set_device", chosen.append)
    with pytest.raises(AttributeError):
        export_model(None, "nowhere")
    assert chosen == ["cpu", "gpu:1"]


@pytest.mark.parametrize("kind", [DeployError, ExportError])
def test_errors_name_the_folder_that_the_user_knows(tmp_path, kind):
    with pytest.raises(kind) as error, temporary_inside(tmp_path) as target:
        raise kind(f"{target}/model.json: Paddle cannot load it in bf16")
    assert str(error.value) == f"{tmp_path}/model.json: Paddle cannot load it in bf16"
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError) as error, temporary_inside(tmp_path / "gone"):
        pass
    assert error.value.filename == str(tmp_path / "gone")
