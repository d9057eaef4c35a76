"""From a trained model to a folder that Paddle Inference runs: a static graph, its weights, and infer_cfg.yml."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import paddle
import yaml
from paddle import Tensor, nn
from paddle.static import InputSpec

from ppdet.core.config import Config
from ppdet.data.normalization import normalize
from ppdet.data.sources import DetectionDataset
from ppdet.data.transforms.batch import PadBatch
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.geometry import Resize
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.deploy.backends import BACKENDS
from ppdet.deploy.backends.tensorrt import FOLDER as TENSORRT
from ppdet.deploy.preprocess import Preprocess, entry_of, modules_of
from ppdet.engine.build import build_dataset, build_trained_model
from ppdet.engine.checkpoints.class_names import use_classes_of_weights
from ppdet.engine.export.check import (
    beside_earlier,
    check_arrays,
    check_images,
    expected_outputs,
    on_cpu,
    self_check,
    verify,
    verify_arrays,
    verify_candidates,
)
from ppdet.engine.export.image_size import graph_size, warn_if_too_small
from ppdet.engine.export.onnx import write_formats
from ppdet.modeling.architectures.base import DenseDetector
from ppdet.modeling.layers import ConvNorm
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

ENGINES = {kind.format: name for name, kind in BACKENDS.items()}
FILES = (
    *("model.json", "model.pdmodel", "model.onnx", "model_fp16.onnx", "selfcheck.npz"),
    *("model.xml", "model.bin", "model_fp16.xml", "model_fp16.bin"),
)


class ExportedDetector(nn.Layer):
    """What the static graph computes.

    Args:
        normalizer: the transform to do inside the graph, None where the caller normalises.
        output: "detections" (rows and rows per image), "boxes" (decoded boxes and scores, before suppression), "maps"
            (logits, distances and quality of each level) or "candidates": as "boxes", with a third output where NMS
            compares other boxes than it returns: these boxes. "locations": as "candidates", for every location, without
            top-k and thresholds.
    """

    def __init__(self, model: DenseDetector, *, normalizer: NormalizeImage | None, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output
        self.normalization = normalizer.normalization if normalizer else None
        if self.normalization:
            self.mean, self.std = self.normalization.tensors()

    @paddle.jit.not_to_static  # nothing in it depends on values: it is recorded as it runs, which is many times faster
    def forward(self, image: Tensor, scale_factor: Tensor | None = None, im_shape: Tensor | None = None):
        """image (N, 3, H, W), RGB pixels where they are normalised here; scale_factor (N, 2) y, x; im_shape (N, 2)
        height, width without padding."""
        if self.normalization:
            size, to_bgr = paddle.shape(image)[2:], self.normalization.is_bgr
            image = normalize(image, self.mean, self.std, size=size, im_shape=im_shape, to_bgr=to_bgr)
        maps = self.model.predict_maps(image)
        if self.output == "maps":
            return [tensor for level in zip(*maps) for tensor in level]
        if self.output in ("boxes", "candidates", "locations"):
            candidates = self.model.decode(maps, scale_factor, im_shape, every_location=self.output == "locations")
            boxes, scores, nms_offset, _ = candidates
            if self.output == "boxes" or nms_offset is None:
                return boxes, scores
            return boxes, scores, boxes + nms_offset.unsqueeze(1)
        return self.model.detect(maps, scale_factor, im_shape)


@on_cpu()
def export_model(
    cfg: Config,
    output_dir: str,
    *,
    formats: Sequence[str] = (),
    precision: str = "fp32",
    image: str | None = None,
) -> Path:
    """Write model.json (model.pdmodel on Paddle 2.6), model.pdiparams and infer_cfg.yml to output_dir/<name>, and with
    `formats` the same graph for other engines. Nothing is replaced before all of it was run and compared, on the CPU.

    Args:
        formats: onnx (model.onnx) and openvino (model.xml, model.bin).
        precision: what a Detector computes this folder in when not told otherwise: fp32; bf16, in Paddle and OpenVINO;
            fp16, with files of its own for ONNX Runtime and OpenVINO beside those in float32.
        image: a file to compare detections on; None for the first labelled one of EvalDataset with detections.

    Raises:
        ConfigError: no weights, TestReader has a transform that deployment does not know, or a format cannot be had.
        ExportError: an exported graph does not detect what the model does.
    """
    reader = cfg.component("TestReader")
    transforms = [
        *(reader.create("sample_transforms") or []),
        *(reader.create("batch_transforms") or []),
    ]
    fused = next((t for t in transforms if isinstance(t, NormalizeImage)), None) if reader["fuse_normalize"] else None
    size = graph_size(reader["inputs_def"], cfg.path)
    warn_if_too_small(size, transforms)
    output = "detections" if cfg["export"]["nms"] else "boxes"
    if cfg["export"]["benchmark"] or not cfg["export"]["post_process"]:
        output = "maps"
    check_formats(formats, precision, output)
    preprocess = describe_transforms([t for t in transforms if t is not fused], cfg.path)
    dataset = build_dataset(cfg, "TestDataset")
    images = check_images(cfg, image)

    model = build_trained_model(cfg)
    use_classes_of_weights(dataset, "TestDataset", model.trained_classes)
    settings = describe(cfg, dataset, preprocess, size, fused is not None, output, precision)
    detector = ExportedDetector(model, normalizer=fused, output=output)
    detector.eval()
    inputs = {"image": InputSpec([None, 3, *size], "float32", "image")}
    if output != "maps":
        inputs["scale_factor"] = InputSpec([None, 2], "float32", "scale_factor")
    if output != "maps" or fused is not None:  # what lies in the padding, for detection and for normalisation
        inputs["im_shape"] = InputSpec([None, 2], "float32", "im_shape")
    if output == "detections":
        check, candidates = self_check(detector, Preprocess(settings), images, list(inputs), precision)
    else:
        arrays = check_arrays(Preprocess(settings), next(images))
        expected = expected_outputs(detector, arrays, list(inputs))
    if cfg["export"]["fuse_conv_bn"]:
        count = sum(layer.fuse() for layer in model.sublayers() if isinstance(layer, ConvNorm))
        logger.info("%d batch norms folded into their convolutions", count)

    folder = Path(output_dir) / cfg.name
    folder.mkdir(parents=True, exist_ok=True)
    # A failed export leaves an earlier one as it was.
    with beside_earlier(folder) as target:
        save_graph(detector, inputs, target / "model")
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (target / "infer_cfg.yml").write_text(text, encoding="utf-8")
        if output != "detections":
            verify_arrays(target, arrays, expected)
        else:
            if formats:
                detector.output = "candidates"
                with tempfile.TemporaryDirectory() as other:
                    save_graph(detector, inputs, Path(other) / "model")
                    write_formats(Path(other), target, model, formats, precision)
            for backend, kind in engines(formats, precision):
                verify(target, backend, kind, check)
            if candidates is not None:
                verify_before_suppression(detector, inputs, formats, precision, check.arrays, candidates)
            check.write(target)
        for name in FILES:  # of another export, which would not be this model
            if not (target / name).exists():
                (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / TENSORRT, ignore_errors=True)  # compiled of the earlier one
        for path in target.iterdir():
            os.replace(path, folder / path.name)
    logger.info("exported to %s: %s", folder, ", ".join(sorted(p.name for p in folder.iterdir())))
    return folder


def save_graph(detector: ExportedDetector, inputs: dict[str, InputSpec], path: Path) -> None:
    specs = [inputs.get(name) for name in ("image", "scale_factor", "im_shape")]
    paddle.jit.save(paddle.jit.to_static(detector, input_spec=specs, full_graph=True), str(path))


def check_formats(formats: Sequence[str], precision: str, output: str) -> None:
    """Raise ConfigError for formats and precisions that do not go together."""
    if formats and output != "detections":
        raise ConfigError(
            f"--format {' '.join(formats)}: other formats hold the whole detector: set export.post_process and "
            "export.nms true, export.benchmark false"
        )
    if precision != "fp32" and output != "detections":
        raise ConfigError(f"--precision {precision}: set export.post_process and export.nms true, benchmark false")
    if precision == "fp16" and not formats:
        raise ConfigError(
            "--precision fp16 needs --format onnx or openvino; Paddle Inference makes float16 of this export when it "
            "loads it on a GPU: Detector(folder, device='gpu', precision='fp16')"
        )
    if precision == "bf16" and "onnx" in formats:
        raise ConfigError("--precision bf16: ONNX Runtime has none; leave out --format onnx, or take openvino")


def engines(formats: Sequence[str], precision: str) -> Iterator[tuple[str, str]]:
    """Backend and precision to run every written file in: float32, and the other precision where there is one."""
    for backend in (ENGINES[name] for name in ("paddle", *formats)):
        yield backend, "fp32"
        if precision == "bf16" or (precision == "fp16" and backend != "paddle"):
            yield backend, precision


def verify_before_suppression(
    detector: ExportedDetector,
    inputs: dict[str, InputSpec],
    formats: Sequence[str],
    precision: str,
    arrays: dict[str, np.ndarray],
    candidates: Sequence[np.ndarray],
) -> None:
    """Run the network and its decoding in all engines, in files that are not kept, and compare all locations.

    Raises:
        ExportError: they are not the trained model's `candidates`.
    """
    detector.output = "locations"
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary), Path(temporary) / "formats"
        target.mkdir()
        save_graph(detector, inputs, source / "model")
        if formats:
            write_formats(source, target, detector.model, formats, precision, suppress=False)
        for backend, kind in engines(formats, precision):
            verify_candidates(source if backend == "paddle" else target, backend, kind, arrays, candidates)


def describe(
    cfg: Config,
    dataset: DetectionDataset,
    preprocess: list[dict],
    size: Sequence[int | None],
    fused: bool,
    output: str,
    precision: str,
) -> dict:
    """infer_cfg.yml, with the classes of `dataset`."""
    labels, category_ids = dataset.class_names, dataset.category_ids
    if not labels:
        logger.warning("TestDataset.anno_path names no classes: infer_cfg.yml numbers them")
        category_ids = list(range(cfg["num_classes"]))
        labels = [str(i) for i in category_ids]
    free = None in size
    return {
        "mode": "paddle",
        "draw_threshold": 0.5,
        "metric": cfg["metric"],
        "use_dynamic_shape": free,
        **({} if free else {"image_shape": [3, *size]}),
        "arch": cfg["architecture"],
        "min_subgraph_size": 3,
        "Preprocess": preprocess,
        "label_list": list(labels),
        "category_ids": list(category_ids),
        "fuse_normalize": fused,
        "output": output,
        "precision": precision,
        **({"requires": modules_of(preprocess)} if modules_of(preprocess) else {}),
    }


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
                    **({"channel_order": t.channel_order} if t.normalization.is_bgr else {}),
                }
            )
        elif isinstance(t, Permute):
            described.append({"type": "Permute"})
        elif isinstance(t, PadBatch):
            size = {"size": list(t.pad_to_size)} if t.pad_to_size else {}
            described.append({"type": "PadStride", "stride": t.pad_to_stride, **size})
        elif not isinstance(t, Decode):
            described.append(entry_of(t))
    return described
