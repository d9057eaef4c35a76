"""Converted detectors give the maps and detections of their own code base."""

from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from parity.cases import CASES, HEIGHT, WIDTH
from torch_python import needs_torch, run_torch

from ppdet.core.workspace import load_config
from ppdet.data.sources import ImageFolder
from ppdet.engine.build import build_model, build_reader
from ppdet.engine.checkpoints.weights import load_weights
from ppdet.engine.weight_conversion import convert_file

ROOT = Path(__file__).resolve().parents[2]
SCALE = (0.625, 1.6)
pytestmark = needs_torch


def prepare(case, folder, name):
    """The converted model, a batch of the configuration's own reader, and what PyTorch made of the same image."""
    run_torch(Path(__file__).with_name("network.py"), name, folder)
    config = str(ROOT / f"configs/fcos/{case.config}.yml")
    source = next(folder.glob("theirs.p[kt]*"))
    convert_file(source, folder / "ours.pdparams", config=config, overrides=case.overrides)
    source.unlink()
    size = f"[{HEIGHT},{WIDTH}]"
    cfg = load_config(
        config,
        [
            *case.overrides,
            "worker_num=0",
            *(f"{reader}.sample_transforms.1.Resize.target_size={size}" for reader in ("EvalReader", "TestReader")),
        ],
    )
    model = build_model(cfg)
    load_weights(model, folder / "ours.pdparams", strict=case.code_base != "detectron2")
    (folder / "ours.pdparams").unlink()
    model.eval()
    theirs = dict(np.load(folder / "theirs.npz"))
    assert cv2.imwrite(str(folder / "image.png"), theirs["image"][:, :, ::-1])
    images = ImageFolder()
    images.set_images([str(folder / "image.png")])
    batch, tested = (next(iter(build_reader(cfg, reader, images))) for reader in ("EvalReader", "TestReader"))
    np.testing.assert_allclose(batch["image"].numpy(), theirs["input"], rtol=0, atol=1e-4)
    assert np.array_equal(batch["image"].numpy(), tested["image"].numpy())
    return model, batch, theirs


def in_order(rows):
    """Rows by class, and within it by score, the highest first."""
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


@pytest.mark.parametrize("name", CASES)
@paddle.no_grad()
def test_parity(tmp_path, name):
    case = CASES[name]
    model, batch, theirs = prepare(case, tmp_path, name)
    if case.code_base == "detectron2":
        ours = dict(zip(("c3", "c4", "c5"), model.backbone(batch["image"])))
    else:
        maps = model.predict_maps(batch["image"])
        ours = {f"{kind}{i}": level for kind in maps._fields for i, level in enumerate(getattr(maps, kind))}
    assert ours.keys() == theirs.keys() - {"image", "input", "detections"}
    for key, level in ours.items():
        np.testing.assert_allclose(level.numpy(), theirs[key], rtol=0, atol=1e-3, err_msg=key)
    if "detections" in theirs:
        # As if the image had been larger, or smaller: boxes are mapped back after suppression.
        scale = paddle.to_tensor([SCALE])
        rows, count = model.detect(maps, scale, batch["im_shape"])
        found, expected = in_order(rows.numpy()), in_order(theirs["detections"])
        expected[:, 2:] /= [SCALE[1], SCALE[0]] * 2
        if case.code_base == "fcos_plus":
            expected[:, 4:] += 1  # it writes widths and heights that count the last pixel of the original image
        assert len(found) == len(expected) == count.item() > 10
        assert np.array_equal(found[:, 0], expected[:, 0])
        np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=0, atol=1e-3)
        np.testing.assert_allclose(found[:, 2:], expected[:, 2:], rtol=0, atol=0.1)
