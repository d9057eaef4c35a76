"""The training step of FCOS in PyTorch, to compare its time and memory with ppdet's.

The network has the same layers, frozen parts, losses, optimizer and parameter names as
configs/fcos/fcos_r50_fpn_1x_coco.yml and fcos_r18vd_fpn_bccd.yml, and runs in eager mode. It needs only PyTorch, in an
environment of its own: `make benchmark-peer`. It prints one line of JSON: `seconds` is the median of a step (forward,
losses, backward, optimizer); `gflop_forward` and `gflop_step` are 10^9 floating-point operations of the convolutions.
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLES = """examples:
  .venv-peer/bin/python benchmarks/peer/fcos_torch.py --channels_last
  .venv-peer/bin/python benchmarks/peer/fcos_torch.py --model r18vd --height 320 --width 448 --batch 4 --dtype bfloat16
"""


class Setup(NamedTuple):
    """What the two configurations have differently.

    Attributes:
        blocks: number of residual blocks in each stage, res2 to res5.
        bottleneck: whether blocks have three convolutions instead of two.
        variant: variant of the ResNet, "b" or "d", as in the configuration.
        frozen: whether batch norms, and the layers up to res2, are not trained.
        classes: number of object classes.
        clip: the norm to which gradients are clipped; None for no clipping.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    variant: str
    frozen: bool
    classes: int
    clip: float | None


SETUPS = {
    "r50": Setup((3, 4, 6, 3), bottleneck=True, variant="b", frozen=True, classes=80, clip=None),
    "r18vd": Setup((2, 2, 2, 2), bottleneck=False, variant="d", frozen=False, classes=3, clip=10.0),
}


class FrozenBatchNorm(nn.BatchNorm2d):
    """A batch norm that uses its stored statistics in training too, and does not train its scale and bias.

    It is one affine map, which is faster in PyTorch than its batch norm with stored statistics, and takes a fifth less
    memory, because the gradient does not need the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift.to(x.dtype).view(1, -1, 1, 1), x, scale.to(x.dtype).view(1, -1, 1, 1))


def chain(**layers: nn.Module) -> nn.Sequential:
    """Return a sequence of layers with these names."""
    chained = nn.Sequential()
    for name, layer in layers.items():
        chained.add_module(name, layer)
    return chained


def conv_norm(channels: int, out: int, kernel: int, stride: int, frozen: bool) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return chain(conv=conv, norm=FrozenBatchNorm(out) if frozen else nn.BatchNorm2d(out))


class Block(nn.Module):
    """A residual block: 3x3 and 3x3 convolutions, or 1x1, 3x3 (with the stride) and 1x1."""

    def __init__(self, channels: int, width: int, stride: int, project: bool, setup: Setup) -> None:
        super().__init__()
        shapes = [(channels, width, 3, stride), (width, width, 3, 1)]
        if setup.bottleneck:
            shapes = [(channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        self.branches = [f"branch2{letter}" for letter in "abc"[: len(shapes)]]
        for name, shape in zip(self.branches, shapes):
            self.add_module(name, conv_norm(*shape, setup.frozen))
        out = shapes[-1][1]
        self.short = nn.Identity()
        if project and setup.variant == "d" and stride == 2:
            pool = nn.AvgPool2d(2, 2, ceil_mode=True)
            self.short = chain(pool=pool, conv=conv_norm(channels, out, 1, 1, setup.frozen))
        elif project:
            self.short = conv_norm(channels, out, 1, stride, setup.frozen)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in self.branches[:-1]:
            y = F.relu_(getattr(self, name)(y))
        return F.relu_(getattr(self, self.branches[-1])(y) + self.short(x))


class ResNet(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        stem = {"conv1": (3, 64, 7, 2)}
        if setup.variant == "d":
            stem = {"conv1_1": (3, 32, 3, 2), "conv1_2": (32, 32, 3, 1), "conv1_3": (32, 64, 3, 1)}
        self.conv1 = nn.Sequential()
        for name, shape in stem.items():
            self.conv1.add_module(name, conv_norm(*shape, setup.frozen))
            self.conv1.add_module(f"{name}_relu", nn.ReLU(inplace=True))
        channels = 64
        for stage, count in enumerate(setup.blocks, 2):
            width, blocks = 16 * 2**stage, nn.Sequential()
            for i in range(count):
                stride = 2 if i == 0 and stage > 2 else 1
                blocks.add_module(f"res{stage}{'abcdef'[i]}", Block(channels, width, stride, i == 0, setup))
                channels = width * (4 if setup.bottleneck else 1)
            self.add_module(f"res{stage}", blocks)
        if setup.frozen:
            self.conv1.requires_grad_(False)
            self.res2.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        c3 = self.res3(self.res2(F.max_pool2d(self.conv1(images), 3, 2, 1)))
        c4 = self.res4(c3)
        return [c3, c4, self.res5(c4)]


class FPN(nn.Module):
    def __init__(self, expansion: int) -> None:
        super().__init__()
        self.fpn_inner_res3_sum_lateral = nn.Conv2d(128 * expansion, 256, 1)
        self.fpn_inner_res4_sum_lateral = nn.Conv2d(256 * expansion, 256, 1)
        self.fpn_inner_res5_sum = nn.Conv2d(512 * expansion, 256, 1)
        for stage in (3, 4, 5):
            self.add_module(f"fpn_res{stage}_sum", nn.Conv2d(256, 256, 3, padding=1))
        self.fpn_6 = nn.Conv2d(256, 256, 3, 2, 1)
        self.fpn_7 = nn.Conv2d(256, 256, 3, 2, 1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        c3, c4, c5 = maps
        m5 = self.fpn_inner_res5_sum(c5)
        m4 = self.fpn_inner_res4_sum_lateral(c4) + F.interpolate(m5, scale_factor=2)
        m3 = self.fpn_inner_res3_sum_lateral(c3) + F.interpolate(m4, scale_factor=2)
        p5 = self.fpn_res5_sum(m5)
        p6 = self.fpn_6(p5)
        return [self.fpn_res3_sum(m3), self.fpn_res4_sum(m4), p5, p6, self.fpn_7(F.relu(p6))]


class Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fcos_feat = nn.Module()
        for name in (f"{kind}_tower_conv_{i}" for kind in ("cls", "reg") for i in range(4)):
            layer = chain(conv=nn.Conv2d(256, 256, 3, padding=1), norm=nn.GroupNorm(32, 256), relu=nn.ReLU(True))
            self.fcos_feat.add_module(f"fcos_head_{name}", layer)
        self.fcos_head_cls = nn.Conv2d(256, classes, 3, padding=1)
        self.fcos_head_reg = nn.Conv2d(256, 4, 3, padding=1)
        self.fcos_head_centerness = nn.Conv2d(256, 1, 3, padding=1)
        for level in range(3, 8):
            self.add_module(f"p{level}_feat", nn.ParameterDict({"scale_reg": torch.ones(1)}))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.fcos_head_cls.bias, -math.log(99.0))
        nn.init.constant_(self.fcos_head_reg.bias, 2.0)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, R, C), distances (N, R, 4) in strides, and centerness logits (N, R, 1) of all levels."""
        maps = []
        for level, x in enumerate(levels, 3):
            classes = sides = x
            for i in range(4):
                classes = getattr(self.fcos_feat, f"fcos_head_cls_tower_conv_{i}")(classes)
                sides = getattr(self.fcos_feat, f"fcos_head_reg_tower_conv_{i}")(sides)
            distances = F.relu(self.fcos_head_reg(sides) * getattr(self, f"p{level}_feat").scale_reg)
            maps.append((self.fcos_head_cls(classes), distances, self.fcos_head_centerness(sides)))
        return tuple(torch.cat([m.flatten(2).transpose(1, 2) for m in kind], 1).float() for kind in zip(*maps))


def build(setup: Setup) -> nn.Sequential:
    expansion = 4 if setup.bottleneck else 1
    return chain(backbone=ResNet(setup), neck=FPN(expansion), fcos_head=Head(setup.classes))


def losses(maps: tuple[Tensor, Tensor, Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the focal, GIoU and centerness losses. `batch` has the targets of `Gt2FCOSTarget`."""
    logits, distances, quality = maps
    positive = batch["target_labels"] > 0
    count = positive.sum().clamp(min=1)
    one_hot = F.one_hot(batch["target_labels"].long(), logits.shape[2] + 1)[..., 1:].to(logits.dtype)
    missed = (one_hot - logits.sigmoid()).abs()
    factor = torch.where(one_hot > 0, 0.25, 0.75) * missed.square()
    focal = (factor * F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")).sum() / count

    predicted, wanted = distances[positive], batch["target_distances"][positive]
    centerness = batch["target_centerness"][positive]
    overlap = box_area(torch.minimum(predicted, wanted))
    union = box_area(predicted) + box_area(wanted) - overlap
    hull = box_area(torch.maximum(predicted, wanted)) + 1e-7
    giou = (overlap + 1) / (union + 1) - (hull - union) / hull
    box = ((1 - giou) * centerness).sum() / centerness.sum().clamp(min=1e-6)
    entropy = F.binary_cross_entropy_with_logits(quality[positive].squeeze(1), centerness, reduction="sum")
    return focal, box, entropy / count


def box_area(sides: Tensor) -> Tensor:
    return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])


def random_batch(images: int, height: int, width: int, classes: int) -> dict[str, Tensor]:
    """Return random images and targets with the shapes of training; one location in fifty is positive."""
    locations = sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in (8, 16, 32, 64, 128))
    positive = torch.rand(images, locations) < 0.02
    return {
        "image": torch.randn(images, 3, height, width),
        "target_labels": torch.randint(1, classes + 1, (images, locations)) * positive,
        "target_distances": torch.rand(images, locations, 4) * 4 + 0.5,
        "target_centerness": torch.rand(images, locations) * positive,
    }


def make_step(model: nn.Module, batch: dict[str, Tensor], bfloat16: bool, clip: float | None) -> Callable[[], None]:
    """Return a function that trains one step on `batch`."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]
    undecayed = {p for norm in norms for p in norm.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p not in undecayed], "weight_decay": 1e-4},
        {"params": [p for p in trained if p in undecayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1e-4, momentum=0.9, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            maps = model(batch["image"])
        sum(losses(maps, batch)).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def count_operations(model: nn.Module, step: Callable[[], None]) -> tuple[float, float]:
    """Run a step; return 10^9 floating-point operations of the convolutions in its forward pass, and in all of it.

    The gradients of the weights and of the input each need as many operations as the forward pass.
    """
    counts = []

    def count(conv: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        once = 2e-9 * conv.weight[0].numel() * output.numel()
        counts.append((once, once * (1 + conv.weight.requires_grad + inputs[0].requires_grad)))

    handles = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    step()
    for handle in handles:
        handle.remove()
    forward, whole = zip(*counts)
    return sum(forward), sum(whole)


def peak_rss() -> float:
    """Return the peak resident memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SETUPS, default="r50", help="backbone of the network (default: r50)")
    parser.add_argument("--height", type=int, default=896, help="height of the images, a multiple of 32 (default: 896)")
    parser.add_argument("--width", type=int, default=1152, help="width of the images, a multiple of 32 (default: 1152)")
    parser.add_argument("--batch", type=int, default=1, help="images per step (default: 1)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16 uses autocast (default: float32)"
    )
    parser.add_argument("--channels_last", action="store_true", help="use the memory layout (N, H, W, C)")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="number of threads (default: all cores)"
    )
    parser.add_argument(
        "--steps", type=int, default=5, help="number of measured steps, after two for warming up (default: 5)"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    setup = SETUPS[arguments.model]
    model = build(setup)
    batch = random_batch(arguments.batch, arguments.height, arguments.width, setup.classes)
    if arguments.channels_last:
        model.to(memory_format=torch.channels_last)
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
    step = make_step(model, batch, arguments.dtype == "bfloat16", setup.clip)
    forward, whole = count_operations(model, step)
    step()
    seconds = []
    for _ in range(arguments.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    result = {
        "seconds": statistics.median(seconds),
        "peak_rss_mib": peak_rss(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflop_forward": forward,
        "gflop_step": whole,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    print(json.dumps({**vars(arguments), **result}))


if __name__ == "__main__":
    main()
