"""Show training batches after augmentation, as pictures with boxes and with the positive locations of each level.

They are the batches that training with this configuration and seed reads, and no model is built. Wrong boxes, a crop
that cuts all objects, or objects without a positive location are seen here, and not in a loss. A picture has at most 8
images of its batch; show.html has each of up to 24 by itself, to enlarge and to filter. Dots are locations that are
trained to find a box, in the color of their level; see the legend.

examples:
  {program} -c FILE
  {program} -c FILE --batches 5 --epoch 3
  {program} -c FILE -o TrainReader.batch_size=8 --output pictures
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ppdet.cli.arguments import add_config_arguments, add_device_argument, config_words, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.utils.printable import printable


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_config_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--batches", type=positive, default=2, metavar="N", help="number of batches (default: 2)")
    parser.add_argument(
        "--epoch", type=positive, default=1, metavar="E", help="whose first batches are shown, from 1 (default: 1)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for the pictures (default: output/NAME_shown)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        load_libraries(arguments, announce=False)
        from ppdet.core.workspace import load_config
        from ppdet.engine.device_choice import set_device
        from ppdet.engine.runs.run_config import folder_of
        from ppdet.engine.shown_batches import draw_batches, write_show_page

        cfg = load_config(arguments.config, arguments.opt)
        set_device(cfg)
        folder = arguments.output or Path(f"{folder_of(cfg)}_shown")
        shown = []
        for number, batch in enumerate(draw_batches(cfg, folder, arguments.batches, arguments.epoch - 1), start=1):
            levels = ", ".join(f"stride {stride}: {count}" for stride, count in batch.positives.items())
            print(
                f"batch {number}: {batch.images} images of {batch.height} x {batch.width} pixels, {batch.boxes} boxes"
            )
            print(f"  positive locations: {levels}")
            print(printable(f"  picture: {batch.path}"), flush=True)
            shown.append(batch)
        page = write_show_page(folder, shown, str(cfg.path))
        print(printable(f"page: {page}"))
        print("look at it: are the boxes on the objects, and has each one dots? An object without dots is not learned")
        words = ["ppdet", "train", *config_words(arguments), "--eval"]
        print(printable(f"next: {shlex.join(words)}"))
