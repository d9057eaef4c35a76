"""Exports in int8: what is quantized and what is not, how much AP it costs, and what happens if that is too much."""

import importlib.util
import json
import re
import shutil

import numpy as np
import onnx
import pytest
import yaml
from noise import TWO_LEVELS, noisy, write_padded
from onnx import helper, numpy_helper

from ppdet.core.workspace import merge_config
from ppdet.data.classes import Classes
from ppdet.deploy import Detector
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.preprocess import Preprocess, read_infer_cfg
from ppdet.engine.export.accuracy import Calibration, ValidationSet
from ppdet.engine.export.check import ExportError
from ppdet.engine.export.graph import calibration_of, export_model
from ppdet.engine.export.int8 import calibration_paths, write_int8
from ppdet.engine.export.int8_onnx import inner_convolutions, keep_worst, nodes_by_error, write_onnx
from ppdet.engine.export.int8_openvino import last_nodes, write_openvino
from ppdet.engine.export.prepared_images import FixedBatches, PreparedImages
from ppdet.engine.predictor import Predictor
from ppdet.utils.errors import ConfigError, DataError, DeployError, ImageError

pytest.importorskip("nncf", reason="nncf is not installed")
openvino = pytest.importorskip("openvino", reason="openvino is not installed")
FORMATS = ["onnx", "openvino"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A configuration whose boxes are the detector's own detections, so that its AP is high in float32."""
    place = tmp_path_factory.mktemp("learned")
    cfg = noisy(write_padded(place, images=3), TWO_LEVELS)
    path = place / "data" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"] = []
    for index, rows in Predictor(cfg).detect([str(place / "data" / "images" / f"00{n}.png") for n in (1, 2, 3)]):
        best = rows[np.argsort(-rows[:, 1])][:100].tolist()
        content["annotations"] += [
            annotation(index + 1, row, len(content["annotations"]) + n) for n, row in enumerate(best, 1)
        ]
    path.write_text(json.dumps(content))
    return cfg


def annotation(image, row, number):
    """A detection [class, score, x1, y1, x2, y2] as one of the boxes of COCO's file; the categories are 3 and 7."""
    label, _, x1, y1, x2, y2 = row
    box = [x1, y1, x2 - x1, y2 - y1]
    area = box[2] * box[3]
    return {"id": number, "image_id": image, "category_id": (3, 7)[int(label)], "bbox": box, "area": area, "iscrowd": 0}


@pytest.fixture(scope="module")
def exported(learned, tmp_path_factory):
    """Whatever int8 costs is accepted."""
    place = tmp_path_factory.mktemp("exported")
    return export_model(learned, str(place), formats=FORMATS, precision="int8", calibration=2, max_drop=100)


@pytest.fixture(scope="module")
def preprocess(exported):
    return Preprocess(read_infer_cfg(exported))


def numbers(log):
    """The AP in float32 and in int8, of each line of the log that has them."""
    found = (re.search(r"AP ([0-9.]+) in float32, ([0-9.]+) in int8", record.getMessage()) for record in log.records)
    return [tuple(map(float, match.groups())) for match in found if match]


def shown_images(cfg, preprocess, count):
    return PreparedImages(calibration_paths(cfg, count), preprocess, "--calibration")


def graph(path):
    return onnx.load(path).graph


def test_an_onnx_graph_in_int8_quantizes_all_convolutions_but_the_last_ones(exported):
    whole, small = graph(exported / "model.onnx"), graph(exported / "model_int8.onnx")
    weights = {node.name: node.input[1] for node in whole.node if node.op_type == "Conv"}
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.initializer}
    integers = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.initializer}
    scales = {node.output[0]: [integers[name] for name in node.input] for node in small.node if len(node.input) == 3
              and node.op_type == "DequantizeLinear" and node.input[0] in integers}  # fmt: skip
    left = []
    for node in small.node:
        if node.op_type != "Conv":
            continue
        if node.input[1] not in scales:
            left.append(node)
            continue
        values, scale, zero = scales[node.input[1]]
        expected = floats[weights[node.name]]
        assert values.dtype == np.int8 and not zero.any() and scale.shape == (len(values),)  # one for each channel
        assert abs(values).max() <= 64  # 7 bits
        step = scale[:, None, None, None]
        assert (abs(values * step - expected) <= step * 0.501).all()  # rounding to the nearest
    assert {len(floats[weights[node.name]]) for node in left} == {2, 4, 1}  # classes, distances, centerness
    assert len(left) == 6  # of two levels
    assert (exported / "model_int8.onnx").stat().st_size < 0.4 * (exported / "model.onnx").stat().st_size


def test_openvinos_graph_in_int8(exported):
    assert (exported / "model_int8.bin").stat().st_size < 0.4 * (exported / "model.bin").stat().st_size
    model = openvino.Core().read_model(str(exported / "model_int8.xml"))
    kinds = [operation.get_type_name() for operation in model.get_ops()]
    convolutions = sum(kind in ("Convolution", "GroupConvolution") for kind in kinds)
    assert 0 < kinds.count("FakeQuantize") <= 2 * convolutions
    half_way = {value.get_node().get_type_name() for op in model.get_ops() if op.get_type_name() == "Sigmoid"
                for value in op.input_values()}  # fmt: skip
    assert "FakeQuantize" not in half_way  # scores are decoded in float32


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_detector_takes_the_precision_of_its_folder(exported, learned, engine):
    assert yaml.safe_load((exported / "infer_cfg.yml").read_text())["precision"] == "int8"
    path = str(next(exported.parent.parent.rglob("001.png")))
    whole, small = (Detector(exported, engine, precision=p).predict(path) for p in ("fp32", None))
    difference = abs(np.sort(whole.scores)[-20:] - np.sort(small.scores)[-20:])
    assert 0 < difference.max() < 0.1
    with pytest.raises(DeployError, match="paddle: no int8 on cpu: it has fp32, bf16"):
        Detector(exported, "paddle")


@pytest.mark.parametrize(
    ("write", "words"),
    [(write_onnx, " of 18 nodes stay in float32"), (write_openvino, "; layers that cost most stay in float32")],
)
def test_layers_that_cost_too_much_stay_in_float32(preprocess, exported, learned, tmp_path, log, write, words):
    folder = shutil.copytree(exported, tmp_path / "copy")
    batches = shown_images(learned, preprocess, 3)
    write(folder, Calibration(batches, ValidationSet(learned, preprocess, None), 100))
    ((before, lowest),) = numbers(log)
    assert before == 100 and lowest < 95
    log.clear()
    write(folder, Calibration(batches, ValidationSet(learned, preprocess, None), 99.5 - lowest))
    found = numbers(log)
    assert words in log.text and found[0] == (100, lowest) and found[-1][1] >= lowest + 0.5


def test_without_boxes_to_measure_ap_the_files_are_written_and_it_is_said(preprocess, exported, learned, tmp_path, log):
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / "model_int8.onnx").unlink()
    cfg = merge_config(learned, {"EvalDataset": {"anno_path": "absent.json"}})
    paths = calibration_paths(learned, 1)
    write_int8(folder, ["onnx"], calibration_of(cfg, preprocess, None, paths, 0.0))
    assert "the AP of int8 is not measured, because EvalDataset cannot be read: " in log.text
    assert (folder / "model_int8.onnx").is_file()


def test_images_for_calibration_are_spread_over_the_data_and_those_that_cannot_be_read_are_counted(
    preprocess, exported, learned, tmp_path, log
):
    data = shutil.copytree(learned.component("TrainDataset")["dataset_dir"], tmp_path / "data")
    cfg = merge_config(learned, {"TrainDataset": {"dataset_dir": str(data)}})
    first, _, last = shown_images(cfg, preprocess, 300)
    ends = shown_images(cfg, preprocess, 2)
    assert [(batch["image"] == end["image"]).all() for batch, end in zip((first, last), ends, strict=True)] == [
        True
    ] * 2
    (data / "images" / "001.png").write_bytes(b"no image")
    assert len(shown_images(cfg, preprocess, 3)) == 2
    assert "--calibration: 1 images cannot be read, e.g. " in log.text
    for number in (2, 3):
        (data / "images" / f"00{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"--calibration: none of 3 images can be read, e\.g\. .*001.png"):
        shown_images(cfg, preprocess, 3)


def test_an_image_for_calibration_is_in_memory_only_while_it_is_used(preprocess, exported, learned, tmp_path):
    data = shutil.copytree(learned.component("TrainDataset")["dataset_dir"], tmp_path / "data")
    cfg = merge_config(learned, {"TrainDataset": {"dataset_dir": str(data)}})
    images = shown_images(cfg, preprocess, 3)
    assert len(list(images)) == len(images[:3]) == 3
    for path in (data / "images").iterdir():
        path.unlink()
    with pytest.raises(ImageError):
        images[0]


def test_files_in_int8_say_of_themselves_what_those_in_float32_say(exported):
    whole, small = (onnx.load(exported / name) for name in ("model.onnx", "model_int8.onnx"))
    assert {p.key: p.value for p in small.metadata_props} == {p.key: p.value for p in whole.metadata_props} != {}
    assert (small.producer_name, small.producer_version) == (whole.producer_name, whole.producer_version)
    core = openvino.Core()
    names = [
        core.read_model(exported / f"{name}.xml").get_rt_info(["ppdet", "names"]) for name in ("model", "model_int8")
    ]
    assert json.loads(names[0].astype(str)) == json.loads(names[1].astype(str)) == ["red", "blue"]


def test_nodes_are_sorted_by_their_noise_as_onnx_runtimes_own_tool_does(preprocess, exported, learned, tmp_path):
    from onnxruntime.quantization import qdq_loss_debug as debug

    source, target = exported / "model.onnx", exported / "model_int8.onnx"
    batches = list(shown_images(learned, preprocess, 2))
    found = []
    for path in (target, source):
        debug.modify_model_output_intermediate_tensors(str(path), str(tmp_path / path.name))
        names = [value.name for value in graph(path).input]
        inputs = [{name: batch[name] for name in names} for batch in batches]
        found.append(debug.collect_activations(str(tmp_path / path.name), inputs))
    errors = debug.compute_activation_error(debug.create_activation_matching(*found))
    decibels = {node.name: errors[node.output[0]]["xmodel_err"] for node in graph(source).node
                if node.name in inner_convolutions(graph(source).node)}  # fmt: skip
    order = nodes_by_error(source, target, batches)
    assert sorted(order) == sorted(decibels) and len(order) == 18
    assert (np.diff([decibels[name] for name in order]) > -0.5).all()  # kernels for int8 round differently


def test_the_ap_of_batches_is_that_of_single_images(preprocess, exported, learned):
    """Three images in batches of two: the second batch is filled up."""
    validation = ValidationSet(learned, preprocess, None)
    height, width = validation.images[0]["image"].shape[2:]
    detect = ONNXRuntime(exported, Options(precision="int8"))
    batches = FixedBatches(validation.images, (height, width), 2)
    assert [len(batch["image"]) for batch in batches] == [2, 2]
    found = validation.average_precision(detect, "AP", batches=batches)
    assert found == pytest.approx(validation.average_precision(detect, "AP"), abs=1e-3) and found > 0.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("names", "the classes differ: "),
        ("boxes", "EvalDataset: its 3 images have no boxes"),
        ("images", "EvalDataset: none of 3 images can be read, e.g. "),
    ],
)
def test_validation_data_that_cannot_tell_ap(preprocess, exported, learned, tmp_path, log, change, reason):
    data = shutil.copytree(learned.component("EvalDataset")["dataset_dir"], tmp_path / "data")
    content = json.loads((data / "train.json").read_text())
    if change == "names":
        content["categories"][0]["name"] = "purple"
    if change == "boxes":
        content["annotations"] = []
    if change == "images":
        for path in (data / "images").iterdir():
            path.write_bytes(b"no image")
    (data / "train.json").write_text(json.dumps(content))
    cfg = merge_config(learned, {"EvalDataset": {"dataset_dir": str(data), "allow_empty": True}})
    paths, classes = calibration_paths(learned, 1), Classes(["red", "blue"], [3, 7], "the weights")
    assert calibration_of(cfg, preprocess, classes, paths, 0.0).validation is None
    assert f"the AP of int8 is not measured, because EvalDataset cannot be read: {reason}" in log.text


def test_a_quantizer_that_fails_is_one_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"^--format onnx: the graph cannot be quantized to int8: "):
        write_int8(tmp_path, ["onnx"], Calibration([], None, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "--precision int8 needs --format onnx or openvino"),
        ({"max_drop": -1}, "--max_drop -1: expected a number of at least 0"),
        ({"max_drop": float("nan")}, "--max_drop nan: expected a number of at least 0"),
        ({"max_drop": "0.5"}, "--max_drop 0.5: expected a number of at least 0"),
        ({"calibration": 0}, "--calibration 0: expected a whole number of images, at least 1"),
        ({"calibration": 2.5}, "--calibration 2.5: expected a whole number"),
        ({"precision": "fp32", "calibration": 2}, "--calibration 2: only int8 uses it: add --precision int8, or leave"),
        ({"precision": "fp16", "max_drop": 1}, "--max_drop 1: only int8 uses it"),
    ],
)
def test_what_an_export_in_int8_refuses(learned, tmp_path, arguments, message):
    formats = [] if arguments == {"precision": "int8"} else ["onnx"]
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        export_model(learned, str(tmp_path), **{"precision": "int8", "formats": formats, **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"anno_path": "absent.json"}, ".*absent.json"), ({"sample_num": 0}, ".*")],
)
def test_without_a_training_set_nothing_is_exported(learned, tmp_path, change, reason):
    cfg = merge_config(learned, {"TrainDataset": change, "weights": "nowhere"})
    with pytest.raises(
        ConfigError, match=f"^--precision int8 needs images of TrainDataset for its calibration: {reason}"
    ):
        export_model(cfg, str(tmp_path), formats=["onnx"], precision="int8")
    assert not list(tmp_path.iterdir())


def test_openvino_needs_nncf(learned, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else find(name))
    with pytest.raises(ConfigError, match=r"^nncf is not installed: pip install nncf$"):
        export_model(learned, str(tmp_path), formats=["openvino"], precision="int8")


def test_inner_convolutions_are_those_on_which_others_depend():
    def conv(name, source):
        return helper.make_node("Conv", [source, "w"], [name], name=name)

    nodes = [
        conv("stem", "image"),
        helper.make_node("Relu", ["stem"], ["r"], name="r"),
        conv("tower", "r"),
        helper.make_node("Relu", ["tower"], ["t"], name="t"),
        conv("scores", "t"),
        conv("boxes", "t"),
        helper.make_node("Shape", ["stem"], ["s"], name="s"),
        helper.make_node("Sigmoid", ["scores"], ["p"], name="p"),
    ]
    assert inner_convolutions(nodes) == ["stem", "tower"]


def test_openvinos_last_nodes_are_the_last_convolutions_and_what_follows():
    ops = openvino.opset13
    image = ops.parameter([1, 3, 8, 8], np.float32, name="image")

    def conv(name, source):
        weight = ops.constant(np.ones((3, 3, 1, 1), np.float32))
        return ops.convolution(source, weight, [1, 1], [0, 0], [0, 0], [1, 1], name=name)

    tower = ops.relu(conv("stem", image), name="relu")
    scores = ops.sigmoid(conv("scores", tower), name="sigmoid")
    model = openvino.Model([ops.result(scores, name="result")], [image], "m")
    assert last_nodes(model) == ["result", "scores", "sigmoid"]


@pytest.mark.parametrize(("good", "left"), [(1, 2), (3, 0)])
def test_a_graph_with_nothing_in_int8_is_told_of(log, good, left):
    """Its loss is small enough with `good` nodes in float32; the rounds keep one, two and four of three."""
    written = []
    keep_worst(
        lambda kept: written.append(list(kept)),
        loss=lambda note: 0.0 if len(written[-1]) >= good else 2.0,
        rank=lambda: ["a", "b", "c"],
        max_drop=0.5,
        engine="ONNX Runtime",
    )
    assert written[-1] == ["a", "b", "c"][: 3 - left] and written[:2] == [[], ["a"]]
    told = "ONNX Runtime: no node is left in int8: allow more than 0.5 AP with --max_drop"
    assert (told in log.text) == (left == 0)
