"""Parameters, FLOPs and memory of maps of a configuration's network, part by part.

GFLOPs are multiply-adds of the convolutions for one image, as MMDetection and PaddleDetection print them. Maps are what
the convolutions put out for one image in float32, each with its norm and ReLU counted once: training keeps nearly all
of them until its backward pass, except in frozen stages.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_config_arguments, fail, make_parser, one_line_errors, positive, run

EXAMPLES = """examples:
  python tools/model_info.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml
  python tools/model_info.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --size 320 448 --depth 3
  python tools/model_info.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml -o ResNet.depth=101 FCOSHead.fcos_feat.num_convs=2
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=[800, 1333],
        metavar=("HEIGHT", "WIDTH"),
        help="of the image, which is padded to multiples of 32 (default: 800 1333)",
    )
    parser.add_argument("--depth", type=positive, default=2, help="how far parts are divided (default: 2)")
    add_config_arguments(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import choose, load_paddle

        load_paddle(announce=False)
        choose("cpu", announce=False)  # what is counted is the same on every device
        from ppdet.core.workspace import load_config
        from ppdet.engine.build import build_model
        from ppdet.engine.model_info import measure, table

        height, width = (-(-side // 32) * 32 for side in arguments.size)
        model = build_model(load_config(arguments.config, arguments.opt))
        try:
            parts = measure(model, height, width, arguments.depth)
        except MemoryError:
            fail(f"not enough memory for an image of {height} x {width} pixels: --size takes smaller ones")
        print(f"one image of {height} x {width} pixels")
        print(table(parts))


if __name__ == "__main__":
    run(main)
