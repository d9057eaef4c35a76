"""Convert Pascal VOC or LabelMe to COCO with PaddleDetection's options; `ppdet data convert` reads more formats."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.cli.x2coco import main, parse_arguments
from ppdet.core.command_line import run

__all__ = ["parse_arguments"]

if __name__ == "__main__":
    run(main)
