"""Exporting a trained model to a folder: Paddle's static graph, its weights, infer_cfg.yml, and further formats."""

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from paddle import nn
from paddle.static import InputSpec

from ppdet.core.config import Config
from ppdet.data.classes import Classes
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.deploy.backends.tensorrt import FOLDER as TENSORRT
from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.precisions import CALIBRATION, MAX_DROP, OF_TENSORRT, OWN_FILES, graph_name
from ppdet.deploy.preprocess import Preprocess
from ppdet.deploy.tta import Suppression
from ppdet.engine.build import build_dataset, build_trained_model
from ppdet.engine.checkpoints.class_names import use_classes_of_weights
from ppdet.engine.export.accuracy import Calibration, ValidationSet
from ppdet.engine.export.check import (
    BeforeNms,
    check_arrays,
    check_images,
    make_self_check,
    on_cpu,
    temporary_inside,
    verify,
)
from ppdet.engine.export.infer_cfg import settings_of, warn_if_too_small
from ppdet.engine.export.int8 import calibration_paths, write_int8
from ppdet.engine.export.metadata import metadata_of
from ppdet.engine.export.onnx import write_formats
from ppdet.engine.export.prepared_images import PreparedImages
from ppdet.engine.export.refusals import (
    ENGINES,
    check_formats,
    check_network,
    check_quantization,
    check_size,
    graph_size,
    origin_of_size,
    stride_of,
)
from ppdet.engine.export.static_graph import ExportedDetector, graph_inputs, output_names, save_graph
from ppdet.engine.export.tensorrt_onnx import add_tensorrt, check_fixed_size, check_target
from ppdet.engine.export.triton import FOLDER as TRITON
from ppdet.engine.export.triton import with_onnx, write_repository
from ppdet.engine.report.thresholds_file import read_thresholds
from ppdet.modeling.layers import ConvNorm
from ppdet.utils.errors import ConfigError, DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FILES = (
    *("model.json", "model.pdmodel", "model.onnx", "model_fp16.onnx", "model_int8.onnx", *OF_TENSORRT),
    *("model.xml", "model.bin", "model_fp16.xml", "model_fp16.bin", "model_int8.xml", "model_int8.bin"),
    "selfcheck.npz",
)


@on_cpu()
def export_model(
    cfg: Config,
    output_dir: str | Path = "output_inference",
    *,
    formats: Sequence[str] = (),
    precision: str = "fp32",
    check_image: str | None = None,
    thresholds: str | Path | None = None,
    target: str | None = None,
    batch_size: int = 1,
    calibration: int = CALIBRATION,
    max_drop: float = MAX_DROP,
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
            have; "fp16" or "int8", which write further files for ONNX Runtime and OpenVINO, model_fp16.* or
            model_int8.*, and "int8" with `target` also model_tensorrt_int8.onnx.
        check_image: image file in which detections are compared. None: the first image of EvalDataset with boxes in
            which the model detects something.
        thresholds: file with the score threshold of each class (see `read_thresholds`), which goes into infer_cfg.yml.
        calibration: number of images of TrainDataset with which a graph is quantized to int8.
        max_drop: how much AP int8 may lose on EvalDataset, in percent; layers that cost more stay in float32.
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
    check_formats(formats, precision, output, target)
    check_quantization(precision, calibration, max_drop)
    outside = [t for t in transforms if t is not fused]
    dataset = build_dataset(cfg, "TestDataset")
    images = check_images(cfg, check_image)
    shown = calibration_paths(cfg, calibration) if precision == "int8" else []
    if not formats and precision == "int8":  # no file for a `Detector` is in int8
        precision = "fp32"

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
        nms=Suppression.of(model.nms),
        class_thresholds=read_thresholds(thresholds, dataset.class_names) if thresholds else None,
    )
    preprocess = Preprocess(settings)
    detector = ExportedDetector(model, normalizer=fused, output=output)
    detector.eval()
    inputs = graph_inputs(size, output, fused)

    # The expected outputs are computed before batch norms are folded.
    if output == "detections":
        self_check, locations = make_self_check(detector, preprocess, images, list(inputs), precision)
    else:
        expected = BeforeNms.of(detector, check_arrays(preprocess, next(images)), list(inputs))
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
            quantized = None
            if shown:
                quantized = calibration_of(cfg, preprocess, model.trained_classes, shown, max_drop)
                write_int8(files, formats, quantized)
            for backend, kind in engines(formats, precision):
                verify(files, backend, kind, self_check)
            if locations is not None:
                whole = "fp32" if precision == "int8" else precision  # int8 is judged by its AP
                verify_locations(detector, inputs, formats, whole, self_check, locations)
            if target == "tensorrt":
                save = functools.partial(save_graph, detector, inputs)
                largest = preprocess.sizes()[2]
                add_tensorrt(detector, save, files, self_check, largest, batch_size, facts, quantized)
            self_check.write(files)
        else:
            for backend, _ in engines(formats, precision):
                expected.verify(files, backend, output)
            if output == "boxes" and not expected.outputs[1].any():  # class_threshold leaves no score to compare
                check_of_inputs = SelfCheck(expected.arrays, [], 0.0, 0)
                verify_locations(detector, inputs, formats, precision, check_of_inputs, expected.locations)
        if for_triton:
            write_repository(files / f"{graph_name(precision)}.onnx", files, cfg.name, settings["label_list"])
        replace_files(folder, files)
    logger.info("exported to %s: %s", folder, ", ".join(sorted(p.name for p in folder.iterdir())))
    return folder


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


def engines(formats: Sequence[str], precision: str) -> Iterator[tuple[str, str]]:
    """Yield the engine and the precision for every file that was written: fp32, and `precision` if it applies."""
    for backend in (ENGINES[name] for name in ("paddle", *formats)):
        yield backend, "fp32"
        if precision == "bf16" or (precision in OWN_FILES and backend != "paddle"):
            yield backend, precision


def calibration_of(
    cfg: Config, preprocess: Preprocess, classes: Classes | None, shown: Sequence[str], max_drop: float
) -> Calibration:
    """Return the images with which a graph is quantized to int8, and those on which its AP is measured.

    Args:
        classes: the model's, if they are known.
        shown: paths of the images for calibration.
    """
    try:
        validation: ValidationSet | None = ValidationSet(cfg, preprocess, classes)
    except (ConfigError, DataError) as error:
        logger.warning("the AP of int8 is not measured, because EvalDataset cannot be read: %s", error)
        validation = None
    return Calibration(PreparedImages(shown, preprocess, "--calibration"), validation, max_drop)


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
