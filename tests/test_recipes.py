"""What the published recipes say of training and detection is what their configurations give."""

import pytest

from ppdet.core.workspace import load_config

MMDET = ["fcos_r50_caffe_fpn_gn_1x_coco", "fcos_r101_caffe_fpn_gn_1x_coco", "fcos_r50_caffe_fpn_gn_ms_2x_coco"]
MMDET += ["fcos_r101_caffe_fpn_gn_ms_2x_coco", "fcos_x101_64x4d_fpn_gn_ms_2x_coco"]
TRICKS = ["fcos_r50_caffe_fpn_gn_tricks_1x_coco", "fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco"]
CENTER = ["fcosplus_r50_fpn_1x_center_coco", "fcosplus_r50_fpn_1x_center_liou_coco"]
CENTER += ["fcosplus_r50_fpn_1x_center_giou_coco", "fcosplus_r101_fpn_2x_center_giou_coco"]
PLUS = ["fcosplus_r50_fpn_1x_coco", "fcosplus_r101_fpn_2x_coco", *CENTER]
TORCHVISION, VIEW = "fcos_r50_fpn_torchvision_26e_coco", "fcos_r50_view1025_12e_coco"


def recipe(name, *options):
    return load_config(f"configs/fcos/{name}.yml", options)


def transforms(cfg, reader):
    settings = cfg.component(reader)
    listed = [*settings["sample_transforms"], *settings["batch_transforms"]]
    return {kind: values for one in listed for kind, values in one.items()}


@pytest.mark.parametrize("name", [*MMDET, *TRICKS, *PLUS, TORCHVISION])
def test_boxes(name):
    """How boxes are learned and decoded: head, loss and targets have to agree."""
    cfg = recipe(name)
    head, targets = cfg.component("FCOSHead"), transforms(cfg, "TrainReader")["Gt2FCOSTarget"]
    modern = name in (*TRICKS, TORCHVISION)
    assert head["norm_reg_targets"] == targets["norm_reg_targets"] == head["centerness_on_reg"] == modern
    loss = head["fcos_loss"]
    kind = {"fcosplus_r50_fpn_1x_center_liou_coco": "linear_iou"}.get(
        name, "giou" if modern or "giou" in name else "iou"
    )
    assert loss["iou_loss_type"] == kind
    assert loss.get("iou_smoothing", 1.0) == (1.0 if name in PLUS else 0.0)
    assert loss.get("count_images", False) == (name != TORCHVISION)
    assert loss["average_over_ranks"] is False
    assert targets["center_sampling_radius"] == (1.5 if modern or name in CENTER else 0.0)
    assert targets.get("inclusive_bounds", False) == (name != TORCHVISION)
    assert targets.get("last_pixel", False) == (name in PLUS)
    shift = 0.0 if name == TORCHVISION else 0.5
    assert head["num_shift"] == targets.get("num_shift", 0.5) == shift


@pytest.mark.parametrize("name", [*MMDET, *TRICKS, *PLUS, TORCHVISION])
def test_detections(name):
    head = recipe(name, "ResNet.depth=18", "ResNet.groups=1", "ResNet.base_width=64").create("FCOS").fcos_head
    threshold = None if name == TORCHVISION else 0.05
    decoder = head.decoder
    assert (decoder.class_threshold, decoder.level_top_k, head.nms.keep_top_k) == (threshold, 1000, 100)
    assert head.nms.score_threshold == (0.2 if name == TORCHVISION else 0.0) and head.nms.nms_top_k == -1
    assert head.nms.nms_threshold == (0.5 if name in MMDET else 0.6)
    assert decoder.sqrt_score == (name in PLUS or name == TORCHVISION)
    assert decoder.level_top_k_of == ("locations" if name in (*MMDET, *TRICKS) else "classes")
    assert decoder.clip_boxes and head.locations.last_pixel == (name in PLUS)


CAFFE_MEAN, TRICKS_MEAN = [102.9801, 115.9465, 122.7717], [103.53, 116.28, 123.675]


@pytest.mark.parametrize("name", [*MMDET, *TRICKS, *PLUS])
def test_images(name):
    cfg = recipe(name)
    wanted = {"mean": TRICKS_MEAN if name in TRICKS else CAFFE_MEAN, "std": [1, 1, 1], "is_scale": False}
    wanted["channel_order"] = "bgr"
    if "x101" in name:
        wanted = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "is_scale": True}
    for reader in ("TrainReader", "EvalReader", "TestReader"):
        listed = transforms(cfg, reader)
        assert listed["NormalizeImage"] == wanted and listed["PadBatch"] == {"pad_to_stride": 32}
    backbone = cfg.component("ResNet")
    assert backbone["variant"] == ("b" if "x101" in name else "a")
    assert backbone["depth"] == (101 if "101" in name else 50) and backbone["freeze_at"] == 0
    assert cfg["pretrain_weights"].endswith("ee2c6f71.pth" if "x101" in name else f"MSRA/R-{backbone['depth']}.pkl")


@pytest.mark.parametrize(
    ("names", "warm", "steps"),
    [
        (MMDET[:2], [1 / 3, 1 / 3], [60000, 82500, 90000]),
        (TRICKS, [1 / 3, 2 / 3], [60000, 82500, 90000]),
        (MMDET[2:], [1 / 3, 1 / 3], [120000, 165000, 180000]),
        ([n for n in PLUS if "r50" in n], [1 / 3, 1 / 3], [60000, 80000, 90000]),
        ([n for n in PLUS if "r101" in n], [1 / 3, 1 / 3], [120000, 160000, 180000]),
        ([VIEW], [1 / 3, 2 / 3], [60000, 80000, 90000]),
    ],
)
def test_schedule(names, warm, steps):
    """At 16 images per step, 7,500 of which were published as an epoch; warm-up of 500 steps."""
    first, second, end = steps
    for name in names:
        cfg = recipe(name)
        rate = cfg.create("LearningRate")
        at = [rate.rate(step, 7500) / 0.01 for step in (0, 250, 500, first - 1, first, second, end - 1)]
        assert at == pytest.approx([*warm, 1, 1, 0.1, 0.01, 0.01])
        assert (cfg["max_iters"] or cfg["epoch"] * 7500) == end


@pytest.mark.parametrize(
    ("name", "clip", "bias", "norm_bias", "offset"),
    [
        (MMDET[0], 35, (2, 0.0), (1, 1e-4), None),
        (TRICKS[0], None, (2, 0.0), (1, 1e-4), None),
        (TRICKS[1], None, (2, 0.0), (1, 1e-4), (1, 1e-4)),
        (PLUS[0], None, (2, 0.0), (2, 0.0), None),
        (TORCHVISION, None, (1, 1e-4), (1, 1e-4), None),
    ],
)
def test_optimizer(name, clip, bias, norm_bias, offset):
    """Factor of the learning rate, and weight decay, of each kind of parameter."""
    cfg = recipe(name, "ResNet.depth=18")
    model = cfg.create("FCOS")
    optimizer = cfg.create("OptimizerBuilder")(0.01, model)
    assert (optimizer._grad_clip.clip_norm if optimizer._grad_clip else None) == clip
    seen = set()
    for parameter_name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        decay = 1e-4 if parameter.regularizer is None else parameter.regularizer._coeff
        found = parameter.optimize_attr["learning_rate"], decay
        last = parameter_name.split(".")[-3:]
        if last[-2:] == ["conv_offset", "bias"]:
            kind, wanted = "offset bias", offset
        elif last[-1] == "bias":
            kind, wanted = ("norm bias", norm_bias) if last[-2] == "norm" else ("bias", bias)
        else:
            kind, wanted = "weight", (1, 1e-4)
        assert found == pytest.approx(wanted), parameter_name
        seen.add(kind)
    assert seen == {"weight", "bias", "norm bias", *(["offset bias"] if offset else [])}


def test_backbones():
    x101, dcn = recipe(MMDET[4]).component("ResNet"), recipe(TRICKS[1]).component("ResNet")
    assert (x101["groups"], x101["base_width"], x101["freeze_norm"]) == (64, 4, "statistics")
    assert (
        dcn["dcn_v2_stages"] == [1, 2, 3] and recipe(TRICKS[1]).component("FCOSHead")["fcos_feat"]["use_dcn"] == "last"
    )


def test_sizes():
    two = [[640, 1333], [800, 1333]]
    for name in MMDET[2:]:
        assert transforms(recipe(name), "TrainReader")["RandomResize"]["target_size"] == two
    for name in ("fcosplus_r101_fpn_2x_coco", "fcosplus_r101_fpn_2x_center_giou_coco"):
        resize = transforms(recipe(name), "TrainReader")["RandomResize"]
        assert resize["target_size"] == two and resize["random_range"] is True
    view = transforms(recipe(VIEW), "TrainReader")
    assert view["RandomResize"]["scale_range"] == [0.8, 1.0] and view["RandomResize"]["target_size"] == 1025
    assert view["PadBatch"]["pad_to_size"] == 1025 and view["Gt2FCOSTarget"]["min_box_area"] == 32
    assert recipe(VIEW).component("OptimizerBuilder")["clip_grad_by_norm"] == 3
