"""From a trained model to a folder that Paddle Inference runs: a static graph, its weights, and infer_cfg.yml."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import paddle
import yaml
from paddle import Tensor, nn
from paddle.static import InputSpec

from ppdet.core.config import Config
from ppdet.core.errors import ConfigError
from ppdet.data.device import normalized
from ppdet.data.transform.batch import PadBatch
from ppdet.data.transform.color import NormalizeImage, Permute
from ppdet.data.transform.decode import Decode
from ppdet.data.transform.geometry import Resize
from ppdet.engine.build import build_dataset, build_trained_model
from ppdet.modeling.layers import ConvNorm
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class ExportedDetector(nn.Layer):
    """What the static graph computes.

    Args:
        normalize: the transform to do inside the graph, None where the caller normalises.
        output: "detections" (rows and rows per image), "boxes" (decoded boxes and scores, before suppression) or
            "maps" (logits, distances and quality of each level).
    """

    def __init__(self, model: nn.Layer, *, normalize: Optional[NormalizeImage], output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.normalize = normalize
        if normalize is not None:
            mean, std = normalize.pixel_mean_std()
            self.mean = paddle.to_tensor(mean, "float32").reshape([1, 3, 1, 1])
            self.std = paddle.to_tensor(std, "float32").reshape([1, 3, 1, 1])

    @paddle.jit.not_to_static  # nothing in it depends on values: it is recorded as it runs, which is many times faster
    def forward(self, image: Tensor, scale_factor: Optional[Tensor] = None, im_shape: Optional[Tensor] = None):
        """image (N, 3, H, W), RGB pixels where they are normalised here; scale_factor (N, 2) y, x; im_shape (N, 2)
        height, width without padding."""
        if self.normalize is not None:
            size = paddle.shape(image)[2:]
            image = normalized(image, self.mean, self.std, size, im_shape, to_bgr=self.normalize.is_bgr)
        maps = self.model.predict_maps(image)
        if self.output == "maps":
            return [tensor for level in zip(*maps) for tensor in level]
        if self.output == "boxes":
            return self.model.decode(maps, scale_factor, im_shape=im_shape)
        return self.model.detect(maps, scale_factor, im_shape)


def export_model(cfg: Config, output_dir: str) -> Path:
    """Write model.json (model.pdmodel on Paddle 2.6), model.pdiparams and infer_cfg.yml to output_dir/<name>.

    Raises:
        ConfigError: no weights, or TestReader has a transform that deployment does not know.
    """
    reader = cfg.component("TestReader")
    transforms = [
        *(reader.create("sample_transforms") or []),
        *(reader.create("batch_transforms") or []),
    ]
    fused = next((t for t in transforms if isinstance(t, NormalizeImage)), None) if reader["fuse_normalize"] else None
    preprocess = describe_transforms([t for t in transforms if t is not fused], cfg.path)
    dataset = build_dataset(cfg, "TestDataset")
    model = build_trained_model(cfg)
    if cfg["export"]["fuse_conv_bn"]:
        count = sum(layer.fuse() for layer in model.sublayers() if isinstance(layer, ConvNorm))
        logger.info("%d batch norms folded into their convolutions", count)

    height, width = input_size(reader["inputs_def"], cfg.path)
    output = "detections" if cfg["export"]["nms"] else "boxes"
    if cfg["export"]["benchmark"] or not cfg["export"]["post_process"]:
        output = "maps"
    inputs = {"image": InputSpec([None, 3, height, width], "float32", "image")}
    if output != "maps":
        inputs["scale_factor"] = InputSpec([None, 2], "float32", "scale_factor")
    if fused is not None or (output != "maps" and model.needs_im_shape):
        inputs["im_shape"] = InputSpec([None, 2], "float32", "im_shape")
    detector = ExportedDetector(model, normalize=fused, output=output)
    detector.eval()
    folder = Path(output_dir) / cfg.name
    static = paddle.jit.to_static(
        detector, input_spec=[inputs.get(k) for k in ("image", "scale_factor", "im_shape")], full_graph=True
    )

    labels, category_ids = dataset.class_names, dataset.category_ids
    if not labels:
        logger.warning("TestDataset.anno_path names no classes: infer_cfg.yml numbers them")
        category_ids = list(range(cfg["num_classes"]))
        labels = [str(i) for i in category_ids]
    settings = {
        "mode": "paddle",
        "draw_threshold": 0.5,
        "metric": cfg["metric"],
        "use_dynamic_shape": height is None or width is None,
        "arch": cfg["architecture"],
        "min_subgraph_size": 3,
        "Preprocess": preprocess,
        "label_list": list(labels),
        "category_ids": list(category_ids),
        "fuse_normalize": fused is not None,
        "output": output,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # A failed export leaves an earlier one as it was.
    with tempfile.TemporaryDirectory(prefix=".export", dir=folder) as temporary:
        paddle.jit.save(static, f"{temporary}/model")
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (Path(temporary) / "infer_cfg.yml").write_text(text, encoding="utf-8")
        for path in Path(temporary).iterdir():
            os.replace(path, folder / path.name)
    logger.info("exported to %s: %s", folder, ", ".join(sorted(p.name for p in folder.iterdir())))
    return folder


def describe_transforms(transforms: Sequence[object], where: str) -> list[dict]:
    """The Preprocess list of infer_cfg.yml."""
    described = []
    for t in transforms:
        if isinstance(t, Resize):
            described.append(
                {
                    "type": "Resize",
                    "target_size": list(t.target_size),
                    "keep_ratio": t.keep_ratio,
                    "interp": t.interp,
                }
            )
        elif isinstance(t, NormalizeImage):
            described.append(
                {
                    "type": "NormalizeImage",
                    "mean": t.mean,
                    "std": t.std,
                    "is_scale": t.is_scale,
                    "norm_type": t.norm_type,
                    # PaddleDetection, which reads these files too, does not know it, and has no other order than RGB.
                    **({"channel_order": t.channel_order} if t.is_bgr else {}),
                }
            )
        elif isinstance(t, Permute):
            described.append({"type": "Permute"})
        elif isinstance(t, PadBatch):
            size = {"size": list(t.pad_to_size)} if t.pad_to_size else {}
            described.append({"type": "PadStride", "stride": t.pad_to_stride, **size})
        elif not isinstance(t, Decode):
            raise ConfigError(
                f"{where}: TestReader: {type(t).__name__} cannot be exported; "
                "Decode, Resize, NormalizeImage, Permute and PadBatch can"
            )
    return described


def input_size(inputs_def: Optional[dict], where: str) -> tuple[Optional[int], Optional[int]]:
    """Fixed height and width of the exported graph's input, None where any will do."""
    shape = (inputs_def or {}).get("image_shape")
    if shape is None:
        return None, None
    if not isinstance(shape, list) or len(shape) not in (3, 4) or shape[-3] != 3:
        raise ConfigError(f"{where}: TestReader.inputs_def.image_shape is {shape}; expected [3, height, width]")
    height, width = (None if side in (None, -1) else side for side in shape[-2:])
    return height, width
