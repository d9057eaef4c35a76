"""The network of a detector with what follows it, recorded as Paddle's static graph."""

from collections.abc import Sequence
from pathlib import Path

import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from ppdet.data.normalization import normalize
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.modeling.architectures.base import DenseDetector
from ppdet.utils.errors import ConfigError


class ExportedDetector(nn.Layer):
    """The network that is exported as a static graph.

    Args:
        normalizer: the normalization to do in the graph; None if images are normalized before.
        output: what the graph ends with.
            "detections": rows (M, 6), and the number of rows per image, see `DenseDetector.detect`.
            "boxes": boxes (N, R, 4) and scores (N, C, R) before NMS.
            "maps": logits, distances and quality of each level.
            "candidates": as "boxes", plus a third output if NMS compares other boxes than it returns: those boxes. What
                a kind of NMS does first, such as the decay of Soft-NMS, is done (see `MultiClassNMS.select`).
            "locations": as "boxes" with that third output, for every location, without top-k and thresholds.
    """

    def __init__(self, model: DenseDetector, *, normalizer: NormalizeImage | None, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.normalization = normalizer.normalization if normalizer else None
        if self.normalization:
            self.mean, self.std = self.normalization.tensors()

    @paddle.jit.not_to_static  # has no branches on values, so it can be traced, which is many times faster
    def forward(
        self, image: Tensor, scale_factor: Tensor | None = None, im_shape: Tensor | None = None
    ) -> Sequence[Tensor]:
        """Compute `output`.

        Args:
            image: (N, 3, H, W) float32, normalized, or RGB from 0 to 255 where the graph normalizes.
            scale_factor, im_shape: see `DenseDetector.detect`.
        """
        if self.normalization:
            size, to_bgr = paddle.shape(image)[2:], self.normalization.is_bgr
            image = normalize(image, self.mean, self.std, size=size, im_shape=im_shape, to_bgr=to_bgr)
        maps = self.model.predict_maps(image)
        if self.output == "maps":
            return [tensor for level in zip(*maps) for tensor in level]
        if self.output == "detections":
            return self.model.detect(maps, scale_factor, im_shape)
        candidates = self.model.decode(maps, scale_factor, im_shape, every_location=self.output == "locations")
        if self.output == "candidates":
            candidates = self.model.nms.select(*candidates)
        boxes, scores, nms_offset, _ = candidates
        if self.output == "boxes" or nms_offset is None:
            return boxes, scores
        return boxes, scores, boxes + nms_offset.unsqueeze(1)


def graph_inputs(size: tuple[int, int] | None, output: str, fused: NormalizeImage | None) -> dict[str, InputSpec]:
    """Return the inputs of the graph, by name; see `ExportedDetector.forward`."""
    inputs = {"image": InputSpec([None, 3, *(size or (None, None))], "float32", "image")}
    if output != "maps":
        inputs["scale_factor"] = InputSpec([None, 2], "float32", "scale_factor")
    if output != "maps" or fused is not None:  # tells decoding and normalization where the padding is
        inputs["im_shape"] = InputSpec([None, 2], "float32", "im_shape")
    return inputs


def save_graph(detector: ExportedDetector, inputs: dict[str, InputSpec], folder: Path) -> None:
    """Write Paddle's static graph and weights to a folder: model.json or model.pdmodel, and model.pdiparams."""
    specs = [inputs.get(name) for name in ("image", "scale_factor", "im_shape")]
    try:
        paddle.jit.save(paddle.jit.to_static(detector, input_spec=specs, full_graph=True), str(folder / "model"))
    except ValueError as error:
        if "feed_var" not in str(error):
            raise
        what = f"{type(detector.model).__name__}.decode() must use both scale_factor and im_shape"
        raise ConfigError(f"the graph would not use all of its inputs: {what} (docs/EXTENDING.md)") from error


def output_names(detector: ExportedDetector) -> list[str]:
    """Return names for the outputs of a graph that ends with boxes or maps; [] for other graphs."""
    if detector.output == "maps":
        strides = detector.model.locations.strides
        return [f"{kind}_{stride}" for stride in strides for kind in ("logits", "distances", "quality")]
    return ["boxes", "scores"] if detector.output == "boxes" else []
