"""Show a merged configuration: every value, defaults included, with the file and line it comes from."""

import argparse
import sys
from collections.abc import Sequence

from ppdet.cli.arguments import add_config_arguments, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors

EXAMPLES = """examples:
  {program} -c fcos_r50_fpn_1x_coco
  {program} -c fcos_r50_fpn_1x_coco -o ResNet.depth=18 num_classes=3
  {program} -c fcos_r50_fpn_1x_coco -o LearningRate.schedulers.0.gamma=0.2
  {program} --configs      # the names that -c takes
"""


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES, program)
    add_config_arguments(parser, required=False)
    parser.add_argument("--configs", action="store_true", help="list the shipped configurations by name")
    arguments = parser.parse_args(argv)
    if bool(arguments.config) == arguments.configs:
        parser.error("give either -c FILE or --configs")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        if arguments.configs:
            from ppdet.core.shipped_configs import shipped_configs

            print("\n".join(shipped_configs()))
            return
        load_libraries(arguments, announce=False)
        from ppdet.core.show import show
        from ppdet.core.workspace import load_config

        sys.stdout.write(show(load_config(arguments.config, arguments.opt)))
