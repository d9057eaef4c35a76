"""Engines: which one is chosen, what they refuse, and their use from several threads."""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from noise import TWO_LEVELS, noisy, write_padded
from processors import needs_bfloat16_graphs

from ppdet.data.transforms.decode import read_image
from ppdet.deploy import Detector
from ppdet.deploy.backends import BACKENDS
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.open_vino import OpenVINO, make_input_integer
from ppdet.deploy.compare import EXACT, SelfCheck, compare, compare_candidates, tolerance_of
from ppdet.engine.export.graph import export_model
from ppdet.utils.errors import DeployError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(padded_export):
    """Images in data/images, and an export to all formats in padded."""
    return padded_export.parent


@pytest.fixture
def exported(folder, tmp_path):
    """A copy of the export that a test may change."""
    return shutil.copytree(folder / "padded", tmp_path / "copy")


def images(folder):
    return sorted(str(path) for path in (folder / "data" / "images").iterdir())


def test_paths_bytes_and_pixels_are_one_image(folder):
    detector = Detector(folder / "padded", "onnxruntime")
    path = images(folder)[0]
    pixels = read_image(path)
    before = pixels.copy()
    expected = detector.predict(path)
    data = Path(path).read_bytes()
    for image in (Path(path), data, bytearray(data), memoryview(data), pixels):
        assert np.array_equal(detector.predict(image).rows, expected.rows)
    assert np.array_equal(pixels, before)
    assert detector.predict([]) == []
    confident = expected.above(0.4)
    assert (
        0 < len(confident) < len(expected) and confident.scores.min() >= 0.4 and len(confident.names) == len(confident)
    )
    assert set(expected.names) <= {"red", "blue"} and detector.category_ids == [3, 7]


@pytest.mark.parametrize("image", [None, 3, {"image": 1}])
def test_things_that_are_no_image(folder, image):
    from ppdet.utils.errors import ImageError

    with pytest.raises(ImageError, match="expected a path, the bytes of a file, or an array"):
        Detector(folder / "padded", "onnxruntime").predict(image)


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_image(folder, array):
    from ppdet.utils.errors import ImageError

    with pytest.raises(ImageError, match=r"expected uint8 \(height, width, 3\), RGB"):
        Detector(folder / "padded", "onnxruntime").predict(array)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_engine_that_fails_says_on_what(folder, backend):
    backend = Detector(folder / "padded", backend).backend
    arrays = SelfCheck.read(folder / "padded").arrays
    with pytest.raises(DeployError, match=rf"{backend.name} cannot run .* on image \[2, 3, 33, 35\]"):
        backend({**arrays, "image": arrays["image"][:, :, :33, :35]})


def test_threads_of_openvino(folder):
    backend = OpenVINO(folder / "padded", Options(threads=1))
    assert backend.request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == 1


def test_whole_numbers_stay_whole_in_openvino():
    from openvino import Model, Type, compile_model, opset13

    shape, other = (opset13.parameter([1, 2], np.float32) for _ in range(2))
    for parameter, name in ((shape, "im_shape"), (other, "scale_factor")):
        parameter.output(0).set_names({name})
    model = Model([opset13.result(opset13.add(shape, other))], [shape, other])
    make_input_integer(model, "im_shape")
    assert [value.get_element_type() for value in model.inputs] == [Type.i32, Type.f32]
    arrays = {"im_shape": np.array([[427, 641]], np.int32), "scale_factor": np.array([[0.5, 0.25]], np.float32)}
    assert compile_model(model, "CPU")(arrays)[0].tolist() == [[427.5, 641.25]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_may_share_a_detector(folder, backend):
    detector = Detector(folder / "padded", backend, threads=1)
    # Of two sizes, so that a thread that met another's batch would get other shapes.
    work = [images(folder)[:1], images(folder)[1:3]] * 10
    expected = [detector.predict(batch) for batch in work[:2]]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(detector.predict, work))
    for i, batch in enumerate(found):
        rows, same = ([one.rows for one in many] for many in (batch, expected[i % 2]))
        assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(rows, same))


def test_auto_takes_the_fastest_that_passes(folder, log, monkeypatch):
    detector = Detector(folder / "padded")
    line = next(record.message for record in log.records if "self-check" in record.message)
    times = dict(part.rsplit(" ", 2)[:2] for part in line[line.index(": ") + 2 : -1].split(", "))
    assert times.keys() == BACKENDS.keys()
    assert detector.backend.name == min(times, key=lambda name: float(times[name]))
    assert list(times.values()) == sorted(times.values(), key=float)


def test_auto_leaves_out_engines_that_fail_the_self_check(exported, folder, log):
    import onnx

    # Another model, which OpenVINO reads as well where it has no file of its own.
    (exported / "model.xml").unlink()
    model = onnx.load(str(exported / "model.onnx"))
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    onnx.save(model, str(exported / "model.onnx"))
    assert Detector(exported).backend.name == "paddle"
    for name in ("onnxruntime", "openvino"):
        assert f"backend {name}: its detections differ from the trained model's" in log.text
    # A backend that is named is used without a check.
    assert Detector(exported, "openvino").backend.name == "openvino"
    (exported / "model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:1000])
    (exported / "model.pdiparams").write_bytes(b"")
    with pytest.raises(DeployError, match=r"no backend passes the self-check: paddle: .*; onnxruntime: .*; openvino: "):
        Detector(exported)


def test_auto_leaves_a_gpu_the_room_that_tf32_needs(exported, monkeypatch):
    """Scores 0.005 off: another model on a CPU, and none on a GPU, which computes on the CPU here."""
    check = SelfCheck.read(exported)
    rows = [part + np.array([0, 0.005, 0, 0, 0, 0], np.float32) for part in check.rows]
    SelfCheck(check.arrays, rows, check.floor, check.top).write(exported)
    with pytest.raises(DeployError, match="no backend passes the self-check: paddle: its detections differ"):
        Detector(exported)
    kind = BACKENDS["paddle"]
    monkeypatch.setattr(kind, "why_unavailable", classmethod(lambda kind, options: None))
    monkeypatch.setattr(kind, "use_device", kind.use_cpu)
    assert Detector(exported, device="gpu").backend.name == "paddle"


def test_auto_compares_no_engines_by_what_does_not_count_on_a_gpu(exported, log, monkeypatch):
    """Scores 0.005 above the floor are compared at a tolerance of 0.001, but not at 0.01."""
    check = SelfCheck.read(exported)
    rows = [part * np.array([1, 0, 1, 1, 1, 1], np.float32) for part in check.rows]
    rows = [part + np.array([0, check.floor + 0.005, 0, 0, 0, 0], np.float32) for part in rows]
    SelfCheck(check.arrays, rows, check.floor, 0).write(exported)
    assert SelfCheck.read(exported).comparable("fp32") > 0 == SelfCheck.read(exported).comparable("fp32", "gpu")
    for name in ("paddle", "openvino"):  # which loads nothing: the first one is used
        monkeypatch.setattr(BACKENDS[name], "why_unavailable", classmethod(lambda kind, options: None))
    monkeypatch.setattr(BACKENDS["paddle"], "use_device", BACKENDS["paddle"].use_cpu)
    assert Detector(exported, device="gpu").backend.name == "paddle"
    assert "backend paddle, the first that loads; engines are not compared: the self-check has " in log.text
    assert "are too close to each other or to the threshold" in log.text


def test_auto_compares_no_engines_where_nothing_was_detected(exported, log):
    """All engines would pass, and the fastest would be chosen whatever it computes."""
    check = SelfCheck.read(exported)
    SelfCheck(check.arrays, [rows[:0] for rows in check.rows], check.floor, check.top).write(exported)
    assert SelfCheck.read(exported).comparable("fp32") == 0 < check.comparable("fp32")
    assert Detector(exported).backend.name == "paddle"
    assert "backend paddle, the first that loads; engines are not compared: the self-check has no det" in log.text


def test_an_engine_from_outside_is_a_choice(exported, monkeypatch):
    class Mine(BACKENDS["onnxruntime"]):
        name = "mine"

        def run(self, arrays):
            return [output[:0] if output.ndim == 2 else output * 0 for output in super().run(arrays)]

    monkeypatch.setitem(BACKENDS, "mine", Mine)
    detector = Detector(exported, "mine")
    assert detector.backend.name == "mine" and len(detector.predict(np.zeros((40, 60, 3), np.uint8))) == 0


def test_folder_with_one_format_and_no_self_check(exported, folder):
    for name in ("model.json", "model.pdmodel", "model.pdiparams", "model.xml", "selfcheck.npz"):
        (exported / name).unlink(missing_ok=True)
    assert Detector(exported).backend.name == "onnxruntime"
    # OpenVINO reads ONNX as well.
    assert Detector(exported, "openvino").predict(images(folder)[0]).rows.shape[1] == 6
    with pytest.raises(DeployError, match=r"paddle: .* has no file for it: ppdet export RUN --format onnx paddle"):
        Detector(exported, "paddle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tensorflow"}, "it must be auto, paddle, onnxruntime, openvino"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "onnxruntime: no bf16 on cpu: it has fp32, fp16, int8"),
        ({"backend": "onnxruntime", "precision": "fp16"}, r"RUN --format onnx openvino.* --precision fp16 writes one"),
        ({"backend": "paddle", "precision": "fp16"}, "paddle: no fp16 on cpu"),
        ({"backend": "paddle", "precision": "bf16", "onednn": False}, "bf16 needs oneDNN"),
        ({"precision": "int4"}, "precision is 'int4'; it must be fp32, bf16, fp16, int8"),
        ({"device": "auto"}, "device is 'auto'; it must be cpu, gpu, xpu"),
        ({"device": "cpu:1"}, "device is 'cpu:1'; it must be cpu, gpu, xpu"),
        ({"device": "gpu:x"}, "device is 'gpu:x'; it must be cpu, gpu, xpu, ... or, for one of several, gpu:1"),
        ({"device": "tpu"}, "paddle: this Paddle has no tpu support: install the plugin.*; openvino: it sees no TPU"),
        (
            {"device": "xpu"},
            r"paddle: this Paddle has no xpu support: install paddlepaddle-xpu .*, or use device cpu",
        ),
        ({"device": "npu:1", "backend": "onnxruntime"}, "onnxruntime: no device of type npu: it has cpu, gpu"),
        ({"max_batch": 0}, "max_batch is 0; it must be at least 1"),
        ({"tensorrt": True}, "TensorRT needs device gpu"),
        ({"threads": 0}, "it must be at least 1"),
        ({"precision": "fp16"}, "paddle: no fp16 on cpu.*; onnxruntime: .*; openvino: "),
    ],
)
def test_what_does_not_go_together(folder, arguments, message):
    with pytest.raises(DeployError, match=message):
        Detector(folder / "padded", **arguments)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("backend", "message"),
    [("paddle", "install paddlepaddle-gpu"), ("onnxruntime", "install onnxruntime-gpu"), ("openvino", "sees no GPU")],
)
def test_engines_without_a_gpu_say_so(folder, backend, message):
    with pytest.raises(DeployError, match=message):
        Detector(folder / "padded", backend, device="GPU")


def test_engine_that_is_not_installed(folder, monkeypatch):
    monkeypatch.setattr("ppdet.deploy.backends.is_installed", lambda package: package != "openvino")
    with pytest.raises(DeployError, match="it is not installed: pip install openvino"):
        Detector(folder / "padded", "openvino")
    assert Detector(folder / "padded").backend.name in ("paddle", "onnxruntime")


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    """An export of a detector with some scores above 0.5, which are not cut to the best: bfloat16 can be compared."""
    folder = tmp_path_factory.mktemp("sure")
    nms = ["FCOSHead.nms.keep_top_k=-1", "FCOSHead.nms.score_threshold=0.4", "FCOSHead.nms.nms_threshold=0.8"]
    cfg = noisy(write_padded(folder, images=1), [*TWO_LEVELS, "FCOSHead.sqrt_score=true", *nms])
    return export_model(cfg, str(folder), formats=["openvino"])


@pytest.mark.parametrize("backend", [pytest.param("paddle", marks=needs_bfloat16_graphs), "openvino"])
def test_bfloat16_is_near(sure, backend):
    check = SelfCheck.read(sure)
    result = check.verify(Detector(sure, backend, precision="bf16").backend, "bf16")
    assert result.compared == check.comparable("bf16") > 20 and result.unmatched <= 0.1 * result.compared
    other = SelfCheck(check.arrays, [rows[::2] for rows in check.rows], check.floor, check.top)
    with pytest.raises(DeployError, match="its detections differ from the trained model's"):
        other.verify(Detector(sure, backend, precision="bf16").backend, "bf16")


def test_precision_of_the_folder(exported):
    settings = yaml.safe_load((exported / "infer_cfg.yml").read_text())
    (exported / "infer_cfg.yml").write_text(yaml.safe_dump({**settings, "precision": "bf16"}))
    # OpenVINO takes it on every processor.
    assert Detector(exported, "openvino").backend.options.precision == "bf16"
    assert Detector(exported, "openvino", precision="fp32").backend.options.precision == "fp32"


def test_onnx_runtime_alone_needs_no_paddle(folder):
    code = """
import sys
class Nothing:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("paddle", "openvino"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("paddle", "openvino") else real(name, *rest)
from ppdet.deploy import Detector
detector = Detector(sys.argv[1])
print(detector.backend.name, len(detector.predict(sys.argv[2])), "paddle" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(folder / "padded"), images(folder)[0]]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "onnxruntime" and int(said[1]) > 3 and said[2] == "False"


def test_damaged_self_check(exported):
    (exported / "selfcheck.npz").write_bytes((exported / "selfcheck.npz").read_bytes()[:500])
    with pytest.raises(DeployError, match=r"selfcheck\.npz: damaged"):
        Detector(exported)


def rows(*content):
    return np.array(content, np.float32).reshape(-1, 6)


@pytest.mark.parametrize(
    ("one", "other", "count", "strays"),
    [
        (rows([0, 0.5, 1, 1, 9, 9]), rows([0, 0.5005, 1.4, 1, 9, 9]), 1, 0),
        (rows([0, 0.5, 1, 1, 9, 9]), rows([0, 0.502, 1, 1, 9, 9]), 1, 2),
        (rows([0, 0.5, 1, 1, 9, 9]), rows([0, 0.5, 1.6, 1, 9, 9]), 1, 2),
        (rows([0, 0.5, 1, 1, 9, 9]), rows([1, 0.5, 1, 1, 9, 9]), 1, 2),
        (rows([0, 0.5, 1, 1, 9, 9]), rows(), 1, 1),
        (rows(), rows([0, 0.5, 1, 1, 9, 9]), 0, 1),
        # At the threshold, and without area.
        (rows([0, 0.0505, 1, 1, 9, 9]), rows(), 0, 0),
        (rows([0, 0.5, 1, 1, 1, 9]), rows(), 0, 0),
    ],
)
def test_comparison(one, other, count, strays):
    result = compare([one], [other], EXACT, floor=0.05)
    assert (result.compared, result.unmatched) == (count, strays)


def test_comparison_of_lists_that_were_cut():
    many = rows([0, 0.9, 1, 1, 9, 9], [0, 0.30, 5, 5, 9, 9])
    other = rows([0, 0.9, 1, 1, 9, 9], [0, 0.3005, 2, 2, 9, 9])
    assert compare([many], [other], EXACT, top=2)[:2] == (1, 0)
    assert compare([many], [other], EXACT, top=3)[:2] == (2, 2)


@pytest.mark.parametrize(
    ("scores", "top", "precision", "expected"),
    [
        ([0.9, 0.5], 0, "bf16", ""),
        ([], 0, "fp32", "the self-check has no detections"),
        ([0.2, 0.25], 0, "fp16", "the self-check has 2 detections, none with a score above 0.3, as fp16 needs"),
        ([0.5, 0.55], 2, "fp32", ""),
        # As many as the model keeps: what is less than 0.1 above the lowest may be replaced by another one.
        (
            [0.5, 0.55],
            2,
            "bf16",
            "the self-check has 2 detections, but their scores, 0.50 to 0.55, are too .*",
        ),
    ],
)
def test_why_detections_are_not_compared(scores, top, precision, expected):
    found = rows(*([0, score, 1, 1, 9, 9] for score in scores))
    assert re.fullmatch(expected, SelfCheck({}, [found], 0.05, top).why_not_comparable(precision))


BOXES = np.array([[[0, 0, 100, 50], [10, 10, 20, 20]]], np.float32)
SCORES = np.array([[[0.02, 0.01], [0.001, 0.002]]], np.float32)


@pytest.mark.parametrize(
    ("boxes", "scores", "strays"),
    [
        (BOXES, SCORES, {"fp32": 0, "bf16": 0}),
        (BOXES + np.float32(0.4), SCORES, {"fp32": 0, "bf16": 0}),
        (BOXES + np.float32(1.5), SCORES, {"fp32": 2, "bf16": 0}),
        (BOXES + np.float32(2.5), SCORES, {"fp32": 2, "bf16": 1}),  # a pixel and a tenth of the longer side
        # Of the best score, 0.02: a thousandth, or a tenth.
        (BOXES, SCORES + np.float32(1e-5), {"fp32": 0, "bf16": 0}),
        (BOXES, SCORES + np.float32(1e-3), {"fp32": 2, "bf16": 0}),
        (BOXES, SCORES * np.float32(1.15), {"fp32": 2, "bf16": 1}),
        (BOXES, np.full_like(SCORES, np.nan), {"fp32": 2, "bf16": 2}),
        (np.full_like(BOXES, np.nan), SCORES, {"fp32": 2, "bf16": 2}),
    ],
)
def test_comparison_before_suppression(boxes, scores, strays):
    for precision, expected in strays.items():
        result = compare_candidates([BOXES, SCORES], [boxes, scores], tolerance_of(precision))
        assert (result.compared, result.unmatched) == (2, expected)


# The two best of three locations, the best first, and a row that there is no location for.
EVERY = np.array([[[0, 0, 100, 50], [10, 10, 20, 20], [30, 30, 90, 40]]], np.float32)
EVERY_SCORE = np.array([[[0.5, 0.49999, 0.2], [0.1, 0.1, 0.1]]], np.float32)


def best(*places):
    """Boxes and scores of these locations, and a row without scores."""
    boxes = np.concatenate([EVERY[:, list(places)], np.full((1, 1, 4), places[0], np.float32)], axis=1)
    return [boxes, np.concatenate([EVERY_SCORE[..., list(places)], np.zeros((1, 2, 1), np.float32)], axis=2)]


def changed(outputs, row, by):
    """The outputs with another score of the row in the first class."""
    boxes, scores = outputs[0], outputs[1].copy()
    scores[0, 0, row] += np.float32(by)
    return [boxes, scores]


@pytest.mark.parametrize(
    ("found", "strays"),
    [
        (best(0, 1), 0),
        (best(1, 0), 0),  # as good, and in another order
        (changed(best(1, 0), 0, -0.49999), 1),  # without its score in one of the classes
        (best(0, 2), 1),  # not the best ones
        ([best(1, 0)[0] + np.float32(2), best(1, 0)[1]], 2),
        ([best(1, 0)[0][:, ::-1], best(1, 0)[1]], 1),  # a box and scores that do not belong together
        (changed(best(0, 1), 0, np.nan), 1),
        (changed(best(0, 1), 2, 0.5), 1),  # the row without a location
    ],
)
def test_comparison_of_the_best_locations(found, strays):
    result = compare_candidates(best(0, 1), found, EXACT, [EVERY, EVERY_SCORE])
    assert (result.compared >= 2, result.unmatched) == (True, strays)


def test_comparison_of_other_locations():
    with pytest.raises(DeployError, match=r"has shape \(1, 1, 4\), the model's has \(1, 2, 4\)"):
        compare_candidates([BOXES, SCORES], [BOXES[:, :1], SCORES[:, :, :1]], EXACT)
