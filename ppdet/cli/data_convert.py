"""Convert what labelling tools export to COCO's format, which training reads, and split it.

SRC is the folder that the tool exported, or one annotation file in it; it is not changed. DST must be outside of the
folder, but may be beside a file. The format is found out:
  Pascal VOC      one XML for each image; the lists in ImageSets/Main are its split, or folders called train and val
  YOLO            label files beside the images or in labels/, names in data.yaml, classes.txt or obj.names: name the
                  folder, or its data.yaml
  LabelMe         one JSON for each image, with rectangles or polygons
  CVAT            XML "CVAT for images 1.1"
  Label Studio    JSON or JSON-MIN
  CSV             a row for each box: filename, class, xmin, ymin, xmax, ymax; also keras-retinanet's and Open Images'
  COCO            as Roboflow, Label Studio, CVAT and others lay it out
Images are found by their names, wherever they are in SRC, beside it if it is a file, or in --image_dir. What cannot be
used is counted, and DST/left_out.txt names it. Polygons become the boxes around them.

DST/annotations has train.json and val.json after --split, or after a split of the tool, and else all.json. DST/images
has the images. --split puts each class into each part in its share, and images that look alike into the same part, so
that validation is not done on near copies of training images.

examples:
  {program} my_export dataset/mine --split 0.8/0.2
  {program} voc_folder dataset/mine --split 0.7/0.2/0.1 --seed 3
  {program} project-1.json dataset/mine --image_dir photos --images link
  {program} labels_and_images dataset/mine --from yolo --labels classes.txt
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.core.command_line import make_parser, natural, one_line_errors
from ppdet.utils.formats.label_formats import READ_FORMATS
from ppdet.utils.printable import columns, counted, padded, printable

if TYPE_CHECKING:
    from ppdet.data.annotations.to_coco import Conversion


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("source", metavar="SRC", help="folder or file that the labelling tool exported")
    parser.add_argument("target", metavar="DST", help="folder to write to")
    parser.add_argument("--from", dest="form", choices=READ_FORMATS, help="format of SRC (default: found out)")
    parser.add_argument("--image_dir", metavar="DIR", help="another folder in which images (not labels) are looked for")
    parser.add_argument(
        "--images",
        choices=("copy", "link", "keep"),
        default="copy",
        help="copy the images to DST/images, make hard links there, or keep them where they are (default: copy)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="text file with one class name on each line: the order of the classes; boxes of others are left out",
    )
    parser.add_argument("--split", metavar="SHARES", help="shares of train/val or train/val/test, such as 0.8/0.2")
    parser.add_argument("--seed", type=natural, default=1, help="another split for another seed (default: 1)")
    parser.add_argument(
        "--split_similar",
        action="store_true",
        help="let images that look alike come into different parts, and do not compare images",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier conversion wrote to DST, but for its images"
    )
    arguments = parser.parse_args(argv)
    if arguments.split_similar and not arguments.split:
        parser.error("--split_similar changes what --split does, which is missing")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.data.annotations.to_coco import convert_annotations

        result = convert_annotations(
            arguments.source,
            arguments.target,
            form=arguments.form,
            image_dir=arguments.image_dir,
            labels=arguments.labels,
            split=arguments.split,
            seed=arguments.seed,
            keep_similar_together=not arguments.split_similar,
            images=arguments.images,
            overwrite=arguments.overwrite,
        )
        print("\n".join([report(result), *next_steps(result)]))


def report(result: "Conversion") -> str:
    """Return the summary of a conversion: its files with the boxes of each class, and what was left out."""
    from ppdet.data.annotations.labeled_set import UNREAD

    shown = result.classes[:30]
    width = max([6, *(columns(printable(name)) for name in shown)])
    files = list(result.counts)
    headings = [path.replace("\\", "/").rpartition("/")[2] for path in files]
    lines = [f"{result.kind}: {', '.join(files)}", ""]
    lines.append(f"{'':{width}}  " + "  ".join(f"{heading:>12}" for heading in headings))
    lines.append(f"{'images':{width}}  " + "  ".join(f"{result.counts[path][0]:>12,}" for path in files))
    for name in shown:
        boxes = "  ".join(f"{result.counts[path][1][name]:>12,}" for path in files)
        lines.append(f"{padded(printable(name), width)}  {boxes}")
    if len(result.classes) > len(shown):
        lines.append(f"… and {len(result.classes) - len(shown)} more classes")
    if result.similar:
        lines += ["", f"{result.similar:,} images that look like others are in the same part as these"]
    summary = result.losses.summary()
    unread = sum(result.losses.counts.get(reason, 0) for reason in UNREAD)
    if unread:
        lines += ["", f"warning: {counted(unread, 'object')} cannot be read: training takes such places for background"]
    if summary:
        lines += ["", *summary]
        lines += [f"{result.left_out} lists all of these"] if result.left_out else []
    place = f"images: {printable(result.image_dir)}"
    lines += ["", place if result.has_images else f"{place}, in which there are none: no image file was found"]
    if result.unlisted:
        lines.append(f"images there that no file lists, such as those of an earlier conversion: {result.unlisted:,}")
    return "\n".join(lines)


def next_steps(result: "Conversion") -> list[str]:
    """The lines that say what to do with the new data set, or where its images may come from if none was found."""
    from ppdet.utils.disk.files import display_path

    if not result.has_images:
        return ["next: convert again with --image_dir FOLDER --overwrite, where FOLDER has the images"]
    folder = Path(next(iter(result.counts))).parents[1]
    place = shlex.quote(printable(display_path(folder)))
    if Path(result.image_dir) != folder / "images":
        place += f" --image_dir {shlex.quote(printable(display_path(Path(result.image_dir))))}"
    if (folder / "annotations" / "train.json").is_file():
        return [
            "next:",
            f"  ppdet data check {place}      # looks for what is wrong, and writes a page",
            f"  ppdet init {place}      # writes a configuration for this data and machine",
        ]
    return ["next: convert again with --split 0.8/0.2 --overwrite, which sets images aside to evaluate on"]
