"""Count parameters, FLOPs and memory of a configuration's network, part by part.

GFLOPs are the multiply-adds of the convolutions for one image, as MMDetection and PaddleDetection count them. Maps are
the outputs of the convolutions for one image in float32, each counted once together with its norm and ReLU: training
keeps nearly all of them in memory until the backward pass, except in frozen stages.

examples:
  {program} -c fcos_r50_fpn_1x_coco
  {program} -c fcos_r18_fpn_shapes --size 320 448 --depth 3
  {program} -c fcos_r50_fpn_1x_coco -o ResNet.depth=101 FCOSHead.fcos_feat.num_convs=2
"""

import argparse
from collections.abc import Sequence

from ppdet.cli.arguments import add_config_arguments, load_libraries
from ppdet.core.command_line import fail, make_parser, one_line_errors, positive


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=[800, 1333],
        metavar=("HEIGHT", "WIDTH"),
        help="size of the image in pixels, which is padded to multiples of 32 (default: 800 1333)",
    )
    parser.add_argument(
        "--depth",
        type=positive,
        default=2,
        help="levels of the table: 1 shows backbone, neck and head, 2 also their parts (default: 2)",
    )
    add_config_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        load_libraries(arguments, announce=False)
        from ppdet.engine.device_choice import choose

        choose("cpu", announce=False)  # the numbers are the same on every device
        from ppdet.core.workspace import load_config
        from ppdet.engine.build import build_model
        from ppdet.engine.model_info import measure, table

        height, width = (-(-side // 32) * 32 for side in arguments.size)
        model = build_model(load_config(arguments.config, arguments.opt))
        try:
            parts = measure(model, height, width, arguments.depth)
        except MemoryError:
            fail(f"not enough memory for an image of {height} x {width} pixels: use a smaller --size")
        print(f"one image of {height} x {width} pixels")
        print(table(parts))
