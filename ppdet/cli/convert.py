"""Convert weights of another code base: detectors of MMDetection, FCOS_PLUS and torchvision, and ResNet backbones.

SRC is a .pth file of torch.save, old or new, a .pkl file of arrays (detectron2's backbones), or a .safetensors file.
No code in the file is executed, and PyTorch is not needed. The command prints which names were converted, which were
left out and why, which are missing, and the configurations that the weights seem to be made for. With -c, every name
and shape has to fit the model of that configuration; otherwise no file is written, and the command prints what to set.

Weights do not tell how images are prepared (BGR or RGB, mean, std) nor how outputs become boxes (thresholds, scores):
the configuration decides that. A warning names settings that differ from what the weights seem to be made for.

examples:
  {program} fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth --to fcos_r50_caffe.pdparams
  {program} fcos_resnet50_fpn_coco-99b0c9b7.pth --from torchvision --to fcos.pdparams \\
      -c fcos_r50_fpn_torchvision_26e_coco
  {program} R-50.pkl --from detectron2 --to R-50.pdparams    # a backbone, for pretrain_weights
  {program} my_detector.pth --to my_detector.pdparams -c FILE -o num_classes=20
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppdet.cli.arguments import add_config_arguments, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors

CODE_BASES = ("auto", "mmdet", "fcos_plus", "torchvision", "detectron2")


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("source", type=Path, metavar="SRC", help="file to convert, which is not changed")
    parser.add_argument(
        "--from",
        dest="code_base",
        choices=CODE_BASES,
        default="auto",
        help="code base whose parameter names the file has; auto: the one with the most matching names (default). "
        "ResNets of timm and MMDetection have torchvision's names",
    )
    parser.add_argument(
        "--to", required=True, type=Path, metavar="OUT", help="file to write, .pdparams or .safetensors"
    )
    add_config_arguments(parser, required=False)
    arguments = parser.parse_args(argv)
    if arguments.opt and not arguments.config:
        parser.error("-o changes the configuration of -c, which is missing")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        load_libraries(arguments, announce=False)
        from ppdet.engine.device_choice import choose

        choose("cpu", announce=False)  # weights are only read and written
        from ppdet.engine.weight_conversion import convert_file

        convert_file(
            arguments.source,
            arguments.to,
            code_base=arguments.code_base,
            config=arguments.config,
            overrides=arguments.opt,
        )
