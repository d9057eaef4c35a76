"""Every shipped recipe trains at the rate, and for the steps, that its authors meant, on any number of devices."""

from pathlib import Path

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.training.auto_lr import learning_rate
from ppdet.engine.training.run_length import steps_per_iteration, total_steps

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 117266  # number of train2017's images that have boxes

# Rate for 16 images per step, epochs, where the rate falls (epochs; iterations of 16 images where max_iters counts).
COCO_1X, COCO_2X = (0.01, 12, (8, 11)), (0.01, 24, (16, 22))
PLUS_1X, PLUS_2X = (0.01, 90_000, (60_000, 80_000)), (0.01, 180_000, (120_000, 160_000))
RECIPES = {
    **dict.fromkeys(("fcos_r50_fpn_1x_coco", "fcos_r50_fpn_iou_1x_coco", "fcos_dcn_r50_fpn_1x_coco"), COCO_1X),
    **dict.fromkeys(("fcos_r50vd_ssld_fpn_1x_coco", "fcos_r50vd_ssld_fpn_iou_1x_coco"), COCO_1X),
    **dict.fromkeys(("fcos_r50_caffe_fpn_gn_1x_coco", "fcos_r101_caffe_fpn_gn_1x_coco"), COCO_1X),
    **dict.fromkeys(("fcos_r50_caffe_fpn_gn_tricks_1x_coco", "fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco"), COCO_1X),
    **dict.fromkeys(("fcos_r50_fpn_multiscale_2x_coco", "fcos_r50_fpn_iou_multiscale_2x_coco"), COCO_2X),
    **dict.fromkeys(("fcos_r50vd_ssld_fpn_multiscale_2x_coco", "fcos_x101_64x4d_fpn_gn_ms_2x_coco"), COCO_2X),
    **dict.fromkeys(("fcos_r50_caffe_fpn_gn_ms_2x_coco", "fcos_r101_caffe_fpn_gn_ms_2x_coco"), COCO_2X),
    **dict.fromkeys(("fcos_r50_fpn_2x_coco_sup005", "fcos_r50_fpn_2x_coco_sup010"), COCO_2X),
    **dict.fromkeys(("fcosplus_r50_fpn_1x_coco", "fcosplus_r50_fpn_1x_center_coco"), PLUS_1X),
    **dict.fromkeys(("fcosplus_r50_fpn_1x_center_giou_coco", "fcosplus_r50_fpn_1x_center_liou_coco"), PLUS_1X),
    **dict.fromkeys(("fcosplus_r101_fpn_2x_coco", "fcosplus_r101_fpn_2x_center_giou_coco"), PLUS_2X),
    "fcos_r50_fpn_torchvision_26e_coco": (0.01, 26, (16, 22)),
    "fcos_r50_view1025_12e_coco": (0.01, 12, (60_000, 80_000)),
    "fcos_r18_fpn_shapes": (0.008, 8, ()),
    "fcos_r18vd_fpn_bccd": (0.04, 16, (11, 15)),
    **dict.fromkeys(("fcos_r18vd_small", "fcos_r18vd_light"), (0.0028, 16, ())),
    "fcos_r18vd_light_crops": (0.0028, 50, ()),
    "fcos_r50vd_ssld_finetune": (0.0016, 16, ()),
    "fcos_r18vd_bccd_sup010": (0.04, 60, ()),
    "denseteacher_fcos_r18vd_bccd_semi010": (0.02, 100, ()),
    "denseteacher_fcos_r50_fpn_coco_full": (0.01, 24, (24,)),
    "denseteacher_fcos_r50_fpn_coco_semi005": (0.01, 240, (240,)),
    "denseteacher_fcos_r50_fpn_coco_semi010": (0.01, 240, (240,)),
    "denseteacher_fcos_r50_fpn_coco_semi010_lsj": (0.01, 240, (240,)),
}
YAML = (ROOT / "configs").glob("*/**/*.yml")
FILES = {path.stem: path for path in YAML if path.parent.name not in ("_base_", "datasets")}


def test_no_recipe_is_left_out():
    assert FILES.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_rate_and_steps(name, tmp_path):
    rate, length, milestones = RECIPES[name]
    cfg = load_config(FILES[name])
    cfg.dump(tmp_path / "merged.yml")
    for one in (cfg, load_config(tmp_path / "merged.yml")):
        for images in (2, 4, 16, 32):
            steps_per_epoch = IMAGES // images
            schedule = learning_rate(one, images)
            assert schedule.base_lr == pytest.approx(rate * images / 16)
            steps = length * 16 // images if length > 1000 else length * steps_per_epoch
            assert total_steps(one, steps_per_epoch, images) == steps
            factor = steps_per_iteration(one, "milestones", images)
            for number, milestone in enumerate(milestones):
                at = milestone * 16 // images if milestone > 1000 else milestone * steps_per_epoch
                rates = [schedule.rate(step, steps_per_epoch, factor) for step in (at - 1, at)]
                assert rates == pytest.approx([schedule.base_lr * 0.1**number, schedule.base_lr * 0.1 ** (number + 1)])
