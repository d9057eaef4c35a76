"""Detect objects in many images with an exported model: workers on this machine or on a Ray cluster.

The output folder gets Parquet tables (detections/) and COCO files (coco/), in parts of --shard_size images. A job that
was killed goes on with what is missing when it is started again. Images that cannot be read are rows with an error.
"""

import argparse
from collections.abc import Sequence

from ppdet.core.command_line import make_parser, one_line_errors, positive, run, score

EXAMPLES = """examples:
  {program} --model_dir DIR --input photos --output detections
  {program} --model_dir DIR --input list.txt --image_dir /data --output out --threshold 0.5
  {program} --model_dir DIR --input s3://bucket/photos --output s3://bucket/detections
  {program} --model_dir DIR --input images.parquet --bytes_column image.bytes --output out
  {program} --model_dir DIR --input photos --output out --ray_address auto --workers 64
"""


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES, program)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    parser.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="folder of images (below it too), text file with one image path a line, or Parquet: a file, a folder of "
        "them, or a pattern with *; paths, or URLs such as s3://bucket/folder",
    )
    parser.add_argument("--output", required=True, metavar="PATH", help="folder or URL for the results")
    parser.add_argument(
        "--image_dir", metavar="PATH", help="where relative paths in a list or a column start (default: here)"
    )
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument("--path_column", metavar="NAME", help="Parquet column with image paths")
    columns.add_argument("--bytes_column", metavar="NAME", help="Parquet column with images; a.b: field b of column a")
    parser.add_argument("--name_column", metavar="NAME", help="with --bytes_column: column with the images' names")
    parser.add_argument("--threshold", type=score, default=0.0, help="least score of a detection (default: 0, all)")
    parser.add_argument("--workers", type=positive, help="default: as many as there is room for")
    parser.add_argument("--cpu_threads", type=positive, default=1, help="of each worker (default: 1)")
    parser.add_argument("--batch_size", type=positive, default=1, help="images per run of the model (default: 1)")
    parser.add_argument("--shard_size", type=positive, help="images of an output file (default: 500)")
    parser.add_argument("--backend", choices=("auto", "paddle", "onnxruntime", "openvino"), default="auto")
    parser.add_argument("--device", type=str.lower, choices=("cpu", "gpu"), default="cpu", help="gpu: one per worker")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: the export's")
    parser.add_argument("--ray_address", help="of a Ray cluster, or auto (default: start Ray on this machine)")
    arguments = parser.parse_args(argv)
    if arguments.name_column and not arguments.bytes_column:
        parser.error("--name_column goes with --bytes_column")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.deploy.batch.job import BatchJob, run_batch

        run_batch(BatchJob(**vars(arguments)))


if __name__ == "__main__":
    run(main, "; the same command goes on with what is missing")
