"""Print a merged configuration: every value, defaults included, with the file and line it came from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_config_arguments, make_parser, one_line_errors, run

EXAMPLES = """examples:
  python tools/config.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml
  python tools/config.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml -o ResNet.depth=18 num_classes=3
  python tools/config.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml -o LearningRate.schedulers.0.gamma=0.2
"""


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    add_config_arguments(parser)
    arguments = parser.parse_args()
    with one_line_errors():
        from ppdet.engine.runtime import load_paddle

        load_paddle(announce=False)
        from ppdet.core.show import show
        from ppdet.core.workspace import load_config

        sys.stdout.write(show(load_config(arguments.config, arguments.opt)))


if __name__ == "__main__":
    run(main)
