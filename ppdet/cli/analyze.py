"""Compare training runs: print AP by epoch as a table, and draw curves of loss, learning rate and AP.

examples:
  {program} output/fcos_r18_fpn_shapes
  {program} output/fcos_r18_fpn_shapes output/NAME --picture both.png
  {program} output/fcos_r18_fpn_shapes --evaluate      # evaluate every checkpoint in the folder
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppdet.cli.arguments import add_config_arguments, add_device_argument, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors
from ppdet.utils.printable import printable


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder of a run, such as output/NAME")
    parser.add_argument(
        "--picture", type=Path, metavar="PNG", help="file for the curves (default: curves.png in the first folder)"
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="evaluate the checkpoints in the folders, with the config.yml there or with -c, instead of reading the "
        "numbers that training wrote; the results are added to evaluations.jsonl in each folder",
    )
    add_config_arguments(parser, required=False)
    add_device_argument(parser)
    arguments = parser.parse_args(argv)
    if (arguments.config or arguments.opt) and not arguments.evaluate:
        parser.error("-c, -o and --device are for --evaluate")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        load_libraries(arguments, announce=arguments.evaluate)
        from ppdet.engine.device_choice import set_device
        from ppdet.engine.runs import analysis
        from ppdet.engine.runs.trained import folder_config

        if arguments.evaluate:
            configs = [folder_config(folder, arguments.config, arguments.opt) for folder in arguments.folders]
            set_device(configs[0])
            runs = analysis.evaluate_checkpoints(configs, arguments.folders)
        else:
            runs = analysis.read_runs(arguments.folders)
        print(analysis.table(runs))
        path = arguments.picture or arguments.folders[0] / "curves.png"
        analysis.draw_curves(runs, path)
        print(printable(f"curves: {path}"))
