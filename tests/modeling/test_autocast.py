"""Types of mixed precision on a GPU, layer by layer, by Paddle's own rules (tests/autocast.py)."""

import functools
import re
import subprocess
import sys

import paddle
import pytest
from autocast import NAMES, NO_KERNEL, SMALL, as_on_a_gpu, decide
from paddle import nn

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.engine.training.precision import Precision
from ppdet.modeling.heads.fcos_head import FCOSFeat

LEVELS = [(level, dtype) for level in ("O1", "O2") for dtype in SMALL]
SMALL_HEAD = ["FPN.out_channel=32", "FCOSHead.fcos_feat={name: FCOSFeat, feat_in: 32, feat_out: 32}", "num_classes=3"]
NETWORKS = {
    "R50": ("configs/fcos/fcos_r50_fpn_1x_coco.yml", []),
    "R50-vd, deformable": ("configs/fcos/fcos_dcn_r50_fpn_1x_coco.yml", ["ResNet.variant=d"]),
    "R18, squeeze and excitation, trained batch norm": (
        "configs/fcos/fcos_r50_fpn_1x_coco.yml",
        ["ResNet={depth: 18, freeze_norm: false, freeze_at: -1, std_senet: true}", "FPN.norm_type=bn"],
    ),
}
# What an FCOS head does with the maps of its last convolutions, all of it in float32.
LAST = {"cast", "reshape", "reshape2", "elementwise_add", "elementwise_mul", "relu"}
DEFORMED = {"cast", "split", "sigmoid", "deformable_conv", "reshape", "reshape2", "elementwise_add"}  # its bias
PROBE = """
import sys, paddle
from paddle.nn import functional as F
tracer, core = paddle.base.framework._dygraph_tracer(), paddle.base.core
x = {"small": None, "float32": paddle.ones([1, 32, 4, 4])}
w, v, gn, sbn = paddle.ones([32, 32, 1, 1]), paddle.ones([32]), paddle.nn.GroupNorm(8, 32), paddle.nn.SyncBatchNorm(32)
calls = {
    "conv2d": lambda a, b: F.conv2d(a, w), "elementwise_add": lambda a, b: a + b, "elementwise_mul": lambda a, b: a * b,
    "relu": lambda a, b: F.relu(a), "pool2d": lambda a, b: F.max_pool2d(a, 2),
    "group_norm": lambda a, b: gn(a), "unsqueeze2": lambda a, b: a.unsqueeze(4),
    "batch_norm": lambda a, b: F.batch_norm(a, v, v, v, v), "expand_v2": lambda a, b: a.expand([2, 32, 4, 4]),
    "flatten_contiguous_range": lambda a, b: a.flatten(1), "reduce_mean": lambda a, b: a.mean(axis=[2, 3]),
    "sync_batch_norm_": lambda a, b: sbn(a),
    "exp": lambda a, b: a.exp(), "matmul_v2": lambda a, b: paddle.matmul(a, b), "sigmoid": lambda a, b: F.sigmoid(a),
}
for dtype in ("float16", "bfloat16"):
    x["small"] = x["float32"].astype(dtype)
    for level in ("O1", "O2"):
        options = {"level": level, "dtype": dtype, "use_promote": level == "O1", "custom_white_list": {"group_norm"}}
        white, black = sys.modules["paddle.amp.auto_cast"]._update_list({"group_norm"}, None, level, dtype)
        for name, call in calls.items():
            for first in x:
                for second in x if name in ("elementwise_add", "matmul_v2") else ["small"]:
                    print("CASE", name, level, dtype, first, second, file=sys.stderr, flush=True)
                    tracer._set_amp_op_list(white, black)
                    tracer._use_promote = level == "O1"
                    tracer._amp_level, tracer._amp_dtype = getattr(core.AmpLevel, level), dtype
                    try:
                        call(x[first], x[second])
                    except Exception:
                        pass  # no such kernel on a CPU; the decision was made before
                    tracer._amp_level = core.AmpLevel.O0
"""


def test_the_rules_are_paddles():
    """Paddle's own code decides the same; on a CPU it then takes float32 in its place, and says so in its log."""
    environment = {"GLOG_v": "6", "GLOG_logtostderr": "1", "PATH": "/usr/bin:/bin"}
    printed = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True).stderr
    cases = printed.split("CASE ")[1:]
    assert len(cases) == (13 * 2 + 2 * 4) * 4
    tracer = paddle.base.framework._dygraph_tracer()
    lists = tracer._get_amp_op_list()
    try:
        for case in cases:
            name, level, dtype, *inputs = case.split("\n", 1)[0].split()
            theirs = paddle.float32
            if name == "sync_batch_norm_":  # its map stays as it is, and so do its statistics
                assert "No AMP for sync_batch_norm__ad_func because" in case and "GetAmpDestDtype" not in case
                continue
            if re.search(rf"Change {name}'s AMP type from \w+ to FP32", case):
                theirs = SMALL[dtype]
            assert decision(tracer, name, level, dtype, inputs) == theirs, case[:300]
    finally:
        tracer._set_amp_op_list(*lists)
        tracer._amp_level, tracer._use_promote = paddle.base.core.AmpLevel.O0, False


def decision(tracer, name, level, dtype, inputs):
    module = sys.modules["paddle.amp.auto_cast"]
    tracer._set_amp_op_list(*module._update_list({"group_norm"}, None, level, dtype))
    tracer._amp_level, tracer._amp_dtype = getattr(paddle.base.core.AmpLevel, level), dtype
    tracer._use_promote = level == "O1"
    x = {"small": paddle.ones([1]).astype(dtype), "float32": paddle.ones([1])}
    tensors = [x[kind] for kind in inputs]
    others = {"group_norm": 2, "batch_norm": 4, "conv2d": 1}
    if name in others:
        tensors = [tensors[0], *[x["float32"]] * others[name]]
    elif not name.startswith(("elementwise", "matmul")):
        tensors = tensors[:1]
    return decide(name, tensors)


@functools.cache
def network(name):
    path, own = NETWORKS[name]
    return build_model(load_config(path, ["pretrain_weights=null", *SMALL_HEAD, *own]))


def precision(level, dtype, *options, setting="amp"):
    path, _ = NETWORKS["R50"]
    cfg = load_config(path, [f"{setting}=true", f"amp_level={level}", f"amp_dtype={dtype}", *options])
    return Precision(cfg, setting)


def types_of_layers(model, forward):
    """The type of every layer's result by name, if the result is one or several maps."""
    types = {}

    def remember(name):
        def hook(layer, inputs, outputs):
            found = [t for t in paddle.utils.flatten(outputs) if isinstance(t, paddle.Tensor)]
            types.setdefault(name, set()).update(t.dtype for t in found if t.ndim == 4)

        return hook

    hooks = [layer.register_forward_post_hook(remember(name)) for name, layer in model.named_sublayers()]
    result = forward()
    for hook in hooks:
        hook.remove()
    return types, result


@pytest.mark.parametrize(
    ("name", "level", "dtype"),
    [
        ("R50", "O1", "bfloat16"),
        ("R50-vd, deformable", "O1", "bfloat16"),
        ("R50-vd, deformable", "O2", "float16"),
        *(("R18, squeeze and excitation, trained batch norm", *case) for case in LEVELS),
    ],
)
def test_maps_are_small_from_the_first_layer_to_the_last(name, level, dtype):
    model = network(name)
    model.train()
    small = SMALL[dtype]
    with as_on_a_gpu() as autocast:
        made = precision(level, dtype)
        with made.forward():
            types, maps = types_of_layers(model, lambda: model.predict_maps(paddle.rand([1, 3, 64, 64])))
    assert {level_map.dtype for field in maps for level_map in field} == {paddle.float32}
    float32 = {layer for layer, found in types.items() if found == {paddle.float32}}
    deformed = {n for n, layer in model.named_sublayers() if isinstance(layer, paddle.vision.ops.DeformConv2D)}
    of_head = {"fcos_head", *(name for name, _ in model.fcos_head.named_sublayers(prefix="fcos_head"))}
    last = {name for name in of_head & set(types) if not name.startswith("fcos_head.fcos_feat")}
    assert float32 == deformed | last
    assert all(found == {small} for layer, found in types.items() if layer not in float32 and found)
    assert len(types) - len(float32) > 40 and bool(deformed) is ("deformable" in name)

    # Every operation on maps; what has one image as its first dimension is one, and no weight.
    on_maps = [call for call in autocast.calls for shape, _ in call.results[:1] if len(shape) > 3 and shape[0] == 1]
    assert {call.dtype for call in on_maps} == {small, paddle.float32}
    wide = {
        call.name
        for call in on_maps
        for shape, kind in call.results
        if kind == paddle.float32 and len(shape) > 3 and shape[1] not in (1, 3, 4)  # the head's last maps
    }
    assert wide <= DEFORMED if deformed else not wide
    assert {call.name for call in on_maps if call.results[0][1] == paddle.float32} - wide <= LAST
    assert not [call for call in autocast.calls if call.name in NO_KERNEL[dtype] and call.dtype != paddle.float32]


@pytest.mark.skipif(not paddle.is_compiled_with_cuda(), reason="this Paddle has no kernels for GPUs (make gpu-wheel)")
@pytest.mark.parametrize("dtype", SMALL)
def test_gpus_have_every_kernel_of_the_smaller_type(dtype):
    """Forward and backward, by the registry of the Paddle for GPUs; and what auto_cast knows to have none has none."""
    core, called = paddle.base.core, set()
    for name, level in (("R50-vd, deformable", "O2"), ("R18, squeeze and excitation, trained batch norm", "O1")):
        model = network(name)
        with as_on_a_gpu() as autocast, precision(level, dtype).forward():
            model.predict_maps(paddle.rand([1, 3, 64, 64]))
        called |= {call.name for call in autocast.calls if call.dtype == SMALL[dtype]} - {"linear"}  # matmul and add
    kinds = {"float16": core.VarDesc.VarType.FP16, "bfloat16": core.VarDesc.VarType.BF16}
    without = set(core.op_supported_infos("GPU", kinds[dtype])[2])
    assert without >= NO_KERNEL[dtype] and not (called - {"cast"}) & without
    functions = {name: function for function, name in NAMES.items()}
    kernels = core._get_registered_phi_kernels()
    for name in {functions.get(name, name) for name in called}:
        for kernel in (name, f"{name}_grad"):
            found = kernels.get(kernel, [f"GPU, {dtype})"] if kernel == "split_grad" else [])  # a concat
            assert any("GPU" in key and key.endswith(f"{dtype})") for key in found), kernel


def test_a_group_norm_of_float32_where_it_is_asked_for():
    towers = FCOSFeat(feat_in=32, feat_out=32, num_convs=1)
    with as_on_a_gpu() as autocast:
        for options, expected in (([], paddle.float16), (["custom_black_list=[group_norm]"], paddle.float32)):
            with precision("O1", "float16", *options).forward():
                towers(paddle.rand([1, 32, 8, 8]))
            found = {call.dtype for call in autocast.calls if call.name == "group_norm"}
            assert found == {expected}
            autocast.calls.clear()


@pytest.mark.parametrize(("level", "dtype"), LEVELS)
def test_biases_lose_nothing_in_the_last_convolutions(level, dtype):
    """A bias of -4.6 and a small product: the sum has float32's digits, and so have the scores."""
    from ppdet.modeling.layers import Conv2D

    conv = Conv2D(8, 3, 3, padding=1)
    conv.float_result = True
    conv.bias.set_value(paddle.full([3], -4.595))
    x = paddle.rand([1, 8, 5, 5]).astype(dtype)
    with as_on_a_gpu(), precision(level, dtype).forward():
        y = conv(x)
    product = nn.functional.conv2d(*(v.astype(dtype).astype("float32") for v in (x, conv.weight)), padding=1)
    expected = product.astype(dtype).astype("float32") - 4.595
    assert float((y - expected).abs().max()) < 1e-6 and y.dtype == paddle.float32


def test_deformable_towers_are_float32_inside_alone():
    towers = FCOSFeat(feat_in=32, feat_out=32, num_convs=1, use_dcn=True)
    with as_on_a_gpu() as autocast, precision("O2", "bfloat16").forward():
        found = towers(paddle.rand([1, 32, 8, 8]).astype("bfloat16"))
    assert {f.dtype for f in found} == {paddle.bfloat16}
    assert [call.dtype for call in autocast.calls if call.name == "deformable_conv"] == [paddle.float32] * 2
