"""Detect objects in many images with an exported model, with worker processes on this machine or on a Ray cluster.

The output folder gets Parquet tables (detections/) and COCO files (coco/), each for --shard_size images. After a job
was killed, run the same command again to finish the remaining images. An image that cannot be read becomes a row with
an error.

examples:
  {program} --model_dir DIR --input IMAGES --output detections
  {program} --model_dir DIR --input list.txt --image_dir /data --output out --threshold 0.5
  {program} --model_dir DIR --input s3://bucket/photos --output s3://bucket/detections
  {program} --model_dir DIR --input images.parquet --bytes_column image.bytes --output out
  {program} --model_dir DIR --input IMAGES --output out --slice_infer --slice_size 640 640 --batch_size 4
  {program} --model_dir DIR --input IMAGES --output out --ray_address auto --workers 64
"""

import argparse
from collections.abc import Sequence

from ppdet.core.command_line import make_parser, one_line_errors, positive, run
from ppdet.deploy.engine_options import (
    add_engine_arguments,
    add_slice_arguments,
    add_tta_arguments,
    number_between,
)


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add = parser.add_argument
    add(
        "--input",
        required=True,
        metavar="PATH",
        help="folder of images (with its subfolders), text file with one image path per line, one image, or Parquet: a "
        "file, a folder of files, or a pattern with *; a path, or a URL such as s3://bucket/folder",
    )
    add("--output", required=True, metavar="PATH", help="folder or URL for the results")
    add("--image_dir", metavar="PATH", help="folder that relative paths in a list or column start from (default: here)")
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument("--path_column", metavar="NAME", help="Parquet column with image paths")
    columns.add_argument("--bytes_column", metavar="NAME", help="Parquet column with images; a.b: field b of column a")
    add("--name_column", metavar="NAME", help="with --bytes_column: column with the images' names")
    add(
        "--url_schemes",
        nargs="+",
        default=[],
        metavar="SCHEME",
        help="further schemes of URLs that a list or column may have, such as http https: workers then connect to any "
        "address that it names (default: those of files and object storage)",
    )
    add(
        "--threshold",
        type=number_between(0, 1),
        metavar="SCORE",
        help="least score to keep (default: class_thresholds of infer_cfg.yml if it has them, else 0, all)",
    )
    add(
        "--image_timeout_s",
        type=number_between(0.001, 1e6),
        default=600,
        metavar="S",
        help="longest time for an image; then its worker is ended, and the image gets an error (default: 600)",
    )
    add("--batch_size", type=positive, default=1, metavar="N", help="images, or windows of them, per run (default: 1)")
    add("--shard_size", type=positive, metavar="N", help="images per output file (default: 500)")
    add("--workers", type=positive, metavar="N", help="worker processes (default: as many as there is room for)")
    add("--ray_address", metavar="ADDRESS", help="of a Ray cluster, or auto (default: start Ray on this machine)")
    add_engine_arguments(parser, threads=1)
    add_slice_arguments(parser)
    add_tta_arguments(parser)
    arguments = parser.parse_args(argv)
    if arguments.name_column and not arguments.bytes_column:
        parser.error("--name_column needs --bytes_column")
    if arguments.device not in ("cpu", "gpu"):
        parser.error(f"argument --device: batch jobs take cpu, or gpu (one per worker), not {arguments.device}")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.core.extensions import import_extensions
        from ppdet.deploy.batch.job import BatchJob, run_batch
        from ppdet.deploy.slicing import OPTIONS as SLICE_OPTIONS
        from ppdet.deploy.slicing import slicing_of
        from ppdet.deploy.tta import OPTIONS as TTA_OPTIONS
        from ppdet.deploy.tta import tta_of

        tta, slicing = tta_of(arguments), slicing_of(arguments)
        grouped = TTA_OPTIONS.options | SLICE_OPTIONS.options
        settings = {name: value for name, value in vars(arguments).items() if name not in grouped}
        import_extensions(settings.pop("imports"))
        run_batch(BatchJob(**settings, tta=tta, slicing=slicing))


if __name__ == "__main__":
    run(main, "; run the same command again to finish the remaining images")
