"""State dicts as other code bases name them: {name: shape}, built up as their modules are.

Written from their published descriptions, apart from the tables of ppdet/convert. `width`: channels of res2 over 4 in
bottlenecks, 64 in published networks.
"""

import numpy as np

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def norm(name, channels, *, counter=True):
    shapes = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{name}.num_batches_tracked": ()} if counter else shapes


def conv(name, channels_in, channels, kernel, *, bias=True, groups=1):
    shapes = {f"{name}.weight": (channels, channels_in // groups, kernel, kernel)}
    return {**shapes, f"{name}.bias": (channels,)} if bias else shapes


def resnet(depth=50, *, width=64, groups=1, base_width=64, variant="b", timm=False, dcn=None, counter=True):
    """torchvision's, timm's and MMDetection's. dcn: how its offsets are named, after `conv2`, in layer2 to layer4."""
    expansion = 4 if depth >= 50 else 1
    bn = {"counter": counter}
    if variant in "cd":
        names = ("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")
        names = names if timm else tuple(f"stem.{i}" for i in (0, 1, 3, 4, 6, 7))
        shapes, sizes = {}, (3, width // 2, width // 2, width)
        for i in range(3):
            shapes.update(conv(names[2 * i], sizes[i], sizes[i + 1], 3, bias=False))
            shapes.update(norm(names[2 * i + 1], sizes[i + 1], **bn))
    else:
        shapes = {**conv("conv1", 3, width, 7, bias=False), **norm("bn1", width, **bn)}
    channels_in = width
    for stage, count in enumerate(BLOCKS[depth]):
        planes = width * 2**stage
        inner = planes * base_width // 64 * groups if depth >= 50 else planes
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            kernels = (1, 3, 1) if depth >= 50 else (3, 3)
            sizes = (channels_in, inner, inner, planes * 4) if depth >= 50 else (channels_in, planes, planes)
            for i, kernel in enumerate(kernels):
                here = {"groups": groups} if depth >= 50 and i == 1 else {}
                shapes.update(conv(f"{name}.conv{i + 1}", sizes[i], sizes[i + 1], kernel, bias=False, **here))
                shapes.update(norm(f"{name}.bn{i + 1}", sizes[i + 1], **bn))
            if dcn and stage > 0:
                shapes.update(conv(f"{name}.conv2{dcn}", inner, 27, 3))
            if block == 0 and (stage > 0 or channels_in != planes * expansion):
                first = 1 if variant == "d" else 0
                shapes.update(
                    conv(f"{name}.downsample.{first}", channels_in, planes * expansion, 1, bias=False),
                    **norm(f"{name}.downsample.{first + 1}", planes * expansion, **bn),
                )
            channels_in = planes * expansion
    return shapes


def prefixed(prefix, shapes):
    return {prefix + name: shape for name, shape in shapes.items()}


def stages(depth, width):
    """Channels of C3, C4 and C5."""
    return [width * 2**i * (4 if depth >= 50 else 1) for i in (1, 2, 3)]


def mmdet(depth=50, *, width=64, channels=256, classes=80, old=False, tower_bias=False, dcn_tower=(), **backbone):
    """MMDetection. old: 1.x. tower_bias: conv_bias. dcn_tower: deformable layers of each tower."""
    shapes = prefixed("backbone.", resnet(depth, width=width, **backbone))
    for i, c in enumerate(stages(depth, width)):
        shapes.update(conv(f"neck.lateral_convs.{i}.conv", c, channels, 1))
    for i in range(5):
        shapes.update(conv(f"neck.fpn_convs.{i}.conv", channels, channels, 3))
    for kind in ("cls", "reg"):
        for i in range(4):
            name = f"bbox_head.{kind}_convs.{i}"
            shapes.update(conv(f"{name}.conv", channels, channels, 3, bias=tower_bias))
            if i in dcn_tower:
                shapes.update(conv(f"{name}.conv.conv_offset", channels, 27, 3))
            shapes.update({f"{name}.gn.weight": (channels,), f"{name}.gn.bias": (channels,)})
    last = "fcos" if old else "conv"
    for kind, rows in (("cls", classes), ("reg", 4), ("centerness", 1)):
        shapes.update(conv(f"bbox_head.{last}_{kind}", channels, rows, 3))
    return {**shapes, **{f"bbox_head.scales.{i}.scale": () for i in range(5)}}


def sequential_tower(name, channels, dcn=()):
    """Four times convolution, norm, ReLU. dcn: deformable layers, in maskrcnn-benchmark's way."""
    shapes = {}
    for i in range(4):
        inner = ".conv" if i in dcn else ""
        shapes.update(conv(f"{name}.{3 * i}{inner}", channels, channels, 3))
        if i in dcn:
            shapes.update(conv(f"{name}.{3 * i}.offset", channels, 27, 3))
        shapes.update({f"{name}.{3 * i + 1}.weight": (channels,), f"{name}.{3 * i + 1}.bias": (channels,)})
    return shapes


def fcos_plus(depth=50, *, width=64, channels=256, classes=80, dcn_tower=()):
    """FCOS_PLUS and FCOS's first code base: frozen norms, which count nothing."""
    body = {}
    for name, shape in resnet(depth, width=width, counter=False).items():
        body[f"stem.{name}" if name.startswith(("conv1.", "bn1.")) else name] = shape
    shapes = prefixed("backbone.body.", body)
    for i, c in enumerate(stages(depth, width), 2):
        shapes.update(conv(f"backbone.fpn.fpn_inner{i}", c, channels, 1))
        shapes.update(conv(f"backbone.fpn.fpn_layer{i}", channels, channels, 3))
    for name in ("p6", "p7"):
        shapes.update(conv(f"backbone.fpn.top_blocks.{name}", channels, channels, 3))
    for tower in ("cls_tower", "bbox_tower"):
        shapes.update(sequential_tower(f"rpn.head.{tower}", channels, dcn_tower))
    for kind, rows in (("cls_logits", classes), ("bbox_pred", 4), ("centerness", 1)):
        shapes.update(conv(f"rpn.head.{kind}", channels, rows, 3))
    return {**shapes, **{f"rpn.head.scales.{i}.scale": (1,) for i in range(5)}}


def torchvision(depth=50, *, width=64, channels=256, rows=91, old=False):
    """torchvision's fcos_resnet50_fpn. rows: of its classification. old: before 0.14."""
    shapes = prefixed("backbone.body.", resnet(depth, width=width))
    inner = "" if old else ".0"
    for i, c in enumerate(stages(depth, width)):
        shapes.update(conv(f"backbone.fpn.inner_blocks.{i}{inner}", c, channels, 1))
        shapes.update(conv(f"backbone.fpn.layer_blocks.{i}{inner}", channels, channels, 3))
    for name in ("p6", "p7"):
        shapes.update(conv(f"backbone.fpn.extra_blocks.{name}", channels, channels, 3))
    for kind in ("classification", "regression"):
        shapes.update(sequential_tower(f"head.{kind}_head.conv", channels))
    shapes.update(conv("head.classification_head.cls_logits", channels, rows, 3))
    shapes.update(conv("head.regression_head.bbox_reg", channels, 4, 3))
    shapes.update(conv("head.regression_head.bbox_ctrness", channels, 1, 3))
    return shapes


def classifier(depth=50, **backbone):
    """An ImageNet classifier of torchvision or timm."""
    width = backbone.get("width", 64)
    return {**resnet(depth, **backbone), **{"fc.weight": (1000, stages(depth, width)[-1]), "fc.bias": (1000,)}}


def detectron2(depth=50, *, width=64, prefix="", dcn=False):
    """detectron2's names of a classifier's backbone."""
    shapes = {}
    for name, shape in resnet(depth, width=width, dcn="_offset" if dcn else None, counter=False).items():
        parts = name.split(".")
        if parts[0] in ("conv1", "bn1"):
            layer = ["stem", "conv1", *(["norm"] if parts[0] == "bn1" else [])]
        else:
            layer = [f"res{int(parts[0][-1]) + 1}", parts[1]]
            if parts[2] == "downsample":
                layer += ["shortcut", *(["norm"] if parts[3] == "1" else [])]
            else:
                layer += [f"conv{parts[2][2]}", "norm"] if parts[2].startswith("bn") else [parts[2]]
        shapes[".".join([prefix + layer[0], *layer[1:], parts[-1]])] = shape
    return shapes


def caffe2(depth=50, *, width=64):
    """detectron2's R-50.pkl and R-101.pkl: norms with their statistics folded in, and a classifier."""
    shapes = {"conv1_b": (width,), "fc1000_w": (1000, width * 32), "fc1000_b": (1000,)}
    for name, shape in detectron2(depth, width=width).items():
        parts = name.split(".")
        if parts[-1].startswith("running_"):
            continue
        branch = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}
        layer = "conv1" if parts[0] == "stem" else f"{parts[0]}_{parts[1]}_{branch[parts[2]]}"
        if parts[-2] == "norm":
            layer = f"res_{layer}_bn" if parts[0] == "stem" else f"{layer}_bn"
            shapes[f"{layer}_{'s' if parts[-1] == 'weight' else 'b'}"] = shape
        else:
            shapes[f"{layer}_w"] = shape
    return shapes


def arrays(shapes, seed=None):
    """Arrays of these shapes: random ones, or zeros that take no memory."""
    if seed is None:
        return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in shapes.items():
        positive = name.endswith(("running_var", ".scale"))
        values[name] = rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.1, shape)
    return {name: np.asarray(value, np.float32) for name, value in values.items()}
