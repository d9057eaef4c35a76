"""FCOS head: "FCOS: A Simple and Strong Anchor-free Object Detector" (Tian et al., arXiv:2006.09214), section 2."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Normal

from ppdet.core.workspace import named, register
from ppdet.modeling.heads.candidates import best_classes, best_locations, take
from ppdet.modeling.heads.locations import Pair, coordinates, in_float, inside, size_of
from ppdet.modeling.heads.towers import FCOSFeat
from ppdet.modeling.layers import Conv2D, ShapeSpec, fork
from ppdet.modeling.mixed import Float32
from ppdet.modeling.nms import MultiClassNMS

# With distances through a ReLU, a side that is zero everywhere gets no gradient and stays so. Starting at 2 strides,
# about the middle of what a level has to regress, every distance of a fresh head is positive.
DISTANCE_START = 2.0


class DenseMaps(NamedTuple):
    """What the head says at every location. Each field is a list with one map per level, finest first.

    logits: (N, C, H, W), before the sigmoid. distances: (N, 4, H, W), left, top, right, bottom, not negative; in
    strides or pixels, see `FCOSHead.distances_in_strides`. quality: (N, 1, H, W), centerness or IoU, before the
    sigmoid.
    """

    logits: list[Tensor]
    distances: list[Tensor]
    quality: list[Tensor]


class ScaleReg(nn.Layer):
    """A level's learnable factor of the distances."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_reg = self.create_parameter([1], attr=ParamAttr(initializer=Constant(1.0)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_reg


@register
class FCOSHead(nn.Layer):
    """Dense predictions, their loss, and the detections that follow from them.

    Args:
        num_classes: C, without background.
        fcos_feat: the towers. fpn_stride: stride of each level in pixels.
        prior_prob: score that every class starts with.
        norm_reg_targets: distances pass through ReLU in units of the stride; otherwise through exp, in pixels.
        multiply_strides_reg_targets: with `norm_reg_targets`, multiply by the stride before the loss, which then sees
            pixels; the targets must be made with the same setting.
        centerness_on_reg: quality reads the regression tower, otherwise the classification tower.
        num_shift: a cell's location in units of the stride: 0.5 its centre, 0 its corner.
        even_locations: a level's locations are not its stride apart, but as many whole pixels as the input's size holds
            of them, as torchvision's are: in 800 pixels, 61 for the 13 rows of stride 64. The same where that size is a
            multiple of the stride. The targets must be made with the same setting.
        sqrt_score: score is the square root of class probability x quality (otherwise the product).
        class_threshold: a class whose probability alone, before quality counts, is not above it has score 0. With
            `nms.score_threshold` 0 it is the only threshold.
        level_top_k: of each image and level so many candidates at most enter suppression, the best by class
            probability x quality. null: all.
        level_top_k_of: a candidate is one of `locations`, which comes with all its classes and ranks by its best one,
            whether that passes `class_threshold` or not; or one of `classes`, a single class at a location, that does.
        clip_boxes: boxes end where the image does, before padding; otherwise they may go beyond.
        last_pixel: the right and bottom sides that distances give are a box's last pixel, as in maskrcnn-benchmark,
            and an image's last one is its width - 1: detections end a pixel of the original image later. The targets
            must be made with the same setting.
        fcos_loss: the training loss. nms: suppression of detections.
        trt: accepted because PaddleDetection's files have it; one graph serves TensorRT and all else here.
    """

    __inject__ = ["fcos_feat", "fcos_loss", "nms"]
    __shared__ = ["num_classes"]

    def __init__(
        self,
        *,
        num_classes: int = 80,
        fcos_feat: FCOSFeat = named("FCOSFeat"),
        fpn_stride: Sequence[int] = (8, 16, 32, 64, 128),
        prior_prob: float = 0.01,
        norm_reg_targets: bool = True,
        multiply_strides_reg_targets: bool = False,
        centerness_on_reg: bool = True,
        num_shift: float = 0.5,
        even_locations: bool = False,
        sqrt_score: bool = False,
        class_threshold: float | None = None,
        level_top_k: int | None = None,
        level_top_k_of: Literal["locations", "classes"] = "locations",
        clip_boxes: bool = False,
        last_pixel: bool = False,
        fcos_loss: nn.Layer | None = named("FCOSLoss"),
        nms: MultiClassNMS | None = named("MultiClassNMS"),
        trt: bool = False,
    ) -> None:
        super().__init__()
        if class_threshold is not None and not 0 < class_threshold < 1:
            raise ValueError(f"FCOSHead.class_threshold is {class_threshold}; it must be between 0 and 1, or null")
        if level_top_k is not None and level_top_k < 1:
            raise ValueError(f"FCOSHead.level_top_k is {level_top_k}; it must be positive, or null")
        if level_top_k_of not in ("locations", "classes"):
            raise ValueError(f"FCOSHead.level_top_k_of is {level_top_k_of!r}; it must be locations or classes")
        self.num_classes = num_classes
        self.fcos_feat = fcos_feat
        self.fpn_stride = list(fpn_stride)
        self.norm_reg_targets = norm_reg_targets
        self.distances_in_strides = norm_reg_targets and not multiply_strides_reg_targets
        self.centerness_on_reg = centerness_on_reg
        self.num_shift = num_shift
        self.even_locations = even_locations
        self.sqrt_score = sqrt_score
        self.class_threshold = class_threshold
        self.level_top_k = level_top_k
        self.level_top_k_of = level_top_k_of
        self.clip_boxes = clip_boxes
        self.last_pixel = last_pixel
        self.fcos_loss = fcos_loss
        self.nms = nms

        def conv(channels: int, bias: float) -> Conv2D:
            layer = Conv2D(
                fcos_feat.feat_out,
                channels,
                3,
                padding=1,
                weight_attr=ParamAttr(initializer=Normal(std=0.01)),
                bias_attr=ParamAttr(initializer=Constant(bias)),
            )
            layer.float_result = True
            return layer

        self.fcos_head_cls = conv(num_classes, -math.log((1 - prior_prob) / prior_prob))
        self.fcos_head_reg = conv(4, DISTANCE_START if norm_reg_targets else 0.0)
        self.fcos_head_centerness = conv(1, 0.0)
        self.scales = [self.add_sublayer(f"p{round(math.log2(stride))}_feat", ScaleReg()) for stride in self.fpn_stride]

    @classmethod
    def from_config(cls, cfg, input_shape: Sequence[ShapeSpec]) -> dict:
        strides = [spec.stride for spec in input_shape]
        if strides != list(cfg["fpn_stride"]):
            raise ValueError(
                f"FCOSHead.fpn_stride is {list(cfg['fpn_stride'])}, but the neck gives levels of stride {strides}: "
                "set fpn_stride to these, or change FPN.extra_stage and ResNet.return_idx"
            )
        feat = cfg.create("fcos_feat")
        if feat.feat_in != input_shape[0].channels:
            raise ValueError(
                f"FCOSFeat.feat_in is {feat.feat_in}, but the neck gives {input_shape[0].channels} channels: set "
                "FCOSHead.fcos_feat.feat_in to it"
            )
        return {"fcos_feat": feat}

    def forward(self, fpn_feats: Sequence[Tensor]) -> DenseMaps:
        """Map pyramid levels (N, feat_in, H, W) to dense maps."""
        maps = DenseMaps([], [], [])
        for feat, stride, scale in zip(fpn_feats, self.fpn_stride, self.scales):
            cls_feat, reg_feat = self.fcos_feat(feat)
            if self.centerness_on_reg:
                reg_feat, quality_feat = fork(reg_feat)
            else:
                cls_feat, quality_feat = fork(cls_feat)
            distances = self.fcos_head_reg(reg_feat)
            with Float32():
                distances = scale(distances)
                if self.norm_reg_targets:
                    distances = F.relu(distances)
                    distances = distances if self.distances_in_strides else distances * stride
                else:
                    distances = distances.exp()
            maps.logits.append(self.fcos_head_cls(cls_feat))
            maps.distances.append(distances)
            maps.quality.append(self.fcos_head_centerness(quality_feat))
        return maps

    def pixel_distances(self, maps: DenseMaps) -> list[Tensor]:
        """The maps' distances in pixels of the network's input, (N, 4, H, W) per level."""
        if not self.distances_in_strides:
            return maps.distances
        return [d * stride for d, stride in zip(maps.distances, self.fpn_stride)]

    def decode(
        self, maps: DenseMaps, score_threshold: float | None = None, im_shape: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return boxes (N, R, 4), x1 y1 x2 y2 in the network's input, and scores (N, C, R) in 0..1.

        R counts all locations; with a threshold, only those where the score of some class in some image exceeds it,
        and a few more. Their order is that of all locations. With `level_top_k`, threshold or not, R is that number
        times L: each level's candidates, the best first, with scores of 0 where it has fewer.

        im_shape: (N, 2), whole numbers, the images' heights and widths without padding. Locations in the padding are
        no candidates: their scores are 0, and they take no place among a level's best. None: there is no padding.
        """
        steps = self.steps(maps.logits)
        quality = [F.sigmoid(level_map) for level_map in maps.quality]
        if im_shape is not None:
            # A score is a product with quality: this is the smallest map to mask. After the sigmoid, since an engine's
            # may not reach 0.
            quality = [q * inside(size_of(q), step, self.num_shift, im_shape) for q, step in zip(quality, steps)]
        levels = zip(maps.logits, self.pixel_distances(maps), quality, steps)
        if self.level_top_k:
            decoded = [self.decode_best(*level) for level in levels]
        elif score_threshold is None:
            decoded = [self.decode_level(*level) for level in levels]
        else:
            decoded = [self.decode_candidates(*level, score_threshold) for level in levels]
        boxes, scores = zip(*decoded)
        return paddle.concat(boxes, axis=1), paddle.concat(scores, axis=2)

    def decode_level(self, logits: Tensor, distances: Tensor, quality: Tensor, step: Pair) -> tuple[Tensor, Tensor]:
        """Boxes (N, H W, 4) and scores (N, C, H W) of maps (N, C, H, W), (N, 4, H, W) and (N, 1, H, W).

        quality: in 0..1, unlike that of `DenseMaps`.
        """
        x, y = coordinates(size_of(logits), step, self.num_shift)
        left, top, right, bottom = distances.unbind(axis=1)
        # Subtraction alone, which is as exact: engines that compute in 16 bits go by names of operators, and can leave
        # it in float32 while the network adds in 16 bits.
        boxes = paddle.stack([x - left, y - top, x - -right, y - -bottom], axis=-1).flatten(1, 2)
        return boxes, self.score(logits.flatten(2), quality.flatten(2))

    def decode_candidates(
        self, logits: Tensor, distances: Tensor, quality: Tensor, step: Pair, score_threshold: float
    ) -> tuple[Tensor, Tensor]:
        """As `decode_level`, of the K locations where suppression may find something: (N, K, 4), (N, C, K)."""
        width = logits.shape[3]
        logits, distances, quality = (channels_last(level_map) for level_map in (logits, distances, quality))
        # A location's best score follows from its best logit, without a look at the other classes' scores.
        best_score = self.score(logits.max(axis=2), quality.squeeze(2)).max(axis=0)
        # A little below the threshold, where rounding cannot matter, since suppression applies the threshold itself;
        # but above the 0 of padding, and of classes that their own threshold stops.
        index = paddle.nonzero(best_score > max(score_threshold - 1e-4, 0.0)).flatten()
        if index.shape[0] == 0:  # not every operator takes an empty tensor
            index = best_score.argmax(keepdim=True)
        logits, distances, quality = (rows.gather(index, axis=1) for rows in (logits, distances, quality))
        boxes = self.boxes_at(index, width, distances, step)
        return boxes, self.score(logits, quality).transpose([0, 2, 1])

    def decode_best(self, logits: Tensor, distances: Tensor, quality: Tensor, step: Pair) -> tuple[Tensor, Tensor]:
        """As `decode_level`, of each image's K = `level_top_k` best candidates: (N, K, 4), (N, C, K)."""
        width = size_of(logits)[1]
        logits, distances, quality = (channels_last(level_map) for level_map in (logits, distances, quality))
        best = logits.max(axis=2), quality.squeeze(2)
        of_classes = self.level_top_k_of == "classes"
        # The K best classes are among those of the K locations with the best one.
        value = self.score(*best) if of_classes else F.sigmoid(best[0]) * best[1]
        index, exists = best_locations(value, self.level_top_k)
        boxes = self.boxes_at(index, width, take(distances, index), step)
        scores = self.score(take(logits, index), take(quality, index)).transpose([0, 2, 1]) * exists.unsqueeze(1)
        return best_classes(boxes, scores, self.level_top_k) if of_classes else (boxes, scores)

    def boxes_at(self, index: Tensor, width: int | Tensor, distances: Tensor, step: Pair) -> Tensor:
        """Boxes (N, K, 4) of distances (N, K, 4) at the locations `index`, (K,) or (N, K), row by row of `width`."""
        x, y = (place.astype("float32") + self.num_shift for place in (index % width, index // width))
        down, right = in_float(step)
        centre = paddle.stack([x * right, y * down], axis=-1)
        # As in `decode_level`, by subtraction alone.
        return paddle.concat([centre - distances[:, :, :2], centre - -distances[:, :, 2:]], axis=2)

    def score(self, logits: Tensor, quality: Tensor) -> Tensor:
        score = F.sigmoid(logits) * quality
        score = score.sqrt() if self.sqrt_score else score
        if self.class_threshold is None:
            return score
        # By logits, which are the same wherever they lie; the last bit of a sigmoid depends on it.
        passes = logits > math.log(self.class_threshold / (1 - self.class_threshold))
        return score * passes.astype("float32")

    def clip(self, boxes: Tensor, im_shape: Tensor | None) -> Tensor:
        """Boxes (N, R, 4) in the network's input, within images of im_shape (N, 2) y, x where `clip_boxes` says so.

        Raises:
            ValueError: it does, and there is no im_shape.
        """
        if not self.clip_boxes:
            return boxes
        if im_shape is None:
            raise ValueError("FCOSHead.clip_boxes needs im_shape, the images' sizes without padding, in the batch")
        end = im_shape.flip(1) - float(self.last_pixel)
        return paddle.minimum(boxes.clip(min=0.0), paddle.concat([end, end], axis=1).unsqueeze(1))

    def steps(self, logits: Sequence[Tensor]) -> list[Pair]:
        """Pixels from one location to the next in the maps of each level."""
        if not self.even_locations:
            return [(stride, stride) for stride in self.fpn_stride]
        sizes = [size_of(level_map) for level_map in logits]
        height, width = (side * self.fpn_stride[0] for side in sizes[0])
        steps = [(height // rows, width // columns) for rows, columns in sizes]
        return steps if paddle.in_dynamic_mode() else [tuple(s.astype("int32") for s in step) for step in steps]


def channels_last(level_map: Tensor) -> Tensor:
    """A map (N, K, H, W) as (N, H W, K), which is how it lies in memory on a CPU."""
    return level_map.transpose([0, 2, 3, 1]).flatten(1, 2)
