"""Export a trained model as a static graph for Paddle Inference, ONNX Runtime and OpenVINO, with what deployment has to
know beside it. Every graph is run and compared with the trained model before it replaces an earlier export, all on the
CPU: what deploys it chooses the device."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_run_arguments, make_parser, one_line_errors, require_run, run

EXAMPLES = """examples:
  python tools/export_model.py output/fcos_r18vd_fpn_bccd      # best_model, or else model_final
  python tools/export_model.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml \\
      -o weights=output/fcos_r18vd_fpn_bccd/model_final
  python tools/export_model.py output/NAME --format onnx openvino
  python tools/export_model.py output/NAME -o TestReader.fuse_normalize=false --output_dir exported
  python deploy/python/infer.py --model_dir output_inference/NAME --image_file photo.jpg
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_run_arguments(parser)
    parser.add_argument(
        "--output_dir", default="output_inference", help="the model goes to a folder in here (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("paddle", "onnx", "openvino"),
        default=["paddle"],
        help="besides Paddle's graph, which is always written: model.onnx, and OpenVINO's model.xml and model.bin",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="what the folder is computed in when not told otherwise; fp16 adds model_fp16.* (default: fp32)",
    )
    parser.add_argument(
        "--check_image", metavar="FILE", help="image to compare detections on (default: a labelled one of EvalDataset)"
    )
    arguments = parser.parse_args()
    require_run(parser, arguments)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import load_paddle

        load_paddle()
        from ppdet.engine.device_choice import check_device
        from ppdet.engine.export.graph import export_model
        from ppdet.engine.runs.trained import trained_config

        cfg = trained_config(arguments, "TestReader")
        check_device(cfg)
        export_model(
            cfg,
            arguments.output_dir,
            formats=[name for name in ("onnx", "openvino") if name in arguments.format],
            precision=arguments.precision,
            image=arguments.check_image,
        )


if __name__ == "__main__":
    run(main)
