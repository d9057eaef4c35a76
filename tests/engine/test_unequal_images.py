"""Images of unequal sizes: what is detected in one depends on no other one, and nothing is detected in padding."""

import json

import cv2
import numpy as np
import paddle
import pytest
from noise import noisy
from processors import needs_bfloat16_graphs
from tiny import TINY_YAML

from ppdet.core.workspace import load_config
from ppdet.deploy import Detector
from ppdet.deploy.backends import BACKENDS, find_problem
from ppdet.deploy.backends.base import Options
from ppdet.deploy.benchmark import run_benchmark
from ppdet.deploy.compare import EXACT, compare, with_area
from ppdet.deploy.slicing import Slicing
from ppdet.engine.build import build_trained_model
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.export import check
from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor

# 427 pixels are 428 in bfloat16, and there is a location at 428.
SIZES = [(64, 96), (45, 70), (90, 33), (30, 427)]
STRIDES, CLASSES = (8, 16, 32), 2
# Every class at every location is a detection.
EVERYTHING = [
    f"FCOSHead.nms.{option}" for option in ("score_threshold=0", "nms_top_k=-1", "keep_top_k=-1", "nms_threshold=1.0")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight images of four sizes in turn, a configuration, and weights that detect something everywhere.

    The true boxes are the best that are found in each image alone.
    """
    folder = tmp_path_factory.mktemp("unequal")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]}
    for number in range(8):
        height, width = SIZES[number % 4]
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), cv2.resize(coarse, (width, height)))
        content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
    (folder / "train.json").write_text(json.dumps(content))
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=folder))
    noisy(folder / "tiny.yml")
    for number, rows in alone(folder).items():
        for label, _, x1, y1, x2, y2 in sorted(with_area(rows).tolist(), key=lambda row: -row[1])[:5]:
            box, identity = [x1, y1, x2 - x1, y2 - y1], len(content["annotations"]) + 1
            content["annotations"].append({"id": identity, "image_id": number, "category_id": (3, 7)[int(label)],
                                           "bbox": box, "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def configuration(folder, *options):
    return load_config(folder / "tiny.yml", [f"weights={folder}/noise.pdparams", *options])


def paths(folder):
    return sorted(str(path) for path in (folder / "images").iterdir())


def alone(folder):
    """Rows of each image, one after the other."""
    return dict(Predictor(configuration(folder, "TestReader.batch_size=1")).detect(paths(folder)))


@pytest.fixture(scope="module")
def expected(folder):
    return alone(folder)


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for image, rows in expected.items():
        result = compare([rows], [with_area(found[image])], EXACT)
        assert result.compared > 5 and result.unmatched == 0, (image, result)
        assert result.score < 1e-4 and result.pixels < 0.02, (image, result)


@pytest.mark.parametrize(("batch_size", "worker_num"), [(1, 0), (4, 1), (8, 0)])
def test_evaluation_does_not_depend_on_the_batch_size(folder, expected, batch_size, worker_num):
    cfg = configuration(folder, f"EvalReader.batch_size={batch_size}", f"worker_num={worker_num}")
    evaluator = Evaluator(cfg)
    numbers = evaluator(build_trained_model(cfg))
    found = {number: [] for number in evaluator.metric.image_ids}
    for one in evaluator.metric.results:
        x, y, w, h = one["bbox"]
        found[one["image_id"]].append([(3, 7).index(one["category_id"]), one["score"], x, y, x + w, y + h])
    assert_same({number: np.array(rows) for number, rows in found.items()}, expected)
    metric = evaluator.metric
    metric.reset()
    for number, rows in expected.items():
        metric.update(rows, [len(rows)], [number], [SIZES[number % 4]])
    assert numbers["AP"] == pytest.approx(metric.compute()["AP"], abs=1e-3) and 0.2 < numbers["AP"] < 1


def test_inference_does_not_depend_on_the_batch_size(folder, expected):
    predictor = Predictor(configuration(folder, "TestReader.batch_size=5"))
    assert_same(dict(predictor.detect(paths(folder))), expected)


def test_windows_do_not_depend_on_the_batch_size(folder):
    """Windows of 48 x 64 pixels, and smaller ones where the image is: they come image by image."""
    found = [
        dict(Predictor(configuration(folder, f"TestReader.batch_size={size}")).detect(files, Slicing((48, 64))))
        for size, files in ((1, paths(folder)[1:4]), (7, paths(folder)[1:4]))
    ]
    assert_same(found[1], found[0])


def locations(height, width, padded=None):
    """How many lie in an image, of the levels of an input of this size."""
    rows, columns = (-(-side // 32) * 32 for side in (height, width)) if padded is None else padded
    return sum(
        sum((i + 0.5) * stride < height for i in range(rows // stride))
        * sum((i + 0.5) * stride < width for i in range(columns // stride))
        for stride in STRIDES
    )


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """Its boxes have their location in the middle."""
    cfg = configuration(folder, *EVERYTHING)
    model = cfg.create("FCOS")
    model.set_state_dict(paddle.load(str(folder / "noise.pdparams")))
    model.fcos_head.fcos_head_reg.weight.set_value(paddle.zeros(model.fcos_head.fcos_head_reg.weight.shape))
    model.fcos_head.fcos_head_reg.bias.set_value(paddle.ones([4]))
    paddle.save(model.state_dict(), str(folder / "middle.pdparams"))
    cfg = configuration(folder, *EVERYTHING, f"weights={folder}/middle.pdparams")
    place = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "LONG_SIDE", 96)  # of the check's images, in which everything is a detection
        return export_model(cfg, str(place), formats=["onnx", "openvino"], precision="fp16"), cfg


ENGINES = [("paddle", "fp32"), pytest.param("paddle", "bf16", marks=needs_bfloat16_graphs), ("onnxruntime", "fp32"),
           ("onnxruntime", "fp16"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "fp16")]  # fmt: skip


@pytest.mark.parametrize(("backend", "precision"), ENGINES)
@paddle.no_grad()
def test_graphs_detect_in_images_alone(exported, folder, backend, precision):
    """As one batch, padded to the largest side of either direction, without a threshold."""
    exported, cfg = exported
    options = Options(precision=precision, threads=1)
    problem = find_problem(BACKENDS[backend], exported, options)
    if problem:
        pytest.skip(problem)
    preprocess = Detector(exported, "onnxruntime", precision="fp32").preprocess
    arrays = preprocess.join([preprocess.prepare(path) for path in paths(folder)[:4]])
    assert arrays["image"].shape == (4, 3, 96, 448)
    arrays["scale_factor"] = np.array([[1, 1], [2, 0.5], [1, 1], [0.25, 4]], np.float32)
    rows, counts = BACKENDS[backend](exported, options)(arrays)
    assert counts.tolist() == [CLASSES * locations(*size, padded=(96, 448)) for size in SIZES]
    found = np.split(rows, np.cumsum(counts)[:-1])
    for part, (height, width), (scale_y, scale_x) in zip(found, SIZES, arrays["scale_factor"]):
        x, y = (part[:, 2] + part[:, 4]) / 2 * scale_x, (part[:, 3] + part[:, 5]) / 2 * scale_y
        # The first location is at 4, the last one no more than a cell from the end.
        assert abs(x.min() - 4) < 0.1 and abs(y.min() - 4) < 0.1
        rounding = 0.1 if precision == "fp32" else 2  # of boxes
        assert width - 8 - rounding <= x.max() < width + rounding and height - 8 <= y.max() < height
    if precision == "fp32":
        model = build_trained_model(cfg)
        wanted, numbers = model({name: paddle.to_tensor(array) for name, array in arrays.items()})
        assert numbers.tolist() == counts.tolist()
        result = compare(np.split(wanted.numpy(), np.cumsum(counts)[:-1]), found, EXACT)
        assert result.compared > 1000 and result.unmatched == 0


def test_a_detector_does_not_depend_on_the_batch(exported, folder):
    """Paths in one call, files in batches, and their order."""
    detector = Detector(exported[0], "onnxruntime", precision="fp32", threads=1)
    wanted = {place: detector.predict(path).rows for place, path in enumerate(paths(folder)[:5])}
    assert [len(rows) for rows in wanted.values()] == [CLASSES * locations(*SIZES[i % 4]) for i in range(5)]
    assert_same(dict(enumerate(one.rows for one in detector.predict(paths(folder)[:5]))), wanted)
    found = list(detector.detect(paths(folder)[:5], batch_size=4))
    assert [place for place, _ in found] == [0, 1, 2, 3, 4]
    assert_same(dict(found), wanted)
    report = run_benchmark(detector, paths(folder)[:5], str(folder), batch_size=5, runs=1)
    assert report["detections_per_image"] == sum(map(len, wanted.values())) / 5
