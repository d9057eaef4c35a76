"""An export of a model that detects nothing in the images of the check is compared all the same."""

import cv2
import numpy as np
import pytest
from noise import noisy, write_padded

from ppdet.core.workspace import load_config
from ppdet.deploy.errors import DeployError
from ppdet.engine import export_onnx
from ppdet.engine.export import export_model
from ppdet.engine.export_check import ExportError, beside_earlier, check_images, drawn_image

NOTHING = ["FCOSHead.nms.score_threshold=0.99"]
# Locations before suppression are compared in their order, whatever the head would leave out or sort.
RULES = [*NOTHING, "FCOSHead.level_top_k=20", "FCOSHead.class_threshold=0.6", "FCOSHead.last_pixel=true"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    write_padded(folder, images=7)
    return folder


def test_all_locations_are_compared(folder, tmp_path, log):
    cfg = noisy(folder / "padded.yml", RULES)
    exported = export_model(cfg, str(tmp_path), formats=["onnx", "openvino"], precision="fp16")
    assert "detects too little in the images of the check" in log.text and "--check_image" in log.text
    lines = [line for line in log.messages if "locations before suppression, none different" in line]
    engines = ["paddle, fp32"] + [
        f"{name}, {kind}" for name in ("onnxruntime", "openvino") for kind in ("fp32", "fp16")
    ]
    assert [line.split(":")[0] for line in lines] == [f"checked in {name}" for name in engines]
    assert {path.name for path in exported.iterdir()} >= {"model.onnx", "model.xml", "model_fp16.onnx"}
    # What was exported has the rules and suppression that it was configured with.
    import onnx

    outputs = [value.name for value in onnx.load(str(exported / "model.onnx")).graph.output]
    assert outputs == ["bbox", "bbox_num"]


def test_another_network_is_refused_though_it_detects_as_little(folder, tmp_path, monkeypatch):
    import onnx

    cfg = noisy(folder / "padded.yml", NOTHING)
    convert = export_onnx.convert

    def wrong(graph):
        model = convert(graph)
        tensors = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
        weights = next(tensor for tensor in tensors if len(tensor.dims) == 4)
        weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
        return model

    monkeypatch.setattr(export_onnx, "convert", wrong)
    message = "not good, onnxruntime, fp32: it computes something else than the model: .* locations"
    with pytest.raises(ExportError, match=message):
        export_model(cfg, str(tmp_path), formats=["onnx"])
    assert not list((tmp_path / "padded").iterdir())


def test_images_of_the_check(folder, tmp_path, log):
    """Five labelled images, those that can be read; the file that is named alone; a drawn one where there is none."""
    cfg = load_config(str(folder / "padded.yml"))
    names = [folder / "data" / "images" / f"{i:03d}.png" for i in range(1, 8)]
    pixels = [cv2.imread(str(name))[..., ::-1] for name in names]
    found = list(check_images(cfg, None))
    assert len(found) == 5 and all(np.array_equal(*pair) for pair in zip(found, pixels))
    (named,) = check_images(cfg, str(names[6]))
    assert np.array_equal(named, pixels[6])
    content = names[1].read_bytes()
    names[1].write_bytes(content[:100])
    found = list(check_images(cfg, None))
    names[1].write_bytes(content)
    assert len(found) == 4 and all(np.array_equal(*pair) for pair in zip(found, [pixels[0], *pixels[2:5]]))
    none = load_config(str(folder / "padded.yml"), [f"EvalDataset.dataset_dir={tmp_path}"])
    (drawn,) = check_images(none, None)
    assert np.array_equal(drawn, drawn_image()) and "export is checked on a drawn image" in log.text


@pytest.mark.parametrize("kind", [DeployError, ExportError])
def test_errors_name_the_folder_that_the_user_knows(tmp_path, kind):
    with pytest.raises(kind) as error, beside_earlier(tmp_path) as target:
        raise kind(f"{target}/model.json: Paddle cannot load it in bf16")
    assert str(error.value) == f"{tmp_path}/model.json: Paddle cannot load it in bf16"
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError) as error, beside_earlier(tmp_path / "gone"):
        pass
    assert error.value.filename == str(tmp_path / "gone")
