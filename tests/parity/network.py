"""FCOS of other code bases in PyTorch, small: what converted weights have to compute here.

Written from their published descriptions, under their names of parameters. Needs PyTorch alone:
    python network.py CASE FOLDER
writes random weights in the case's form of file, FOLDER/theirs.pth or .pkl, and FOLDER/theirs.npz: `image` (H, W, 3),
RGB bytes; the maps that the network makes of it; and `detections`, what the code base's own rules find in them.
"""

import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.cases import CASES, COCO_ROWS, HEIGHT, IMAGENET, WIDTH, Case
from parity.detection import DETECT

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
# Mean and standard deviation, over P3, of what a layer gives: boxes are neither all larger than the image nor all
# smaller than a location's cell. Every 16th class is as frequent as the case says, so that suppression has work.
RARE, NEVER, DEVIATION = -10.0, -30.0, 2.0
QUALITY, PIXELS, IN_STRIDES = (0.5, 1.0), (2.7, 0.15), (1.8, 0.6)


class Names(NamedTuple):
    """Names of layers. stem, body: what comes before theirs. laterals: of C3 to C5. outputs: of P3 to P7. towers: a
    (convolution, norm) for each layer of both. last: classes, distances, quality. scales: of the levels, if any.
    """

    stem: str
    body: str
    laterals: list[str]
    outputs: list[str]
    towers: list[list[tuple[str, str]]]
    last: list[str]
    scales: list[str]


def names_of(case: Case) -> Names:
    if case.code_base == "detectron2":
        return Names("", "", [], [], [], [], [])
    if case.code_base == "mmdet":
        kind = "fcos" if "bbox_head.fcos_cls.weight" in case.shapes else "conv"
        return Names(
            stem="backbone.",
            body="backbone.",
            laterals=[f"neck.lateral_convs.{i}.conv" for i in range(3)],
            outputs=[f"neck.fpn_convs.{i}.conv" for i in range(5)],
            towers=[
                [(f"bbox_head.{tower}.{i}.conv", f"bbox_head.{tower}.{i}.gn") for i in range(4)]
                for tower in ("cls_convs", "reg_convs")
            ],
            last=[f"bbox_head.{kind}_{last}" for last in ("cls", "reg", "centerness")],
            scales=[f"bbox_head.scales.{i}.scale" for i in range(5)],
        )
    extra = {"fcos_plus": "backbone.fpn.top_blocks.", "torchvision": "backbone.fpn.extra_blocks."}[case.code_base]
    if case.code_base == "fcos_plus":
        laterals, outputs = ([f"backbone.fpn.fpn_{kind}{i}" for i in (2, 3, 4)] for kind in ("inner", "layer"))
        towers, last = ("rpn.head.cls_tower", "rpn.head.bbox_tower"), ("cls_logits", "bbox_pred", "centerness")
        last = [f"rpn.head.{name}" for name in last]
    else:
        laterals, outputs = ([f"backbone.fpn.{kind}_blocks.{i}.0" for i in range(3)] for kind in ("inner", "layer"))
        towers = ("head.classification_head.conv", "head.regression_head.conv")
        last = ["classification_head.cls_logits", "regression_head.bbox_reg", "regression_head.bbox_ctrness"]
        last = [f"head.{name}" for name in last]
    return Names(
        stem="backbone.body." + ("stem." if case.code_base == "fcos_plus" else ""),
        body="backbone.body.",
        laterals=laterals,
        outputs=[*outputs, f"{extra}p6", f"{extra}p7"],
        towers=[[(f"{tower}.{3 * i}", f"{tower}.{3 * i + 1}") for i in range(4)] for tower in towers],
        last=last,
        scales=[f"rpn.head.scales.{i}.scale" for i in range(5)] if case.code_base == "fcos_plus" else [],
    )


class Network:
    """A case's network, with weights that its first pass fits to the image that it sees.

    Without that, activations of random layers would vanish or grow without bound. Nothing is at its usual start:
    statistics of norms are off those of the image, and scales, biases and offsets are random.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.names = case, names_of(case)
        self.random = torch.Generator().manual_seed(7)
        self.weights = {name: self.start(name, shape) for name, shape in case.shapes.items()}
        self.fitted: set[str] = set()

    def uniform(self, low: float, high: float, shape: tuple) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.random)

    def start(self, name: str, shape: tuple) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.tensor(7)
        if name.endswith(".scale"):
            return torch.full(shape, 1 + 0.1 * int(name.split(".")[-2]))  # larger boxes on higher levels
        if len(shape) == 4:
            weight = torch.randn(shape, generator=self.random) / (shape[1] * shape[2] * shape[3]) ** 0.5
            if ".layer" in name:  # variances no larger than what norms add to them, as Caffe's networks have some
                weight[::16] *= 0.003
            return weight
        if name.endswith("bn3.weight"):  # the end of a block adds little, or rounding errors would grow with each one
            return self.uniform(0.1, 0.4, shape)
        return self.uniform(0.5, 1.5, shape) if name.endswith(".weight") else self.uniform(-0.3, 0.3, shape)

    def conv(self, name: str, x: Tensor, *, stride: int = 1, groups: int = 1, spread: tuple | None = None) -> Tensor:
        """spread: mean and standard deviation, numbers or (channels,), that the first result of it has."""
        weight = self.weights[f"{name}.weight"]
        if f"{name}.conv_offset.weight" in self.weights:
            # Where each tap looks changes little from place to place, or rounding errors would grow with each layer.
            looks = self.uniform(-1.5, 1.5, (27,)), 0.2
            offsets = self.conv(f"{name}.conv_offset", x, stride=stride, spread=looks)
            y = deformed(x, weight, offsets, stride)
        else:
            y = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        if spread and name not in self.fitted:
            self.fitted.add(name)
            factor = spread[1] / y.std((0, 2, 3))
            self.weights[f"{name}.weight"] = weight * factor[:, None, None, None]
            y = y * factor[:, None, None]
            self.weights[f"{name}.bias"] = spread[0] - y.mean((0, 2, 3))
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias[:, None, None]

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch norm of stored statistics."""
        if name not in self.fitted:
            self.fitted.add(name)
            mean, deviation = x.mean((0, 2, 3)), x.std((0, 2, 3))
            self.weights[f"{name}.running_mean"] = mean + deviation * self.uniform(-0.3, 0.3, mean.shape)
            self.weights[f"{name}.running_var"] = deviation**2 * self.uniform(0.6, 1.6, mean.shape)
        scale, bias, mean, variance = (
            self.weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        epsilon = 0.0 if self.case.code_base == "fcos_plus" else 1e-5
        return (x - mean) / (variance + epsilon).sqrt() * scale + bias

    def block(self, name: str, x: Tensor, stride: int) -> Tensor:
        first = stride if self.case.depth < 50 or self.case.caffe_strides else 1
        y = F.relu(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride=first)))
        y = self.conv(f"{name}.conv2", y, stride=stride // first, groups=self.case.groups)
        y = self.norm(f"{name}.bn2", y)
        if self.case.depth >= 50:
            y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", F.relu(y)))
        if f"{name}.downsample.0.weight" in self.weights:
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride=stride))
        return F.relu(x + y)

    def backbone(self, images: Tensor) -> list[Tensor]:
        """C3, C4 and C5."""
        x = F.relu(self.norm(f"{self.names.stem}bn1", self.conv(f"{self.names.stem}conv1", images, stride=2)))
        x, maps = F.max_pool2d(x, 3, 2, 1), []
        for stage, count in enumerate(BLOCKS[self.case.depth], 1):
            for i in range(count):
                x = self.block(f"{self.names.body}layer{stage}.{i}", x, 2 if i == 0 and stage > 1 else 1)
            maps.append(x)
        return maps[1:]

    def pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """P3 to P7; P6 is made of P5, and P7 of P6 after a ReLU."""
        merged = [self.conv(name, x) for name, x in zip(self.names.laterals, maps)]
        for i in (1, 0):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], scale_factor=2)
        levels = [self.conv(name, x) for name, x in zip(self.names.outputs, merged)]
        levels.append(self.conv(self.names.outputs[3], levels[-1], stride=2))
        return [*levels, self.conv(self.names.outputs[4], F.relu(levels[-1]), stride=2)]

    def head(self, x: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, distances (in strides, or pixels where they are exp) and quality of one level."""
        feats = []
        for tower in self.names.towers:
            y = x
            for conv, norm in tower:
                scale, bias = (self.weights[f"{norm}.{part}"] for part in ("weight", "bias"))
                y = F.relu(F.group_norm(self.conv(conv, y), 32, scale, bias))
            feats.append(y)
        logits = self.conv(self.names.last[0], feats[0], spread=self.class_spread())
        distances = self.conv(self.names.last[1], feats[1], spread=PIXELS if self.case.exp else IN_STRIDES)
        if self.names.scales:
            distances = distances * self.weights[self.names.scales[level]]
        quality = self.conv(self.names.last[2], feats[int(self.case.quality_on_reg)], spread=QUALITY)
        return logits, distances.exp() if self.case.exp else F.relu(distances), quality

    def class_spread(self) -> tuple[Tensor, float]:
        """torchvision's rows that belong to no category never win, as in a trained network."""
        rows = len(self.weights[f"{self.names.last[0]}.weight"])
        mean = torch.tensor([self.case.frequent if row % 16 == 1 else RARE for row in range(rows)])
        if rows == 91:
            mean[[row for row in range(rows) if row not in COCO_ROWS]] = NEVER
        return mean, DEVIATION

    def __call__(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [self.head(x, level) for level, x in enumerate(self.pyramid(self.backbone(images)))]


def deformed(x: Tensor, weight: Tensor, offsets: Tensor, stride: int) -> Tensor:
    """A 3x3 modulated deformable convolution ("Deformable ConvNets v2", Zhu et al., arXiv:1811.11168, section 3) of
    x (1, C, H, W): 18 offsets, y before x for each of the 9 taps, then 9 masks before their sigmoid."""
    height, width, (h, w) = *x.shape[2:], offsets.shape[2:]
    tap = torch.arange(9)[:, None, None]
    rows = torch.arange(h)[:, None] * stride - 1 + tap // 3 + offsets[0, 0:18:2]
    columns = torch.arange(w) * stride - 1 + tap % 3 + offsets[0, 1:18:2]
    taken = torch.zeros(x.shape[1], 9, h, w)
    for down in (0, 1):
        for right in (0, 1):
            row, column = rows.floor() + down, columns.floor() + right
            share = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
            taken += x[0].flatten(1)[:, index] * share * inside
    taken = taken * offsets[0, 18:].sigmoid()
    return torch.einsum("oct,cthw->ohw", weight.flatten(2), taken)[None]


def make_image() -> np.ndarray:
    """Random blobs (H, W, 3), uint8."""
    coarse = np.random.default_rng(3).integers(0, 256, (1, 3, 12, 20)).astype(np.float32)
    smooth = F.interpolate(torch.from_numpy(coarse), (HEIGHT, WIDTH), mode="bicubic").clamp(0, 255)
    return smooth[0].permute(1, 2, 0).numpy().astype(np.uint8)


def prepare(image: np.ndarray, case: Case) -> Tensor:
    """What the network gets of RGB bytes (H, W, 3): normalized, then padded with zeros to multiples of 32."""
    if case.caffe_mean:
        pixels = image[:, :, ::-1].astype(np.float32) - np.float32(case.caffe_mean)
    else:
        pixels = (image / np.float32(255) - np.float32(IMAGENET[0])) / np.float32(IMAGENET[1])
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    return F.pad(planes, (0, -WIDTH % 32, 0, -HEIGHT % 32))


def save(network: Network, folder: Path) -> None:
    case, weights = network.case, network.weights
    if case.form == "pkl":
        content = {"model": caffe2(weights), "__author__": "Caffe2", "matching_heuristics": True}
        (folder / "theirs.pkl").write_bytes(pickle.dumps(content))
        return
    named = OrderedDict((case.prefix + name, value) for name, value in weights.items())
    content = {case.wrapper: named} if case.wrapper else named
    torch.save(content, folder / "theirs.pth", _use_new_zipfile_serialization=case.form == "zip")


def caffe2(weights: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """A backbone as detectron2's R-50.pkl has it: norms are a scale (s) and a bias (b), statistics folded in."""
    parts = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "downsample": "branch1"}
    arrays = {}
    for name, value in weights.items():
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or layer == "fc":
            continue
        path = layer.replace("bn", "conv").split(".")
        res = f"res{int(path[0][-1]) + 1}_{path[1]}_{parts[path[2]]}" if len(path) > 1 else "conv1"
        if value.ndim == 4:
            arrays[f"{res}_w"] = value
            continue
        scale = value / (weights[f"{layer}.running_var"] + 1e-5).sqrt()
        res = f"res_{res}" if res == "conv1" else res
        arrays[f"{res}_bn_s"], arrays[f"{res}_bn_b"] = (
            scale,
            weights[f"{layer}.bias"] - weights[f"{layer}.running_mean"] * scale,
        )
    arrays["conv1_b"], arrays["fc1000_w"], arrays["fc1000_b"] = (
        torch.zeros(64),
        weights["fc.weight"],
        weights["fc.bias"],
    )
    return {name: value.numpy() for name, value in arrays.items()}


def main() -> None:
    case, folder = CASES[sys.argv[1]], Path(sys.argv[2])
    torch.set_num_threads(1)
    network, image = Network(case), make_image()
    images = prepare(image, case)
    result = {"image": image, "input": images.numpy()}
    with torch.no_grad():
        run = network if network.names.last else network.backbone
        run(images)  # fits the weights
        maps = run(images)
        if network.names.last:
            result["detections"] = DETECT[case.code_base](maps, case).numpy()
            rows = COCO_ROWS if case.code_base == "torchvision" else slice(None)
            for level, (logits, distances, quality) in enumerate(maps):
                result.update(
                    {f"logits{level}": logits[:, rows], f"distances{level}": distances, f"quality{level}": quality}
                )
        else:
            result.update({f"c{i}": x for i, x in enumerate(maps, 3)})
    save(network, folder)
    np.savez(folder / "theirs.npz", **result)


if __name__ == "__main__":
    main()
