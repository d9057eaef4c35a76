"""Export a trained detector as a static graph for Paddle Inference, ONNX Runtime and OpenVINO.

A folder is written with the graph, its weights and infer_cfg.yml, which tells how images are prepared. Every graph is
run and compared with the trained model before it replaces an earlier export. All of this runs on the CPU; the device is
chosen when the exported model is used.

examples:
  {program} output/fcos_r18_fpn_shapes      # best_model, or else model_final
  {program} -c fcos_r18_fpn_shapes -o weights=output/fcos_r18_fpn_shapes/model_final
  {program} output/NAME --format onnx openvino
  {program} output/NAME --format openvino --precision int8      # quantized with 300 images of TrainDataset
  {program} output/NAME --target tensorrt --precision int8      # also model_tensorrt_int8.onnx
  {program} output/NAME --thresholds report/thresholds.json     # what ppdet eval output/NAME --report report wrote
  {program} output/NAME -o TestReader.fuse_normalize=false --output_dir exported
then:
  ppdet detect --model_dir output_inference/fcos_r18_fpn_shapes --image_file IMAGE
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ppdet.cli.arguments import add_run_arguments, load_libraries, require_run
from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.deploy.precisions import CALIBRATION, MAX_DROP, PRECISIONS
from ppdet.utils.logger import get_logger


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_run_arguments(parser)
    parser.add_argument(
        "--output_dir",
        default="output_inference",
        metavar="DIR",
        help="write to the folder DIR/NAME (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("paddle", "onnx", "openvino", "triton"),
        default=["paddle"],
        help="write model.onnx, OpenVINO's model.xml and model.bin, or a model repository for Triton and model.onnx, "
        "besides Paddle's graph, which is always written",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="precision in which the exported model computes unless told otherwise; fp16 and int8 add model_fp16.* "
        "and model_int8.* files; int8 with --target tensorrt adds model_tensorrt_int8.onnx (default: fp32)",
    )
    parser.add_argument(
        "--calibration",
        type=positive,
        default=CALIBRATION,
        metavar="N",
        help="images of TrainDataset with which --precision int8 quantizes (default: %(default)s)",
    )
    parser.add_argument(
        "--max_drop",
        type=float,
        default=MAX_DROP,
        metavar="AP",
        help="how much AP int8 may lose on EvalDataset; layers that cost more stay in float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--check_image",
        metavar="FILE",
        help="image on which the detections of the graph and of the model are compared (default: a labeled one of "
        "EvalDataset)",
    )
    parser.add_argument(
        "--thresholds",
        metavar="FILE",
        help="thresholds.json of `ppdet eval --report`: the exported model's boxes are shown from the score on that is "
        "best for their class, in place of 0.5",
    )
    parser.add_argument(
        "--target",
        choices=("tensorrt",),
        help="also write model_tensorrt.onnx, a graph of fixed sizes with the outputs of TensorRT's EfficientNMS",
    )
    parser.add_argument(
        "--batch_size", type=int, default=1, metavar="N", help="images in a batch of --target (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    require_run(parser, arguments)
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        folder = export(arguments)
        from ppdet.deploy.compare import FILE as SELF_CHECK

        if (folder / SELF_CHECK).is_file():  # only a graph that returns detections has one
            get_logger(__name__).info("next: ppdet serve --model_dir %s", shlex.quote(str(folder)))


def export(arguments: argparse.Namespace) -> Path:
    """Export as the arguments say, and return the folder."""
    from ppdet.engine.report.thresholds_file import read_file

    if arguments.thresholds:
        read_file(arguments.thresholds)  # what is wrong with it is told before the model is loaded
    load_libraries(arguments)
    from ppdet.engine.device_choice import check_device
    from ppdet.engine.export.graph import export_model
    from ppdet.engine.runs.trained import trained_config

    cfg = trained_config(arguments, "TestReader")
    check_device(cfg)
    return export_model(
        cfg,
        arguments.output_dir,
        formats=[name for name in ("onnx", "openvino", "triton") if name in arguments.format],
        precision=arguments.precision,
        check_image=arguments.check_image,
        thresholds=arguments.thresholds,
        target=arguments.target,
        batch_size=arguments.batch_size,
        calibration=arguments.calibration,
        max_drop=arguments.max_drop,
    )
