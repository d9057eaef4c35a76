"""Compare training runs: AP by epoch as a table, curves of loss, learning rate and AP as a picture."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_config_arguments, make_parser, one_line_errors, run

EXAMPLES = """examples:
  python tools/analyze.py output/fcos_r18vd_fpn_bccd
  python tools/analyze.py output/fcos_r18vd_fpn_bccd output/fcos_r50_fpn_bccd --picture both.png
  python tools/analyze.py output/fcos_r18vd_fpn_bccd --evaluate -c configs/fcos/fcos_r18vd_fpn_bccd.yml
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder of a run, such as output/NAME")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="default: curves.png in the first folder")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="evaluate the folders' checkpoints, on EvalDataset of -c, instead of reading what training noted; "
        "results are kept in evaluations.jsonl there",
    )
    add_config_arguments(parser, required=False)
    arguments = parser.parse_args()
    if arguments.evaluate != bool(arguments.config) or (arguments.opt and not arguments.evaluate):
        parser.error("--evaluate and -c FILE go together; -o is for both of them")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import load_paddle, set_device

        load_paddle(announce=arguments.evaluate)
        from ppdet.core.workspace import load_config
        from ppdet.engine import analysis

        if arguments.evaluate:
            cfg = load_config(arguments.config, arguments.opt)
            set_device(cfg["use_gpu"])
            runs = analysis.evaluate_checkpoints(cfg, arguments.folders)
        else:
            runs = analysis.read_runs(arguments.folders)
        print(analysis.table(runs))
        path = arguments.picture or arguments.folders[0] / "curves.png"
        analysis.draw_curves(runs, path)
        print(f"curves: {path}")


if __name__ == "__main__":
    run(main)
