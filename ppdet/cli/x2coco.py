"""Convert annotations to COCO with the options and file names of PaddleDetection's tools/x2coco.py.

`ppdet data convert` reads more formats, finds them out, and keeps images that look alike on one side of a split.

examples:
  {program} --dataset_type voc --voc_anno_dir VOC/Annotations --voc_anno_list train.txt --voc_label_list labels.txt \\
      --voc_out_name voc_train.json
  {program} --dataset_type labelme --json_input_dir labels --image_input_dir images --output_dir dataset/mine \\
      --train_proportion 0.8 --val_proportion 0.2 --test_proportion 0
"""

import argparse
import os
from collections.abc import Sequence

from ppdet.core.command_line import make_parser, one_line_errors


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument(
        "--dataset_type", required=True, choices=("voc", "labelme"), help="format of the annotations; ppdet data "
        "convert reads others",
    )  # fmt: skip
    parser.add_argument("--json_input_dir", metavar="DIR", help="LabelMe: folder of the annotation files")
    parser.add_argument("--image_input_dir", metavar="DIR", help="LabelMe: folder of the images")
    parser.add_argument("--output_dir", default="./", metavar="DIR", help="folder to write to (default: ./)")
    for name, default in (("train", 1.0), ("val", 0.0), ("test", 0.0)):
        parser.add_argument(
            f"--{name}_proportion",
            type=float,
            default=default,
            metavar="SHARE",
            help=f"LabelMe: share of the images for {name} (default: {default:g})",
        )
    parser.add_argument("--voc_anno_dir", metavar="DIR", help="Pascal VOC: folder of the XML files")
    parser.add_argument("--voc_anno_list", metavar="FILE", help="Pascal VOC: list of the names of XML files")
    parser.add_argument("--voc_label_list", metavar="FILE", help="Pascal VOC: one class name on each line")
    parser.add_argument(
        "--voc_out_name", default="voc.json", metavar="NAME", help="Pascal VOC: file to write (default: voc.json)"
    )
    arguments = parser.parse_args(argv)
    needed = {
        "voc": ("voc_anno_dir", "voc_anno_list", "voc_label_list"),
        "labelme": ("json_input_dir", "image_input_dir"),
    }[arguments.dataset_type]
    missing = [f"--{name}" for name in needed if getattr(arguments, name) is None]
    if missing:
        parser.error(f"--dataset_type {arguments.dataset_type} needs {', '.join(missing)}")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.cli.data_convert import report
        from ppdet.data.annotations.paddle_layout import convert_labelme_folder, convert_voc_list

        if arguments.dataset_type == "voc":
            result = convert_voc_list(
                arguments.voc_anno_dir,
                arguments.voc_anno_list,
                arguments.voc_label_list,
                os.path.join(arguments.output_dir, arguments.voc_out_name),
            )
        else:
            shares = [getattr(arguments, f"{name}_proportion") for name in ("train", "val", "test")]
            result = convert_labelme_folder(
                arguments.json_input_dir, arguments.image_input_dir, arguments.output_dir, shares
            )
        print(report(result))
