"""Show a merged configuration with the file and line of every value, or list all settings and components.

examples:
  {program} -c fcos_r50_fpn_1x_coco
  {program} -c fcos_r50_fpn_1x_coco -o ResNet.depth=18 num_classes=3
  {program} -c fcos_r50_fpn_1x_coco -o LearningRate.schedulers.0.gamma=0.2
  {program} --configs      # the names that -c takes
  {program} --list         # all settings and components
  {program} --list FCOSHead
"""

import argparse
import sys
from collections.abc import Sequence

from ppdet.cli.arguments import add_config_arguments, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_config_arguments(parser, required=False)
    parser.add_argument("--configs", action="store_true", help="list the shipped configurations by name")
    parser.add_argument(
        "--list",
        nargs="?",
        const="",
        metavar="NAME",
        help="list all settings and components with their meanings, or only NAME with its parameters",
    )
    arguments = parser.parse_args(argv)
    if [bool(arguments.config), arguments.configs, arguments.list is not None].count(True) != 1:
        parser.error("give one of -c FILE, --configs and --list")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        if arguments.configs:
            from ppdet.core.shipped_configs import shipped_configs

            print("\n".join(shipped_configs()))
            return
        load_libraries(arguments, announce=False)
        if arguments.list is not None:
            from ppdet.core.reference import print_list

            print_list(arguments.list or None)
            return
        from ppdet.core.show import show
        from ppdet.core.workspace import load_config

        sys.stdout.write(show(load_config(arguments.config, arguments.opt)))
