"""Compare training runs: AP by epoch as a table, curves of loss, learning rate and AP as a picture."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_config_arguments, add_device_argument, make_parser, one_line_errors, run

EXAMPLES = """examples:
  python tools/analyze.py output/fcos_r18vd_fpn_bccd
  python tools/analyze.py output/fcos_r18vd_fpn_bccd output/fcos_r50_fpn_bccd --picture both.png
  python tools/analyze.py output/fcos_r18vd_fpn_bccd --evaluate      # every checkpoint there
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder of a run, such as output/NAME")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="default: curves.png in the first folder")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="evaluate the folders' checkpoints, as the config.yml there says, or -c for all of them, instead of "
        "reading what training noted; results are kept in evaluations.jsonl there",
    )
    add_config_arguments(parser, required=False)
    add_device_argument(parser)
    arguments = parser.parse_args()
    if (arguments.config or arguments.opt) and not arguments.evaluate:
        parser.error("-c, -o and --device are for --evaluate")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import load_paddle, set_device

        load_paddle(announce=arguments.evaluate)
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
        print(f"curves: {path}")


if __name__ == "__main__":
    run(main)
