"""Split COCO annotations into labelled and unlabelled ones, for semi-supervised training.

Without --unlabeled_dir, every image of --anno_path goes into one of two files, in <dataset>/semi_annotations where
--anno_path is <dataset>/annotations/instances_train2017.json:
  instances_train2017.1@10.json             10 % of the images, drawn with seed 1
  instances_train2017.1@10-unlabeled.json   the others
  instances_train2017.1@20images.json       20 images, with --images 20
The same file, share and seed give the same bytes on every machine. Shares are rounded down to whole images, and the
images of a smaller share are among those of a larger one with the same seed (not with --stratified). Images and
annotations keep their order and all of their fields. The unlabelled file keeps its annotations, which training never
reads: they show how good pseudo-labels are; --drop_annotations leaves them out.

With --unlabeled_dir FOLDER, all of --anno_path is labelled, and <folder>-unlabeled.json lists the images in FOLDER and
below it, with their sizes, without those that --anno_path names and those that cannot be read. It knows nothing of
your validation images: keep them elsewhere.

The table at the end counts the boxes that training uses: those with an area, not marked iscrowd. The YAML lines after
it go into your configuration.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import make_parser, one_line_errors, positive, run

EXAMPLES = """examples:
  python tools/gen_semi_coco.py --anno_path dataset/coco/annotations/instances_train2017.json \\
      --percent 1 2 5 10 --seeds 1 2 3 4 5
  python tools/gen_semi_coco.py --anno_path dataset/bccd/annotations/train.json --percent 10 --stratified
  python tools/gen_semi_coco.py --anno_path my_data/annotations/train.json --images 20 --output_dir my_splits
  python tools/gen_semi_coco.py --anno_path dataset/coco/annotations/instances_train2017.json \\
      --unlabeled_dir dataset/coco/unlabeled2017
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--anno_path", required=True, metavar="JSON", help="annotations in COCO's format")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--percent", nargs="+", default=[], metavar="P", help="label these shares, such as 0.5 1 10")
    kind.add_argument("--images", type=positive, metavar="N", help="label so many images")
    kind.add_argument("--unlabeled_dir", metavar="FOLDER", help="label all, and list this folder as unlabelled")
    parser.add_argument(
        "--seeds", nargs="+", type=positive, metavar="S", help="draw once with each of these seeds (default: 1)"
    )
    parser.add_argument("--output_dir", metavar="DIR", help="default: semi_annotations beside the annotations' folder")
    parser.add_argument(
        "--stratified",
        action="store_true",
        help="label images of every class, and of each class about its share of the file: an image for each class that "
        "has none yet, the rarest first; then more for each, until it has its share; then any. Always in the order "
        "drawn, and before others those that give no class too much. A smaller share is no part of a larger one then",
    )
    parser.add_argument("--drop_annotations", action="store_true", help="unlabelled files have no annotations")
    arguments = parser.parse_args()
    if arguments.unlabeled_dir and (arguments.seeds or arguments.stratified or arguments.drop_annotations):
        parser.error("--unlabeled_dir draws nothing: --seeds, --stratified and --drop_annotations do not go with it")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.data.splitting.split import list_unlabelled, split_annotations
        from ppdet.data.splitting.split_files import config_lines, report

        if arguments.unlabeled_dir:
            splits = [
                list_unlabelled(arguments.unlabeled_dir, anno_path=arguments.anno_path, output_dir=arguments.output_dir)
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


if __name__ == "__main__":
    run(main)
