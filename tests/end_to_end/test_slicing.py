"""--slice_infer of all commands, on a mosaic of small images: every window of it is one of them."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from commands import call, run
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.deploy import Detector
from ppdet.deploy.slicing import Slicing
from ppdet.engine.build import build_model
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor

H, W = 96, 128  # of a small image
GRID = (2, 3)
# What a window as large as a small image needs to be on the command line.
CUT = ("--slice_infer", "--slice_size", H, W, "--overlap_ratio", 0, 0, "--combine_method", "concat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """single/ and mosaic/ with their configurations single.yml and mosaic.yml, weights w, and the exported model."""
    folder = tmp_path_factory.mktemp("sliced")
    single, mosaic = write_tiny_coco(folder / "single", images=12), folder / "mosaic"
    (mosaic / "images").mkdir(parents=True)
    content = json.loads((single / "train.json").read_text())
    tiles = [cv2.imread(str(single / "images" / image["file_name"])) for image in content["images"]]
    images = []
    for number in range(2):
        picture = np.zeros((GRID[0] * H, GRID[1] * W, 3), np.uint8)
        for place, tile in enumerate(tiles[6 * number : 6 * number + 6]):
            x, y = offset(place)
            picture[y : y + H, x : x + W] = tile
        cv2.imwrite(str(mosaic / "images" / f"{number + 1:03d}.png"), picture)
        images.append({"id": number + 1, "file_name": f"{number + 1:03d}.png", "width": 3 * W, "height": 2 * H})
    for annotation in content["annotations"]:
        number, place = divmod(annotation["image_id"] - 1, 6)
        x, y = offset(place)
        box = annotation["bbox"]
        annotation.update(image_id=number + 1, bbox=[box[0] + x, box[1] + y, *box[2:]])
    (mosaic / "train.json").write_text(json.dumps({**content, "images": images}))
    for kind in (single, mosaic):
        (folder / f"{kind.name}.yml").write_text(TINY_YAML.format(output=folder / "output", data=kind))
    paddle.seed(0)
    paddle.save(build_model(config(folder, "single")).state_dict(), str(folder / "w.pdparams"))
    export_model(config(folder, "single"), str(folder / "exported"))
    return folder


def offset(place):
    """x, y of a place in a mosaic."""
    return place % GRID[1] * W, place // GRID[1] * H


def options(folder):
    return [f"weights={folder}/w", "FCOSHead.nms.score_threshold=0.001", "FCOSHead.nms.keep_top_k=20"]


def config(folder, kind):
    return load_config(str(folder / f"{kind}.yml"), options(folder))


def command(folder, tool, kind, *more):
    return [f"tools/{tool}.py", "-c", folder / f"{kind}.yml", "-o", *options(folder), *more]


def boxes(path):
    """File name or image id -> rows of [category, score, x1, y1, x2, y2], sorted, of a bbox.json."""
    grouped = {}
    for result in json.loads(Path(path).read_text()):
        x, y, w, h = result["bbox"]
        key = Path(result["file_name"]).name if "file_name" in result else result["image_id"]
        grouped.setdefault(key, []).append([result["category_id"], result["score"], x, y, x + w, y + h])
    return {key: in_order(np.array(rows)) for key, rows in grouped.items()}


def in_order(rows):
    return rows[np.lexsort((rows[:, 2].round(1), -rows[:, 1].round(5), rows[:, 0]))]


@pytest.fixture(scope="module")
def expected(folder):
    """What the mosaics show: the detections of the single images, moved to their places. Image id -> rows."""
    paths = sorted(str(path) for path in (folder / "single" / "images").iterdir())
    found, rows = dict(Predictor(config(folder, "single")).detect(paths)), {1: [], 2: []}
    for index, part in found.items():
        part[:, 0] = np.array([3, 7])[part[:, 0].astype(int)]
        rows[index // 6 + 1].append(part + np.array([0, 0, *offset(index % 6) * 2], np.float32))
    rows = {key: in_order(np.concatenate(parts)) for key, parts in rows.items()}
    assert all(len(part) > 100 for part in rows.values())  # more than a model gives, or COCO counts
    return rows


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual[:, 0], expected[:, 0])
    np.testing.assert_allclose(actual[:, 1], expected[:, 1], atol=1e-4)
    np.testing.assert_allclose(actual[:, 2:], expected[:, 2:], atol=0.05)


def test_evaluation_by_one_process_and_by_two(folder, expected, tmp_path):
    log = call(*command(folder, "eval", "mosaic"), *CUT, "--output_eval", tmp_path / "one")
    found = boxes(tmp_path / "one" / "bbox.json")
    for image, rows in expected.items():
        assert_same(found[image], rows)
    assert "evaluated 2 images" in log and "sliced: windows of 96x128, overlap 0 0, concat" in log
    launcher = ("-m", "paddle.distributed.launch", "--log_dir", tmp_path / "log", "--nproc_per_node", 2)
    two = run(*launcher, *command(folder, "eval", "mosaic"), *CUT, "--output_eval", tmp_path / "two")
    again = boxes(tmp_path / "two" / "bbox.json")
    assert again.keys() == found.keys() and all(np.array_equal(again[key], found[key]) for key in found)
    numbers = [re.findall(r"maxDets= *\d+ \] = (-?[\d.]+)", text) for text in (log, two)]
    assert len(numbers[0]) == 12 and numbers[0] == numbers[1]


def test_inference_of_the_trained_and_of_the_exported_model(folder, expected, tmp_path):
    images = folder / "mosaic" / "images"
    call(*command(folder, "infer", "mosaic"), *CUT, "--infer_dir", images, "--save_results", "true",
        "--output_dir", tmp_path / "dynamic")  # fmt: skip
    call("deploy/python/infer.py", "--model_dir", folder / "exported" / "single", *CUT, "--image_dir", images,
        "--batch_size", 4, "--save_results", "--output_dir", tmp_path / "static")  # fmt: skip
    for kind in ("dynamic", "static"):
        found = boxes(tmp_path / kind / "bbox.json")
        for image, rows in expected.items():
            assert_same(found[f"{image:03d}.png"], rows)
        assert cv2.imread(str(tmp_path / kind / "001.png")).shape == (GRID[0] * H, GRID[1] * W, 3)


def test_one_window_is_the_whole_image(folder, tmp_path):
    """Merging would find boxes within boxes: it must not look."""
    paths = sorted(str(path) for path in (folder / "single" / "images").iterdir())
    # A JPEG that Resize makes less than half as large is decoded smaller, with windows as without.
    cv2.imwrite(str(tmp_path / "large.jpg"), cv2.resize(cv2.imread(paths[0]), (4 * W, 4 * H)))
    paths.append(str(tmp_path / "large.jpg"))
    cfg = config(folder, "single")
    resize = (
        "TestReader.sample_transforms=[Decode: {}, Resize: {target_size: [96, 128]}, NormalizeImage: {}, Permute: {}]"
    )
    resized = load_config(str(folder / "single.yml"), [*options(folder), resize])
    for predictor in (Predictor(cfg), Predictor(resized)):
        whole, sliced = dict(predictor.detect(paths)), dict(predictor.detect(paths, Slicing()))
        assert whole.keys() == sliced.keys() == set(range(13))
        assert all(np.array_equal(whole[key], sliced[key]) for key in whole)
    detector = Detector(folder / "exported" / "single")
    whole, sliced = (dict(detector.detect(paths, 2, slicing)) for slicing in (None, Slicing()))
    assert whole.keys() == sliced.keys() and all(np.array_equal(whole[key], sliced[key]) for key in whole)
    one, same = detector.predict(paths[0]), detector.predict_sliced(paths[0], Slicing())
    assert np.array_equal(one.rows, same.rows) and one.names == same.names and len(one)
    numbers = [Evaluator(cfg, slicing=slicing)(predictor.model) for slicing in (None, Slicing())]
    assert numbers[0] == numbers[1]


def test_windows_are_merged(folder, expected):
    """An image as an array, as bytes and as a file; merged by the method asked for."""
    detector = Detector(folder / "exported" / "single")
    path = folder / "mosaic" / "images" / "001.png"
    pixels = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    categories = expected[1].copy()
    categories[:, 0] = np.searchsorted([3, 7], categories[:, 0])
    for combine in ("nms", "nmm"):
        slicing = Slicing((H, W), (0, 0), combine, match_threshold=0.9)
        merged = slicing.merge(categories)
        assert len(merged) < len(categories)
        for image in (pixels, path.read_bytes(), path):
            found = detector.predict_sliced(image, slicing, batch_size=5)
            assert_same(found.rows, merged)


def test_broken_images_and_batches_across_images(folder, tmp_path, log):
    (tmp_path / "broken.png").write_bytes(b"no image")
    mosaics = sorted(str(path) for path in (folder / "mosaic" / "images").iterdir())
    paths = [mosaics[0], str(tmp_path / "broken.png"), mosaics[1], str(tmp_path / "missing.png")]
    slicing = Slicing((H, W), (0, 0), "concat")
    predictor = Predictor(load_config(str(folder / "mosaic.yml"), [*options(folder), "TestReader.batch_size=4"]))
    found = dict(predictor.detect(paths, slicing))
    static = dict(Detector(folder / "exported" / "single").detect(paths, 4, slicing))
    assert found.keys() == static.keys() == {0, 2}
    assert all(len(rows) > 100 for rows in found.values())
    for name in ("broken.png", "missing.png"):
        assert len([line for line in log.messages if name in line and "image skipped" in line]) == 2


@pytest.mark.parametrize("kind", ["tools/eval.py", "tools/infer.py", "deploy/python/infer.py"])
def test_mistakes_get_one_line_and_at_once(kind):
    needed = {
        "tools/eval.py": ["-c", "none.yml"],
        "tools/infer.py": ["-c", "none.yml", "--infer_img", "README.md"],
        "deploy/python/infer.py": ["--model_dir", "none", "--image_file", "README.md"],
    }[kind]
    log = call(kind, *needed, "--slice_size", 640, 640, code=2)
    assert log.strip() == "error: --slice_size has no effect without --slice_infer: add that, or leave it out"
    log = call(kind, *needed, "--slice_infer", "--overlap_ratio", 0.5, 1, code=2)
    assert log.startswith("error: --overlap_ratio") and len(log.splitlines()) == 1
