"""Exporting a trained model to a folder: Paddle's static graph, its weights, infer_cfg.yml, and further formats."""

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import paddle
import yaml
from paddle import Tensor, nn
from paddle.static import InputSpec

from ppdet.core.config import Config
from ppdet.data.normalization import normalize
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.deploy.backends.tensorrt import FOLDER as TENSORRT
from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.build import build_dataset, build_trained_model
from ppdet.engine.checkpoints.class_names import use_classes_of_weights
from ppdet.engine.export.check import (
    check_arrays,
    check_images,
    expected_outputs,
    make_self_check,
    on_cpu,
    temporary_inside,
    verify,
    verify_outputs,
)
from ppdet.engine.export.infer_cfg import settings_of, warn_if_too_small
from ppdet.engine.export.metadata import metadata_of
from ppdet.engine.export.onnx import write_formats
from ppdet.engine.export.refusals import (
    ENGINES,
    check_formats,
    check_network,
    check_size,
    graph_size,
    origin_of_size,
    stride_of,
)
from ppdet.engine.export.tensorrt_onnx import add_tensorrt, check_fixed_size, check_target
from ppdet.engine.export.triton import FOLDER as TRITON
from ppdet.engine.export.triton import with_onnx, write_repository
from ppdet.modeling.architectures.base import DenseDetector
from ppdet.modeling.layers import ConvNorm
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FILES = (
    *("model.json", "model.pdmodel", "model.onnx", "model_fp16.onnx", "model_tensorrt.onnx", "selfcheck.npz"),
    *("model.xml", "model.bin", "model_fp16.xml", "model_fp16.bin"),
)


class ExportedDetector(nn.Layer):
    """The network that is exported as a static graph.

    Args:
        normalizer: the normalization to do in the graph; None if images are normalized before.
        output: what the graph ends with.
            "detections": rows (M, 6), and the number of rows per image, see `DenseDetector.detect`.
            "boxes": boxes (N, R, 4) and scores (N, C, R) before NMS.
            "maps": logits, distances and quality of each level.
            "candidates": as "boxes", plus a third output if NMS compares other boxes than it returns: those boxes.
            "locations": as "candidates", for every location, without top-k and thresholds.
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
        boxes, scores, nms_offset, _ = candidates
        if self.output == "boxes" or nms_offset is None:
            return boxes, scores
        return boxes, scores, boxes + nms_offset.unsqueeze(1)


@on_cpu()
def export_model(
    cfg: Config,
    output_dir: str | Path = "output_inference",
    *,
    formats: Sequence[str] = (),
    precision: str = "fp32",
    check_image: str | None = None,
    target: str | None = None,
    batch_size: int = 1,
) -> Path:
    """Export a trained detector to a folder for `ppdet.Detector` and other inference engines.

    Every file is run in its engine, on the CPU, and compared with the trained model. Only then an earlier export in the
    folder is replaced. In Python:

        cfg = ppdet.load_config("output/NAME/config.yml", {"weights": "output/NAME/best_model"})
        folder = ppdet.export(cfg, formats=["onnx"])
        detections = ppdet.Detector(folder).predict("photo.jpg")

    Args:
        cfg: the configuration, with `weights`, TestReader and TestDataset; the settings `export` choose what the graph
            ends with.
        output_dir: the folder is output_dir/NAME, where NAME is the configuration's name.
        formats: formats to write besides Paddle's: "onnx" (model.onnx), "openvino" (model.xml and model.bin), "triton"
            (a model repository for Triton, see `write_repository`, and "onnx").
        precision: the precision in which a `Detector` computes by default: "fp32"; "bf16", which Paddle and OpenVINO
            have; or "fp16", which writes further files for ONNX Runtime and OpenVINO, model_fp16.*.
        check_image: image file in which detections are compared. None: the first image of EvalDataset with boxes in
            which the model detects something.
        target: "tensorrt" also writes model_tensorrt.onnx, for batches of `batch_size` images of one size.

    Returns:
        The folder: model.json (model.pdmodel with Paddle 2.6), model.pdiparams, infer_cfg.yml, selfcheck.npz, and the
        files of `formats`.

    Raises:
        ConfigError, DeployError: `weights` is not set, TestReader has a transform that cannot be exported, formats and
            precision do not fit, or a format's packages are not installed.
        ExportError: a graph does not compute what the model does.
    """
    reader = cfg.component("TestReader")
    transforms = [*(reader.create("sample_transforms") or []), *(reader.create("batch_transforms") or [])]
    fused = next((t for t in transforms if isinstance(t, NormalizeImage)), None) if reader["fuse_normalize"] else None
    size = graph_size(reader["inputs_def"], origin_of_size(cfg))
    warn_if_too_small(size, transforms)
    output = "detections" if cfg["export"]["nms"] else "boxes"
    if cfg["export"]["benchmark"] or not cfg["export"]["post_process"]:
        output = "maps"
    for_triton, formats = "triton" in formats, with_onnx(formats)
    check_target(target, batch_size, output, formats, precision)
    check_formats(formats, precision, output)
    outside = [t for t in transforms if t is not fused]
    dataset = build_dataset(cfg, "TestDataset")
    images = check_images(cfg, check_image)

    def check(network: nn.Layer) -> None:
        stride, origin = stride_of(network, transforms), origin_of_size(cfg)
        check_size(size, stride, origin)
        if target:
            check_fixed_size(size, outside, stride, origin)
        check_network(network, formats)

    model = build_trained_model(cfg, check=check)
    use_classes_of_weights(dataset, "TestDataset", model.trained_classes)
    settings = settings_of(
        *(cfg, dataset, outside),
        size=size,
        fuse_normalize=fused is not None,
        output=output,
        precision=precision,
        stride=stride_of(model, transforms),
    )
    preprocess = Preprocess(settings)
    detector = ExportedDetector(model, normalizer=fused, output=output)
    detector.eval()
    inputs = graph_inputs(size, output, fused)

    # The expected outputs are computed before batch norms are folded.
    if output == "detections":
        self_check, locations = make_self_check(detector, preprocess, images, list(inputs), precision)
    else:
        arrays = check_arrays(preprocess, next(images))
        expected = expected_outputs(detector, arrays, list(inputs))
    if cfg["export"]["fuse_conv_bn"]:
        count = sum(layer.fuse() for layer in model.sublayers() if isinstance(layer, ConvNorm))
        logger.info("%d batch norms folded into their convolutions", count)

    folder = Path(output_dir) / cfg.name
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_inside(folder) as files:
        save_graph(detector, inputs, files)
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (files / "infer_cfg.yml").write_text(text, encoding="utf-8")
        facts = metadata_of(settings, model)
        add_formats(detector, inputs, files, formats, precision, facts)
        if output == "detections":
            for backend, kind in engines(formats, precision):
                verify(files, backend, kind, self_check)
            if locations is not None:
                verify_locations(detector, inputs, formats, precision, self_check, locations)
            if target == "tensorrt":
                save = functools.partial(save_graph, detector, inputs)
                add_tensorrt(detector, save, files, self_check, preprocess.sizes()[2], batch_size, facts)
            self_check.write(files)
        else:
            for backend, _ in engines(formats, precision):
                verify_outputs(files, backend, arrays, expected)
        if for_triton:
            file = "model_fp16.onnx" if precision == "fp16" else "model.onnx"
            write_repository(files / file, files, cfg.name, settings["label_list"])
        replace_files(folder, files)
    logger.info("exported to %s: %s", folder, ", ".join(sorted(p.name for p in folder.iterdir())))
    return folder


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


def add_formats(
    detector: ExportedDetector,
    inputs: dict[str, InputSpec],
    target: Path,
    formats: Sequence[str],
    precision: str,
    metadata: Mapping[str, str],
) -> None:
    """Write the detector in other formats to the folder `target`."""
    if not formats:
        return
    with_nms = detector.output == "detections"
    if with_nms:
        detector.output = "candidates"
    with tempfile.TemporaryDirectory() as temporary:
        save_graph(detector, inputs, Path(temporary))
        write_formats(
            *(Path(temporary), target, detector.model, formats, precision),
            with_nms=with_nms,
            names=output_names(detector),
            metadata=metadata,
        )


def output_names(detector: ExportedDetector) -> list[str]:
    """Return names for the outputs of a graph that ends with boxes or maps; [] for other graphs."""
    if detector.output == "maps":
        strides = detector.model.locations.strides
        return [f"{kind}_{stride}" for stride in strides for kind in ("logits", "distances", "quality")]
    return ["boxes", "scores"] if detector.output == "boxes" else []


def engines(formats: Sequence[str], precision: str) -> Iterator[tuple[str, str]]:
    """Yield the engine and the precision for every file that was written: fp32, and `precision` if it applies."""
    for backend in (ENGINES[name] for name in ("paddle", *formats)):
        yield backend, "fp32"
        if precision == "bf16" or (precision == "fp16" and backend != "paddle"):
            yield backend, precision


def verify_locations(
    detector: ExportedDetector,
    inputs: dict[str, InputSpec],
    formats: Sequence[str],
    precision: str,
    check: SelfCheck,
    expected: Sequence[np.ndarray],
) -> None:
    """Compare all locations before NMS, in temporary graphs that end with them, for a model that detects too little.

    Args:
        check: has the inputs. expected: the trained model's boxes and scores.

    Raises:
        ExportError: they differ.
    """
    detector.output = "locations"
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary), Path(temporary) / "formats"
        target.mkdir()
        save_graph(detector, inputs, source)
        if formats:
            write_formats(source, target, detector.model, formats, precision, with_nms=False)
        for backend, kind in engines(formats, precision):
            verify(source if backend == "paddle" else target, backend, kind, check, expected)


def replace_files(folder: Path, target: Path) -> None:
    """Move the files of an export from `target` to `folder`, and remove those that only an earlier export had."""
    for name in FILES:
        if not (target / name).exists():
            (folder / name).unlink(missing_ok=True)
    for name in (TENSORRT, TRITON):  # compiled from the earlier graph, and made of it
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in target.iterdir():
        os.replace(path, folder / path.name)
