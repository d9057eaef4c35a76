"""Split COCO annotations into labeled and unlabeled ones, for semi-supervised training.

Without --unlabeled_dir, every image of --anno_path goes into one of two files. For
--anno_path DATASET/annotations/instances_train2017.json they are written to DATASET/semi_annotations:
  instances_train2017.1@10.json             10 % of the images, drawn with seed 1
  instances_train2017.1@10-unlabeled.json   the other images
  instances_train2017.1@20images.json       20 images, with --images 20
The same file, percentage and seed give the same bytes on every machine. Percentages are rounded down to whole images.
The images of a smaller percentage are among the images of a larger one with the same seed (not with --stratified).
Images and annotations keep their order and all of their fields. The unlabeled file keeps its annotations, which
training never reads: they are used to measure pseudo-labels. --drop_annotations removes them.

With --unlabeled_dir FOLDER, all images of --anno_path stay labeled, and FOLDER-unlabeled.json lists the images in
FOLDER and its subfolders, with their sizes. Images that --anno_path names, and images that cannot be read, are left
out. Keep your validation images elsewhere: the command does not know them.

The table at the end counts the boxes that training uses, which have an area above 0 and are not marked iscrowd. The
YAML lines after it can be copied into a configuration.

examples:
  {program} --anno_path dataset/coco/annotations/instances_train2017.json --percent 1 2 5 10 --seeds 1 2 3 4 5
  {program} --anno_path dataset/bccd/annotations/train.json --percent 10 --stratified
  {program} --anno_path my_data/annotations/train.json --images 20 --output_dir my_splits
  {program} --anno_path dataset/coco/annotations/instances_train2017.json --unlabeled_dir dataset/coco/unlabeled2017
"""

import argparse
from collections.abc import Sequence

from ppdet.core.command_line import make_parser, natural, one_line_errors, positive


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("--anno_path", required=True, metavar="JSON", help="annotations in COCO's format")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--percent", nargs="+", default=[], metavar="P", help="label these percentages of the images, such as 0.5 1 10"
    )
    kind.add_argument("--images", type=positive, metavar="N", help="label this number of images")
    kind.add_argument(
        "--unlabeled_dir", metavar="FOLDER", help="label all images, and list this folder's images as unlabeled"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=natural, metavar="S", help="make a split with each of these seeds (default: 1)"
    )
    parser.add_argument(
        "--output_dir",
        metavar="DIR",
        help="folder for the files (default: semi_annotations beside the folder of --anno_path)",
    )
    parser.add_argument(
        "--stratified",
        action="store_true",
        help="label images of every class, and of each class about the same percentage: first one image for each class "
        "that has none yet, the rarest class first; then more for each class until it has its percentage; then any "
        "image. Images are chosen in the order drawn; images that give no class too many boxes come first. The "
        "images of a smaller percentage are then not always among the images of a larger one",
    )
    parser.add_argument("--drop_annotations", action="store_true", help="write the unlabeled files without annotations")
    arguments = parser.parse_args(argv)
    if arguments.unlabeled_dir and (arguments.seeds or arguments.stratified or arguments.drop_annotations):
        parser.error(
            "--unlabeled_dir draws no images: --seeds, --stratified and --drop_annotations have no effect with it"
        )
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.data.splitting.split import list_unlabeled, split_annotations
        from ppdet.data.splitting.split_files import config_lines, report

        if arguments.unlabeled_dir:
            splits = [
                list_unlabeled(arguments.unlabeled_dir, anno_path=arguments.anno_path, output_dir=arguments.output_dir)
            ]
        else:
            splits = split_annotations(
                arguments.anno_path,
                percents=arguments.percent,
                images=arguments.images,
                seeds=arguments.seeds or [1],
                output_dir=arguments.output_dir,
                stratified=arguments.stratified,
                drop_annotations=arguments.drop_annotations,
            )
        print(report(splits))
        print(f"\nTo train on the first pair:\n\n{config_lines(splits[0])}")
