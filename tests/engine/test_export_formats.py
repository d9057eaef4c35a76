"""ONNX and OpenVINO detect what Paddle detects, and an export that does not is refused."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
import yaml
from noise import TWO_LEVELS, noisy, write_padded
from toy import write_toy

from ppdet.core.workspace import merge_config
from ppdet.deploy import Detector
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.compare import EXACT, SelfCheck, compare, with_area
from ppdet.engine.export import check, tensorrt_onnx
from ppdet.engine.export import onnx as onnx_export
from ppdet.engine.export.check import ExportError
from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.errors import ConfigError, DeployError

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "ours": [],
    "no batch norms, bgr": [
        *("export.fuse_conv_bn=true", "TestReader.fuse_normalize=true", "FPN.norm_type=gn"),
        "TestReader.sample_transforms.2.NormalizeImage.channel_order=bgr",
    ],
    "torchvision": ["FCOSHead.even_locations=true", "FCOSHead.clip_boxes=true", "FCOSHead.level_top_k=20"],
    "FCOS_PLUS": [
        "FCOSHead.class_threshold=0.4",
        "FCOSHead.level_top_k=20",
        "FCOSHead.level_top_k_of=classes",
        "FCOSHead.clip_boxes=true",
        "FCOSHead.last_pixel=true",
        "FCOSHead.sqrt_score=true",
        "FCOSHead.nms.score_threshold=0",
    ],
    "deformable": ["ResNet.dcn_v2_stages=[1]"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images and a configuration, without weights."""
    folder = tmp_path_factory.mktemp("formats")
    write_padded(folder, images=3)
    return folder


@pytest.fixture(scope="module")
def plain(folder):
    """An export of the unchanged configuration to all formats and precisions; float16 is what its settings name."""
    cfg = configuration(folder, [])
    return export_model(cfg, str(folder / "plain"), formats=["onnx", "openvino"], precision="fp16")


def configuration(folder, options):
    return noisy(folder / "padded.yml", [*TWO_LEVELS, *options])


def images(folder):
    return sorted(str(path) for path in (folder / "data" / "images").iterdir())


@pytest.mark.parametrize("name", CASES)
def test_every_engine_detects_what_the_model_detects(folder, plain, tmp_path, name):
    cfg = configuration(folder, CASES[name])
    expected = dict(Predictor(cfg).detect(images(folder)))
    formats = ["onnx"] if name == "deformable" else ["onnx", "openvino"]
    exported = export_model(cfg, str(tmp_path), formats=formats) if CASES[name] else plain
    assert {"model.onnx", "selfcheck.npz"} <= {path.name for path in exported.iterdir()}
    network = onnx.load(exported / "model.onnx")
    operators = {entry.domain: entry.version for entry in network.opset_import}
    # ONNX's table of versions: https://github.com/onnx/onnx/blob/main/docs/Versioning.md
    assert (operators, network.ir_version) == (({"": 19}, 9) if name == "deformable" else ({"": 17}, 8))
    for backend in ("onnxruntime", "openvino")[: len(formats)]:
        for batch_size in (1, 2):
            actual = dict(Detector(exported, backend, precision="fp32").detect(images(folder), batch_size))
            for index, rows in expected.items():
                rows = with_area(rows)
                assert len(rows) > 3
                assert compare([rows], [actual[index]], EXACT)[:4] == (len(rows), 0, *[pytest.approx(0, abs=1e-2)] * 2)


def test_deformable_convolutions_are_not_in_openvino(folder, tmp_path):
    cfg = configuration(folder, CASES["deformable"])
    cfg = merge_config(cfg, {"weights": "nowhere"})  # weights are not even looked for
    with pytest.raises(
        ConfigError, match=r"^--format openvino: OpenVINO has no deformable .*: use --format onnx[^\n]*$"
    ):
        export_model(cfg, str(tmp_path), formats=["openvino"])
    assert not list(tmp_path.iterdir())


def test_onnx_names_and_free_sizes(plain):
    session = onnxruntime.InferenceSession(str(plain / "model.onnx"))
    inputs = {value.name: value.shape for value in session.get_inputs()}
    assert inputs == {"image": ["batch", 3, "height", "width"], "scale_factor": ["batch", 2], "im_shape": ["batch", 2]}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    assert outputs.keys() == {"bbox", "bbox_num"} and outputs["bbox"][1] == 6 and outputs["bbox_num"] == ["batch"]


def test_onnx_files_are_valid_and_simplified(plain):
    for name in ("model.onnx", "model_fp16.onnx"):
        model = onnx.load(plain / name)
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        kinds = [node.op_type for node in model.graph.node]
        assert not {"Constant", "Identity", "BatchNormalization"} & {*kinds} and "Conv" in kinds, name
        used = {value for node in model.graph.node for value in node.input}
        assert {tensor.name for tensor in model.graph.initializer} <= used, name
    whole, half = (onnx.load(plain / name) for name in ("model.onnx", "model_fp16.onnx"))
    assert len(half.graph.node) < 1.1 * len(whole.graph.node)  # few casts, at the borders of the network
    assert list(half.graph.input) == list(whole.graph.input) and list(half.graph.output) == list(whole.graph.output)


def test_files_say_what_they_are_without_infer_cfg(plain):
    import openvino

    expected = {
        "version": "0.1.0",
        "paddle_version": paddle.__version__,
        "output": "detections",
        "names": ["red", "blue"],
        "category_ids": [3, 7],
        "fuse_normalize": False,
        "channel_order": "rgb",
        "stride": 32,
        "image_shape": None,
        "score_threshold": 0.025,
        "nms_threshold": 0.6,
        "nms_top_k": 1000,
        "keep_top_k": 100,
        "draw_threshold": 0.5,
    }
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    preprocess = [
        {"type": "Resize", "target_size": [58, 150], "keep_ratio": True, "interp": 1},
        {"type": "NormalizeImage", "mean": mean, "std": std, "is_scale": True, "norm_type": "mean_std"},
        {"type": "Permute"},
        {"type": "PadStride", "stride": 32},
    ]
    for half in ("", "_fp16"):
        path = plain / f"model{half}.onnx"
        props = {one.key: one.value for one in onnx.load(str(path)).metadata_props}
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert session.get_modelmeta().custom_metadata_map == props
        assert session.get_modelmeta().producer_name == "ppdet"
        assert onnx.load(str(path)).producer_version == props["ppdet.version"]
        assert (plain / f"model{half}.xml").read_text(encoding="utf-8").count("category_ids") == 1
        info = openvino.Core().read_model(str(plain / f"model{half}.xml"))
        assert all(info.get_rt_info(key.split(".")).value == value for key, value in props.items())
        read = {key.removeprefix("ppdet."): yaml.safe_load(value) for key, value in props.items()}
        assert read.pop("preprocess") == preprocess
        assert read == expected


def test_the_folder_holds_one_model_and_keeps_it_when_an_export_fails(folder, plain, tmp_path, monkeypatch):
    cfg = configuration(folder, [])
    exported = Path(shutil.copytree(plain, tmp_path / plain.name))
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    nms_graph = onnx_export.nms_graph

    def another(nms, opset):
        return nms_graph(MultiClassNMS(nms_threshold=0.1), opset)

    monkeypatch.setattr(onnx_export, "nms_graph", another)
    with pytest.raises(ExportError, match="wrong in onnxruntime, fp32: its detections differ from the trained model's"):
        export_model(cfg, str(tmp_path), formats=["onnx"])
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    # Files of the other formats would be another model's.
    export_model(cfg, str(tmp_path))
    left = sorted(path.name for path in exported.iterdir() if "model" not in path.name or "onnx" in path.name)
    assert left == ["infer_cfg.yml", "selfcheck.npz"] and not list(exported.glob("model.xml"))


def test_float16_has_files_of_its_own(folder, plain):
    for whole, half in (("model.onnx", "model_fp16.onnx"), ("model.bin", "model_fp16.bin")):
        assert (plain / half).stat().st_size < 0.7 * (plain / whole).stat().st_size
    assert yaml.safe_load((plain / "infer_cfg.yml").read_text())["precision"] == "fp16"
    path = images(folder)[0]
    assert Detector(plain, "onnxruntime").backend.session._model_path.endswith("model_fp16.onnx")
    half, whole = (Detector(plain, "onnxruntime", precision=p).predict(path).above(0.3) for p in ("fp16", "fp32"))
    assert 0 < abs(half.scores.max() - whole.scores.max()) < 0.02
    with pytest.raises(DeployError, match="paddle: no fp16 on cpu"):
        Detector(plain, "paddle")


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ([], {"formats": ["tensorrt"]}, "formats: expected onnx, openvino or triton, got 'tensorrt'"),
        ([], {"precision": "int4"}, "precision: expected fp32, bf16, fp16, int8, got 'int4'"),
        ([], {"precision": "fp16"}, "needs --format onnx or openvino"),
        ([], {"formats": ["onnx"], "precision": "bf16"}, "ONNX Runtime does not have it"),
        (["export.nms=false"], {"precision": "bf16"}, r"set export\.post_process and export\.nms true"),
        (["TestReader.inputs_def.image_shape=[3, 64, null]"], {}, "set both height and width"),
    ],
)
def test_what_does_not_go_together(folder, tmp_path, options, arguments, message):
    with pytest.raises(ConfigError, match=message):
        export_model(configuration(folder, options), str(tmp_path), **arguments)
    assert not list(tmp_path.iterdir())


class Odd(ONNXRuntime):
    """An engine with other outputs, or an exception in place of them."""

    outputs = None

    def __init__(self, folder, options):
        if isinstance(self.outputs, Exception):
            raise self.outputs

    def __call__(self, arrays):
        return self.outputs


@pytest.mark.parametrize("outputs", [[np.full((2, 3), np.nan)] * 2, [np.zeros((2, 3))], [np.zeros((3, 2))] * 2])
def test_outputs_that_are_not_the_models(outputs, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").touch()
    monkeypatch.setitem(check.BACKENDS, "onnxruntime", Odd)
    monkeypatch.setattr(Odd, "outputs", outputs)
    with pytest.raises(ExportError, match="the exported graph is wrong"):
        check.BeforeNms({}, [np.zeros((2, 3))] * 2).verify(tmp_path, "onnxruntime", "maps")


def test_maps_may_differ_by_their_largest_value(tmp_path, monkeypatch, log):
    """Rounding adds up over a network: where a map has values of 100, one of 1 may be 0.05 off, and not 0.15."""
    (tmp_path / "model.onnx").touch()
    monkeypatch.setitem(check.BACKENDS, "onnxruntime", Odd)
    expected = check.BeforeNms({}, [np.array([[100.0, 1.0]]), np.array([[0.5, 0.0]])])
    monkeypatch.setattr(Odd, "outputs", [np.array([[100.0, 1.05]]), np.array([[0.5, 0.0]])])
    expected.verify(tmp_path, "onnxruntime", "maps")
    assert "checked in onnxruntime: 2 maps, which differ by at most 5.0e-04" in log.text
    for wrong in ([[100.0, 1.15]], [[0.5, 0.0]]), ([[100.0, 1.0]], [[0.5, 0.01]]):
        monkeypatch.setattr(Odd, "outputs", [np.array(part) for part in wrong])
        with pytest.raises(ExportError, match=r"its maps differ from the model's by 1\.\de-0[23] "):
            expected.verify(tmp_path, "onnxruntime", "maps")


def test_an_engine_that_fails_is_one_line_about_the_file(tmp_path, monkeypatch):
    """Whatever the graph ends with, and whatever class the engine's exception has."""
    (tmp_path / "model.onnx").touch()
    monkeypatch.setitem(check.BACKENDS, "onnxruntime", Odd)
    monkeypatch.setattr(Odd, "outputs", MemoryError("a stack\n  of C++\nbad allocation"))
    expected = (
        "model.onnx: the exported graph cannot run in onnxruntime, fp32: install another version of onnxruntime, or "
        "leave out --format onnx (bad allocation)"
    )
    rows = SelfCheck({}, [np.zeros((0, 6))], 0.0, 0)
    for compare_all in (
        lambda: check.BeforeNms({}, []).verify(tmp_path, "onnxruntime", "maps"),
        lambda: check.verify(tmp_path, "onnxruntime", "fp32", rows),
    ):
        with pytest.raises(ExportError) as raised:
            compare_all()
        assert str(raised.value) == expected
    arrays = {"image": np.zeros((1, 3, 32, 32)), "im_shape": np.full((1, 2), 32.0)}
    for name in ("model_tensorrt.onnx", "model_tensorrt_int8.onnx"):
        (tmp_path / name).touch()
        with pytest.raises(ExportError, match=rf"^{name}: cannot run in onnxruntime: [^\n]*protobuf[^\n]*$"):
            tensorrt_onnx.rows_from(tmp_path / name, 1)(arrays)


def test_conversion_reports_nothing_and_leaves_nothing_running(folder, plain, tmp_path):
    """OpenVINO's own conversion forks a process that sends statistics, and may hold a pipe open for ever."""
    exported = Path(shutil.copytree(plain, tmp_path / "exported"))
    (exported / "model.xml").unlink()
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
from ppdet.deploy import Detector
from ppdet.engine.export.onnx import write_openvino
write_openvino(Path("model.onnx"), Path("model.xml"), {{}}, half=False)
assert len(Detector(".", "openvino", precision="fp32").predict({images(folder)[0]!r}))
"""
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", code]
    subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment, cwd=exported)
    assert (exported / "model.xml").is_file()
    assert not list((tmp_path / "home").rglob("*openvino*")), "it noted who is counted"


def test_missing_package(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="are not installed: pip install onnx onnxruntime onnxslim paddle2onnx"):
        export_model(configuration(folder, []), str(tmp_path), formats=["onnx"])


def test_a_network_that_cannot_be_converted_is_one_line(tmp_path, monkeypatch):
    """It has what paddle2onnx says, whose process does not import what lies in the working directory."""
    (tmp_path / "packaging.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    graph = onnx_export.graph_in(write_toy(tmp_path))
    with pytest.raises(ConfigError, match=r"^paddle2onnx cannot convert this network: \[ERROR\][^\n]*unsupported oper"):
        onnx_export.convert(graph)


def test_fixed_size(folder, tmp_path):
    """The graph takes one size; smaller images are padded to it, larger ones refused."""
    from ppdet.utils.errors import ImageError

    padded = "TestReader.batch_transforms.0.PadBatch.pad_to_size=[96, 128]"
    expected = dict(Predictor(configuration(folder, [padded])).detect(images(folder)[:1]))[0]
    cfg = configuration(folder, ["TestReader.inputs_def.image_shape=[3, 96, 128]"])
    exported = export_model(cfg, str(tmp_path), formats=["onnx", "openvino"])
    for backend in ("paddle", "onnxruntime", "openvino"):
        detector = Detector(exported, backend)
        actual = detector.predict(images(folder)[0]).rows
        assert compare([expected], [actual], EXACT)[:2] == (len(expected), 0) and len(expected) > 3
        with pytest.raises(ImageError, match="116x58 after resizing, but the graph takes 96x128 at most"):
            detector.predict(np.zeros((200, 100, 3), np.uint8))


@pytest.mark.parametrize("settings", [
    {},
    {"nms_top_k": 5, "keep_top_k": 7},
    {"nms_top_k": 5, "keep_top_k": -1, "nms_threshold": 1.0},
    {"nms_top_k": -1, "keep_top_k": -1, "score_threshold": 0.0},
    {"keep_top_k": 3, "score_threshold": 0.9, "nms_threshold": 0.3},
    {"score_threshold": 1.0},
])  # fmt: skip
@pytest.mark.parametrize("batch", [1, 3])
def test_suppression_is_paddles(settings, batch, tmp_path):
    import onnx
    import openvino

    rng = np.random.default_rng(batch)
    corner = rng.uniform(0, 60, (batch, 40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (batch, 40, 2))], axis=2).astype(np.float32)
    scores = rng.uniform(0, 1, (batch, 4, 40)).astype(np.float32)
    scores[:, 1] = 0  # a class of which there is nothing
    nms = MultiClassNMS(**settings)
    rows, counts = (value.numpy() for value in nms(paddle.to_tensor(boxes), paddle.to_tensor(scores)))
    model = onnx_export.nms_graph(nms, 17)
    onnx.checker.check_model(model, full_check=True)
    arrays = {"boxes": boxes, "scores": scores, "overlap_boxes": boxes}
    session = onnxruntime.InferenceSession(model.SerializeToString())
    onnx.save(model, str(tmp_path / "tail.onnx"))
    compiled = openvino.Core().compile_model(str(tmp_path / "tail.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(arrays)
    for bbox, bbox_num in (session.run(["bbox", "bbox_num"], arrays), (found["bbox"], found["bbox_num"])):
        assert bbox_num.tolist() == counts.tolist()
        assert bbox.reshape(-1, 6).shape == rows.reshape(-1, 6).shape
        np.testing.assert_allclose(bbox.reshape(-1, 6), rows.reshape(-1, 6), rtol=1e-6)
