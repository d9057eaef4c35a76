"""Convert weights of another code base: detectors of MMDetection, FCOS_PLUS and torchvision, and ResNet backbones.

SRC is a .pth file of torch.save, old or new, a .pkl file of arrays (detectron2's backbones), or a .safetensors file.
Nothing in it is executed, and PyTorch is not needed. What mapped, what was left and why, and what is missing is
printed, and the configuration that the weights look made for. With -c, every name and shape must be as in that
configuration's model; otherwise nothing is written, and what to set is printed.

Weights do not say how images come in (BGR or RGB, mean, std) nor what becomes of maps (thresholds, scores): that is up
to the configuration. A warning tells where it differs from the one that the weights look made for.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_config_arguments, make_parser, one_line_errors, run

CODE_BASES = ("auto", "mmdet", "fcos_plus", "torchvision", "detectron2")
EXAMPLES = """examples:
  python tools/convert_weights.py fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth --to fcos_r50_caffe.pdparams
  python tools/convert_weights.py fcos_resnet50_fpn_coco-99b0c9b7.pth --from torchvision --to fcos.pdparams \\
      -c configs/fcos/fcos_r50_fpn_torchvision_26e_coco.yml
  python tools/convert_weights.py R-50.pkl --from detectron2 --to R-50.pdparams    # a backbone, for pretrain_weights
  python tools/convert_weights.py my_detector.pth --to my_detector.pdparams -c FILE -o num_classes=20
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("source", type=Path, metavar="SRC", help="the file to convert; it stays as it is")
    parser.add_argument(
        "--from",
        dest="code_base",
        choices=CODE_BASES,
        default="auto",
        help="whose names the file has; auto (default): those of which it has most. ResNets of timm and MMDetection "
        "have torchvision's",
    )
    parser.add_argument(
        "--to", required=True, type=Path, metavar="OUT", help="file to write, .pdparams or .safetensors"
    )
    add_config_arguments(parser, required=False)
    arguments = parser.parse_args()
    if arguments.opt and not arguments.config:
        parser.error("-o changes the configuration of -c, which is not given")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import choose, load_paddle

        load_paddle(announce=False)
        choose("cpu", announce=False)  # weights are only read and written
        from ppdet.engine.weight_conversion import convert_file

        convert_file(
            arguments.source,
            arguments.to,
            code_base=arguments.code_base,
            config=arguments.config,
            overrides=arguments.opt,
        )


if __name__ == "__main__":
    run(main)
