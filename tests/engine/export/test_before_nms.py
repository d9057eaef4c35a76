"""ONNX and OpenVINO files that end before NMS, with boxes and scores or with maps, hold what the detector detects."""

import json
import re

import numpy as np
import onnxruntime
import pytest
from noise import TWO_LEVELS, noisy
from triton_repository import check_repository

from ppdet.engine.export.graph import export_model


@pytest.fixture(scope="module")
def plain(folder):
    """An export of the whole detector."""
    return export_model(noisy(folder / "padded.yml", TWO_LEVELS), folder / "plain", formats=["triton"])


def test_graphs_without_nms_end_with_boxes_and_scores(folder, plain, tmp_path):
    """The best boxes of both engines are those of the whole detector's detections."""
    exported = export_model(
        noisy(folder / "padded.yml", [*TWO_LEVELS, "export.nms=false"]), tmp_path, formats=["triton", "openvino"]
    )
    arrays = {"image": np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32),
              "scale_factor": np.full((1, 2), 0.5, np.float32), "im_shape": np.float32([[60, 80]])}  # fmt: skip
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    assert session.get_modelmeta().custom_metadata_map["ppdet.output"] == "boxes"
    shapes = {value.name: value.shape for value in session.get_outputs()}
    assert shapes == {"boxes": ["batch", "locations", 4], "scores": ["batch", 2, "locations"]}
    sizes = check_repository(exported, "padded")
    assert sizes["boxes"][::2] == [-1, 4] and len(sizes["scores"]) == 3 and sizes["image"] == [-1, 3, -1, -1]
    boxes, scores = session.run(["boxes", "scores"], arrays)
    again = in_openvino(exported / "model.xml", arrays)
    np.testing.assert_allclose(again["boxes"], boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(again["scores"], scores, rtol=1e-4, atol=1e-5)
    bbox, _ = onnxruntime.InferenceSession(str(plain / "model.onnx")).run(["bbox", "bbox_num"], arrays)
    best = bbox[bbox[:, 1].argmax()]
    kind, place = np.unravel_index(scores[0].argmax(), scores[0].shape)
    assert len(bbox) > 3 and kind == best[0]
    np.testing.assert_allclose([scores[0, kind, place], *boxes[0, place]], best[1:], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ["level_top_k=1000", "level_top_k_of=classes", "last_pixel=true", "clip_boxes=true"],
        ["level_top_k=20", "class_threshold=0.9999", "last_pixel=true"],
    ],
)
def test_the_best_boxes_of_levels_may_come_in_another_order(folder, tmp_path, log, options):
    """Engines choose between nearly equal scores as they like. Where no score is left, all locations are compared."""
    settings = ["export.nms=false", *(f"FCOSHead.{option}" for option in options)]
    export_model(noisy(folder / "padded.yml", settings), tmp_path)
    (*_, line) = [line for line in log.messages if line.startswith("checked in paddle")]
    compared = int(re.search(r"(\d+) locations before NMS, none unmatched, scores differ by at most", line)[1])
    # Of 2 images on 3 levels. Where a level has fewer locations than its best 1000, the other rows do not count.
    assert compared > 6000 if "level_top_k=20" in options else 1000 < compared < 6000


def test_maps_are_decoded_as_the_page_says(folder, plain, tmp_path):
    cfg = noisy(folder / "padded.yml", [*TWO_LEVELS, "export.post_process=false"])
    exported = export_model(cfg, tmp_path, formats=["triton", "openvino"])
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    names = [value.name for value in session.get_outputs()]
    assert {value.shape[0] for value in session.get_outputs()} == {"batch"}
    assert names == [f"{kind}_{stride}" for stride in (8, 16) for kind in ("logits", "distances", "quality")]
    assert list(check_repository(exported, "padded")) == ["image", *names]
    maps, again = (
        dict(zip(names, session.run(names, {"image": image}))),
        in_openvino(exported / "model.xml", {"image": image}),
    )
    info = session.get_modelmeta().custom_metadata_map
    locations, in_strides = json.loads(info["ppdet.locations"]), info["ppdet.distances_in"] == "strides"
    best = (0.0,)
    for stride in locations["strides"]:
        logits, distances, quality = (maps[f"{kind}_{stride}"][0] for kind in ("logits", "distances", "quality"))
        for kind in ("logits", "distances", "quality"):
            np.testing.assert_allclose(again[f"{kind}_{stride}"], maps[f"{kind}_{stride}"], rtol=1e-3, atol=1e-3)
        scores = 1 / (1 + np.exp(-logits)) / (1 + np.exp(-quality))
        place = np.unravel_index(scores.argmax(), scores.shape)
        x, y = (place[2] + locations["shift"]) * stride, (place[1] + locations["shift"]) * stride
        left, top, right, bottom = distances[:, place[1], place[2]] * (stride if in_strides else 1)
        best = max(best, (scores[place], place[0], x - left, y - top, x + right, y + bottom))
    whole = {"image": image, "scale_factor": np.ones((1, 2), np.float32), "im_shape": np.float32([[64, 96]])}
    bbox, _ = onnxruntime.InferenceSession(str(plain / "model.onnx")).run(["bbox", "bbox_num"], whole)
    row = bbox[bbox[:, 1].argmax()]
    np.testing.assert_allclose(best, [row[1], row[0], *row[2:]], rtol=1e-4, atol=1e-3)


def in_openvino(path, arrays):
    """The outputs of a file by name."""
    import openvino

    results = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(arrays)
    return {value.get_any_name(): array for value, array in results.items()}
