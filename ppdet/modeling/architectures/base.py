"""The contract of a detector with the code that trains, evaluates and exports it, and the contracts of its parts.

`DenseDetector` is all that ppdet/engine knows about an architecture. `Backbone`, `Neck`, `DenseHead` and `DenseLoss`
are what `FCOS` needs of its parts. A class fulfils a contract by having the members; it need not inherit from it.

Letters in shapes: N images, C classes, L feature levels, H x W the size of a level or of the images, R the locations of
all levels together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from paddle import Tensor

from ppdet.utils.locations import Locations


class ShapeSpec(NamedTuple):
    """Shape of a feature map, as a backbone or neck announces it: its channels, and its stride in pixels."""

    channels: int
    stride: int


class DenseMaps(NamedTuple):
    """Predictions of a head at every location. Each field is a list with one map per level, finest level first.

    logits: (N, C, H, W) class scores before the sigmoid.
    distances: (N, 4, H, W) distances, 0 or more, from a location to the left, top, right and bottom side of its box.
        They are in strides of the level or in pixels of the network's input, see `DenseDetector.distances_in_strides`.
    quality: (N, 1, H, W) centerness or IoU before the sigmoid.
    """

    logits: list[Tensor]
    distances: list[Tensor]
    quality: list[Tensor]


class Candidates(NamedTuple):
    """Decoded boxes and scores before NMS; the fields are the arguments of `MultiClassNMS` and `SoftNMS`.

    boxes: (N, R, 4) x1, y1, x2, y2 in pixels.
    scores: (N, C, R) in 0..1. A score of 0 is never detected, such as in the padding.
    nms_offset: (N, 4), which NMS adds to all boxes of an image while it computes their IoU; None adds nothing.
    max_per_class: the number of scores above 0 that an image and class can have at most; None if unknown.
    """

    boxes: Tensor
    scores: Tensor
    nms_offset: Tensor | None = None
    max_per_class: int | None = None


class Layer(Protocol):
    """The part of `paddle.nn.Layer` that the engine calls. Every subclass of `paddle.nn.Layer` has it."""

    training: bool

    def __call__(self, *inputs: Any, **named_inputs: Any) -> Any: ...
    def train(self) -> Any: ...
    def eval(self) -> Any: ...
    def parameters(self) -> list[Any]: ...
    def named_parameters(self) -> Any: ...
    def sublayers(self) -> list[Any]: ...
    def named_sublayers(self) -> Any: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def set_state_dict(self, state_dict: dict[str, Tensor]) -> Any: ...


class DenseDetector(Layer, Protocol):
    """A detector that predicts a box at every location of a grid: the contract with trainer, evaluator and export.

    `FCOS` is the example. Make a class a component with `@register` and name it in YAML as `architecture: MyDetector`.

    Attributes:
        locations: the grid that predictions and training targets share.
        distances_in_strides: whether the loss expects distances in strides of their level, otherwise in pixels.
        nms: the suppression that `detect` ends with, a `MultiClassNMS` or a subclass such as `SoftNMS`. Export records
            `select`, writes what follows for ONNX, and reads `score_threshold`, `keep_top_k` and `described`.
    """

    locations: Locations
    distances_in_strides: bool
    nms: Any

    def forward(self, batch: dict[str, Tensor], normalizers: tuple[Tensor, ...] | None = None) -> Any:
        """In training mode `loss` of a batch, otherwise its detections as `detect` returns them.

        Wrappers for training on several devices, such as paddle.DataParallel, act on this method only.

        Args:
            batch: `image` (N, 3, H, W) float32 normalized. In training also the targets, see `loss`; otherwise
                `scale_factor` and, optionally, `im_shape`, see `detect`.
            normalizers: see `loss`.
        """

    def predict_maps(self, images: Tensor) -> DenseMaps:
        """Predictions for normalized images (N, 3, H, W), with H and W multiples of the backbone's largest stride."""

    def normalizers(self, batches: Sequence[dict[str, Tensor]]) -> tuple[Tensor, ...]:
        """The divisors of the losses, scalars, for several batches whose gradients are added up to one step.

        They are means over the batches, for example of the number of positives, so that the sum of the gradients is
        that of one large batch. The engine only hands them to `forward`.
        """

    def loss(
        self, maps: DenseMaps, targets: dict[str, Tensor], normalizers: tuple[Tensor, ...] | None = None
    ) -> dict[str, Tensor]:
        """Losses of a training batch.

        Args:
            maps: from `predict_maps`, with distances in the unit of `distances_in_strides`: the head's own, which the
                targets have too. Maps from `in_pixels` would only fit where the unit is pixels.
            targets: what the reader's target transform made, such as `Gt2FCOSTarget`.
            normalizers: result of `normalizers`; None computes them from this batch alone.

        Returns:
            `loss`, the scalar to minimize, and any number of other scalars, which appear in the log. Two more are
            optional: `positives` (L,), the number of positive locations of each level, and `zero_sides` (L, 4), how
            many of them have a predicted distance of zero to the left, top, right and bottom. The engine warns when
            there are no positives, and when one side stays zero.
        """

    def in_pixels(self, maps: DenseMaps) -> DenseMaps:
        """The same maps, with distances in pixels of the network's input."""

    def decode(
        self, maps: DenseMaps, scale_factor: Tensor, im_shape: Tensor | None = None, *, every_location: bool = False
    ) -> Candidates:
        """Boxes in pixels of the original images, and their scores, before NMS.

        Args:
            scale_factor: (N, 2), see `detect`.
            im_shape: (N, 2), see `detect`.
            every_location: keep all R locations in their order, without top-k, class_threshold and score threshold.
                Scores in the padding are still 0, and boxes are still cut where `clip_boxes` is set. Export compares
                engines by them.
        """

    def detect(self, maps: DenseMaps, scale_factor: Tensor, im_shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Detections after NMS.

        Args:
            scale_factor: (N, 2), y then x: size of the network's input / size of the original image.
            im_shape: (N, 2), heights and widths in the network's input without padding. Nothing is detected at
                locations in the padding. None: the images have no padding.

        Returns:
            Rows (M, 6) of [class from 0, score, x1, y1, x2, y2] in pixels of the original images, image by image, and
            the number of rows of each image (N,).
        """


class Backbone(Layer, Protocol):
    """A network that turns images into feature maps. `ResNet` is the example.

    Attributes:
        out_shape: one entry for each map that `forward` returns, in their order, finest first.
    """

    @property
    def out_shape(self) -> list[ShapeSpec]: ...

    def forward(self, images: Tensor) -> list[Tensor]:
        """Turn images (N, 3, H, W) into maps (N, channels, H / stride, W / stride)."""


class Neck(Layer, Protocol):
    """A network between backbone and head. `FPN` is the example.

    Its `from_config(cls, cfg, input_shape)` gets the backbone's `out_shape` and returns the constructor's arguments
    that follow from it.

    Attributes:
        out_shape: one entry for each map that `forward` returns, in their order, finest first.
    """

    @property
    def out_shape(self) -> list[ShapeSpec]: ...

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Turn the backbone's maps into the levels (N, channels, H / stride, W / stride) for the head."""


class DenseLoss(Protocol):
    """The loss of a dense head. `FCOSLoss` is the example."""

    def __call__(
        self, maps: DenseMaps, targets: dict[str, Tensor], normalizers: tuple[Tensor, ...] | None = None
    ) -> dict[str, Tensor]:
        """Losses of a training batch by name, see `DenseDetector.loss`."""

    def normalizers(self, batches: Sequence[dict[str, Tensor]]) -> tuple[Tensor, ...]:
        """The divisors of the losses for batches whose gradients are added up, see `DenseDetector.normalizers`."""


class DenseHead(Layer, Protocol):
    """The head of `FCOS`: `FCOSHead` is the example.

    Its `from_config(cls, cfg, input_shape)` gets the neck's `out_shape`.

    Attributes:
        locations, distances_in_strides, nms: see `DenseDetector`.
        fcos_loss: the training loss.
    """

    locations: Locations
    distances_in_strides: bool
    nms: Any
    fcos_loss: Any

    def forward(self, features: Sequence[Tensor]) -> DenseMaps:
        """Predictions from the neck's levels (N, channels, H, W)."""

    def in_pixels(self, maps: DenseMaps) -> DenseMaps:
        """See `DenseDetector.in_pixels`."""

    def decode(
        self,
        maps: DenseMaps,
        im_shape: Tensor | None = None,
        *,
        score_threshold: float | None = None,
        every_location: bool = False,
    ) -> Candidates:
        """Boxes in pixels of the network's input, and their scores, before NMS.

        Args:
            im_shape: see `DenseDetector.detect`.
            score_threshold: leave out locations at which no class of any image has a score above it. It only saves
                time, as NMS drops these scores too. None: leave out none.
            every_location: see `DenseDetector.decode`.
        """
