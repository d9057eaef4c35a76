"""Parameters and multiplications are those that are published, or that follow from shapes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.engine.model_info import measure

ROOT = Path(__file__).resolve().parents[2]


def measured(config, options, height, width, **more):
    model = build_model(load_config(str(ROOT / "configs" / config), options))
    return {part.name: part for part in measure(model, height, width, **more)}


def test_published_figures():
    """torchvision's page of fcos_resnet50_fpn: 32,269,600 parameters, those of frozen batch norms not counted; of
    resnet50: 25,557,032 parameters with a classifier of 2,049,000; 4.09 GFLOPs at 224 x 224, 2.05 M of it there."""
    parts = measured("fcos/fcos_r50_fpn_torchvision_26e_coco.yml", ["num_classes=91"], 224, 224, depth=3)
    norms, scales = 2 * 26560, 5  # of the levels, which torchvision does not have
    assert parts[""].parameters - norms - scales == 32269600
    backbone = parts["backbone"]
    assert backbone.parameters == 25557032 - 2049000
    assert backbone.multiplications / 1e9 == pytest.approx(4.09 - 0.002, abs=0.005)
    # conv1 gives 64 maps of half the size, each number of them from 3 x 7 x 7.
    assert (
        parts["backbone.conv1"].multiplications == 112 * 112 * 64 * 147 and parts["backbone.conv1"].maps == 112**2 * 64
    )
    # The stem and res2 are frozen, as all batch norms are.
    frozen = parts["backbone.conv1"].parameters + parts["backbone.res2"].parameters
    norms_there = 2 * (64 + 3 * (64 + 64 + 256) + 256)
    assert parts["backbone.conv1"].trained == parts["backbone.res2"].trained == 0
    assert backbone.trained == backbone.parameters - frozen - (norms - norms_there)
    for column in ("parameters", "trained", "multiplications", "maps"):
        tops = [getattr(parts[name], column) for name in ("backbone", "neck", "fcos_head")]
        assert sum(tops) == getattr(parts[""], column)


def test_shared_towers_count_at_every_level():
    parts = measured("fcos/fcos_r50_fpn_1x_coco.yml", [], 256, 384)
    locations = sum(256 // stride * (384 // stride) for stride in (8, 16, 32, 64, 128))
    assert parts["fcos_head.fcos_feat"].multiplications == locations * 8 * 256 * 256 * 9
    assert parts["fcos_head.fcos_head_cls"].multiplications == locations * 80 * 256 * 9


def test_deformable_convolutions_count_with_their_offsets():
    plain = measured("fcos/fcos_r50_fpn_1x_coco.yml", [], 128, 128)["backbone.res5"]
    parts = measured("fcos/fcos_r50_fpn_1x_coco.yml", ["ResNet.dcn_v2_stages=[3]"], 128, 128)["backbone.res5"]
    assert parts.multiplications - plain.multiplications == 3 * 4 * 4 * 27 * 512 * 9
    assert parts.parameters - plain.parameters == 3 * (27 * 512 * 9 + 27)


def test_tool(tiny):
    command = [sys.executable, str(ROOT / "tools" / "model_info.py"), "-c", str(tiny), "--size", "60", "100"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "one image of 64 x 128 pixels" and lines[-1].startswith("all ")
    assert {line.split()[0] for line in lines[2:]} >= {"backbone", "conv1", "neck", "fcos_head", "fcos_feat"}
