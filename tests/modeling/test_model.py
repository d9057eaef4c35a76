"""Parts of the network against other ways to compute the same."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppdet.core.workspace import load_config
from ppdet.modeling.backbones import ResNet
from ppdet.modeling.layers import ConvNorm
from ppdet.modeling.necks.fpn import FPN, upsample_twice
from ppdet.utils.errors import ConfigError


@pytest.fixture
def model(tiny):
    model = load_config(str(tiny)).create("FCOS")
    model.eval()
    return model


def test_upsampling_is_nearest_neighbor():
    x = paddle.randn([2, 3, 5, 7])
    assert np.array_equal(upsample_twice(x).numpy(), F.interpolate(x, scale_factor=2, mode="nearest").numpy())


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("variant", ["a", "b", "c", "d"])
def test_backbone_strides_and_channels(depth, variant):
    backbone = ResNet(depth=depth, variant=variant, return_idx=[0, 1, 2, 3])
    backbone.eval()
    shapes = [tuple(m.shape) for m in backbone(paddle.randn([1, 3, 64, 96]))]
    width = 1 if depth == 18 else 4
    expected = [(1, 64 * 2**i * width, 64 // (4 * 2**i), 96 // (4 * 2**i)) for i in range(4)]
    assert shapes == expected
    assert [(s.channels, s.stride) for s in backbone.out_shape] == [(e[1], 64 // e[2]) for e in expected]


def test_what_trains():
    backbone = ResNet(depth=18, freeze_at=1, freeze_norm=False)
    trained = {n.split(".")[0] for n, p in backbone.named_parameters() if p.trainable}
    assert trained == {"res4", "res5"}
    everything = ResNet(depth=18, freeze_at=-1, freeze_norm=False)
    statistics = {n for n, p in everything.named_parameters() if not p.trainable}
    assert {n.rsplit(".", 1)[1] for n in statistics} == {"_mean", "_variance"}


def test_squeeze_and_excitation():
    """Every block ends with relu(shortcut + y * sigmoid(W2 relu(W1 mean(y)))): here y is what stands before it."""
    backbone = ResNet(depth=18, std_senet=True, return_idx=[3])
    assert sum("se.squeeze.weight" in name for name, _ in backbone.named_parameters()) == 8
    assert backbone(paddle.randn([1, 3, 64, 64]))[0].shape == [1, 512, 2, 2]
    block = backbone.stages[0][1]
    block.eval()
    x = paddle.randn([2, 64, 4, 6])
    y = block.branch2b(block.branch2a(x, relu=True)).numpy()
    first, second = block.se.squeeze, block.se.excitation
    assert first.weight.shape == [64, 4] and second.weight.shape == [4, 64]
    hidden = np.maximum(y.mean(axis=(2, 3)) @ first.weight.numpy() + first.bias.numpy(), 0)
    share = 1 / (1 + np.exp(-(hidden @ second.weight.numpy() + second.bias.numpy())))
    expected = np.maximum(x.numpy() + y * share[:, :, None, None], 0)
    np.testing.assert_allclose(block(x).numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "option",
    [{"depth": 20}, {"variant": "e"}, {"depth": 18, "groups": 32}, {"return_idx": [4]}, {"lr_mult_list": [1.0]}],
)
def test_wrong_backbones_are_refused(option):
    with pytest.raises(ValueError, match=r"ResNet\."):
        ResNet(**option)


@pytest.mark.parametrize("options", [{"has_extra_convs": False}, {"use_c5": True}, {"norm_type": "gn"}])
def test_neck_levels(options):
    neck = FPN(in_channels=[16, 32, 64], out_channel=32, **options)
    feats = [paddle.randn([1, c, 32 // 2**i, 64 // 2**i]) for i, c in enumerate((16, 32, 64))]
    levels = neck(feats)
    assert [tuple(m.shape[2:]) for m in levels] == [(32, 64), (16, 32), (8, 16), (4, 8), (2, 4)]
    assert [s.stride for s in neck.out_shape] == [8, 16, 32, 64, 128]
    if options.get("has_extra_convs") is False:
        assert np.array_equal(levels[3].numpy(), levels[2].numpy()[:, :, ::2, ::2])


def test_folded_batch_norm_gives_the_same():
    layer = ConvNorm(3, 8, 3, freeze_norm=False)
    layer.norm._mean.set_value(paddle.randn([8]))
    layer.norm._variance.set_value(paddle.rand([8]) + 0.5)
    layer.norm.weight.set_value(paddle.randn([8]))
    layer.eval()
    x = paddle.randn([2, 3, 9, 9])
    before = layer(x).numpy()
    assert layer.fuse()
    assert isinstance(layer.norm, paddle.nn.Identity)
    assert np.allclose(layer(x).numpy(), before, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_fresh_distances_are_positive_everywhere(seed):
    paddle.seed(seed)
    model = load_config("configs/fcos/fcos_r18vd_fpn_bccd.yml").create("FCOS")
    with paddle.no_grad():
        maps = model.predict_maps(paddle.randn([1, 3, 128, 128]))
    assert min(float(d.min()) for d in maps.distances) > 0


def test_decoding_by_hand(model):
    head = model.fcos_head
    with paddle.no_grad():
        maps = model.predict_maps(paddle.randn([1, 3, 64, 96]))
        boxes, scores, *_ = model.decode(maps, paddle.to_tensor([[0.5, 2.0]]))
    level, row, column, stride = 1, 2, 3, 16
    width = 96 // stride
    index = (64 // 8) * (96 // 8) + row * width + column
    left, top, right, bottom = maps.distances[level].numpy()[0, :, row, column] * stride
    x, y = (column + 0.5) * stride, (row + 0.5) * stride
    # scale_factor is (y, x): back in the image, x is divided by 2 and y by 0.5.
    expected = [(x - left) / 2, (y - top) / 0.5, (x + right) / 2, (y + bottom) / 0.5]
    assert np.allclose(boxes.numpy()[0, index], expected, rtol=1e-5)

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    class_probability = sigmoid(maps.logits[level].numpy()[0, :, row, column])
    quality = sigmoid(maps.quality[level].numpy()[0, 0, row, column])
    assert np.allclose(scores.numpy()[0, :, index], class_probability * quality, rtol=1e-5)
    head.decoder.sqrt_score = True
    assert np.allclose(head.decode(maps)[1].numpy(), np.sqrt(scores.numpy()), rtol=1e-5)


@pytest.mark.parametrize("sqrt_score", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.1, 0.9])
def test_suppression_of_candidates_is_suppression_of_everything(model, sqrt_score, threshold):
    """The rows are the same, and hardly a location comes along that cannot give one."""
    paddle.seed(0)
    head = model.fcos_head
    head.decoder.sqrt_score, head.nms.score_threshold = sqrt_score, threshold
    with paddle.no_grad():
        maps = model.predict_maps(paddle.randn([2, 3, 64, 96]))
        for logits in maps.logits:
            logits.add_(paddle.randn(logits.shape) * 2)
        scale = paddle.ones([2, 2])
        boxes, scores, *_ = model.decode(maps, scale)
        few_boxes, few_scores, *_ = model.decode(maps, scale, score_threshold=threshold)
        expected, actual = head.nms(boxes, scores), model.detect(maps, scale)
    possible = (scores.numpy() > threshold).any(axis=(0, 1))
    assert few_boxes.shape[1] == few_scores.shape[2] >= possible.sum()
    assert few_boxes.shape[1] <= possible.sum() + len(maps.logits) or threshold == 0
    assert actual[1].tolist() == expected[1].tolist()
    # The last bit of a sigmoid depends on where in a tensor its argument is.
    assert np.allclose(actual[0].numpy(), expected[0].numpy(), rtol=1e-6)


def test_nothing_above_the_threshold(model):
    model.fcos_head.nms.score_threshold = 0.999
    with paddle.no_grad():
        rows, count = model({"image": paddle.randn([2, 3, 64, 64]), "scale_factor": paddle.ones([2, 2])})
    assert rows.shape[1] == 6 and count.tolist() == [0, 0] and rows.shape[0] == 0


def test_unpadded_images_are_refused_with_advice(model):
    with pytest.raises(ValueError, match="PadBatch"):
        model.predict_maps(paddle.randn([1, 3, 70, 64]))


def test_channels_that_do_not_fit_name_both(tiny):
    with pytest.raises(ConfigError, match=r"feat_in is 32, but the neck gives 16 channels"):
        load_config(str(tiny), ["FPN.out_channel=16"]).create("FCOS")


def test_levels_that_do_not_fit_name_the_strides(tiny):
    with pytest.raises(ConfigError, match=r"fpn_stride .*\[8, 16, 32\]") as error:
        load_config(str(tiny), ["FCOSHead.fpn_stride=[8,16,32,64,128]"]).create("FCOS")
    for setting in ("ResNet.return_idx", "FPN.extra_stage", "Gt2FCOSTarget.downsample_ratios", "object_sizes_boundary"):
        assert setting in str(error.value)


def test_a_level_of_stride_4_changes_no_other(model, tiny, layers):
    """All weights of a detector without it fit in; P2 is the sum of C2's and the enlarged P3's, by plain operators."""
    finer = load_config(str(tiny), ["ResNet.return_idx=[0,1,2]", "FCOSHead.fpn_stride=[4,8,16,32]"]).create("FCOS")
    finer.eval()
    weights = finer.state_dict()
    own = {"neck.fpn_inner_res3_sum_lateral", "neck.fpn_res3_sum", "fcos_head.p2_feat"}
    assert {name.rpartition(".")[0] for name in weights.keys() - model.state_dict().keys()} == own
    for name, value in model.state_dict().items():
        weights[name].set_value(value)
    assert [spec.stride for spec in finer.neck.out_shape] == [4, 8, 16, 32]
    images = paddle.randn([2, 3, 64, 96])
    with paddle.no_grad():
        coarse, fine = model.predict_maps(images), finer.predict_maps(images)
        for ours, theirs in zip(fine, coarse):
            assert [list(level.shape[2:]) for level in ours] == [[16, 24], [8, 12], [4, 6], [2, 3]]
            assert all(np.array_equal(one.numpy(), other.numpy()) for one, other in zip(ours[1:], theirs))
        c2, c3, c4 = finer.backbone(images)
        laterals = zip(finer.neck.lateral_convs, (c2, c3, c4))
        m2, m3, m4 = (F.conv2d(x, conv.weight, conv.bias) for conv, x in laterals)
        merged = m2 + F.interpolate(m3 + F.interpolate(m4, scale_factor=2), scale_factor=2)
        p2 = F.conv2d(merged, finer.neck.fpn_convs[0].weight, finer.neck.fpn_convs[0].bias, padding=1)
        assert np.allclose(finer.neck(finer.backbone(images))[0].numpy(), p2.numpy(), rtol=1e-4, atol=1e-4)
        pixels = finer.in_pixels(fine).distances
        assert all(np.allclose(p.numpy(), s * d.numpy()) for p, d, s in zip(pixels, fine.distances, (4, 8, 16, 32)))
