"""Train a small detector on generated images, export it, run the exported model and evaluate it (6 minutes).

Everything is written below the working directory, or below --output:
  dataset/shapes/data       700 small images of overlapping shapes, with annotations
  output                    the training run: weights, log, pictures
  output_inference          the exported model
Each step is a command that you can run alone; they are printed at the end. The quick start can be run again; it
continues a training that was stopped.

examples:
  {program}
  {program} --output shapes         # everything goes to the folder shapes
  {program} -o epoch=2              # a shorter training
  {program} --data_only             # only generate the images
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ppdet.core.command_line import make_parser, one_line_errors
from ppdet.utils.extras import require_paddle

NAME = "fcos_r18_fpn_shapes"
DATA = Path("dataset/shapes/data")  # as the configuration says
RUN = Path("output") / NAME
EXPORTED = Path("output_inference") / NAME


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="folder for everything (default: the working one)"
    )
    parser.add_argument("--data_only", action="store_true", help="only generate the images")
    parser.add_argument(
        "-o",
        "--opt",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override values of the configuration",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        if not arguments.data_only:
            require_paddle()  # before hundreds of images are written
        folder = os.path.expanduser(arguments.output)
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
        generate_images()
    if arguments.data_only:
        return
    from ppdet.cli import detect, evaluate, export, train

    pictures = RUN / "pictures"
    images = ["--image_dir", str(DATA / "images" / "val")]
    results = ["--threshold", "0.4", "--output_dir", str(pictures), "--save_results"]
    is_unfinished = (RUN / "run.json").is_file() and not any(RUN.glob("model_final.*"))
    train.main(["-c", NAME, *(["-r", "auto"] if is_unfinished else []), "-o", *arguments.opt])
    with one_line_errors():
        export.export(export.parse_arguments([str(RUN)]))  # what `ppdet export` says next is said below
    detect.main(["--model_dir", str(EXPORTED), *images, *results])
    evaluate.main([str(RUN), "--classwise"])
    enter = [] if arguments.output == Path() else [f"  cd {arguments.output}"]
    lines = [
        "",
        f"Pictures of detections:  {arguments.output / pictures}",
        f"Picture of a batch:      {arguments.output / RUN / 'train_batch.jpg'}",
        f"Weights:                 {arguments.output / RUN / 'model_final.pdparams'}",
        f"Exported model:          {arguments.output / EXPORTED}",
        "Next:",
        *enter,
        f"  ppdet detect --model_dir {EXPORTED} --image_file {DATA / 'images' / 'val' / '000041.jpg'}      # or yours",
        f"  ppdet config -c {NAME}      # every value, and where it comes from",
        f"  ppdet train -c {NAME} --eval -o epoch=16 ResNet.depth=34",
        "  ppdet --help      # all commands",
        "To train on your own images, begin with `ppdet data convert my_export my_data --split 0.8/0.2`: it reads what "
        "labelling tools export, and each command names the next one (docs/OWN_DATA.md in the repository).",
    ]
    print("\n".join(lines))


def generate_images() -> None:
    from ppdet.data.shapes import generate

    written = generate(DATA) is not None
    print(f"{DATA}: {'600 images to train on and 100 to evaluate' if written else 'complete already'}")
