"""Detect objects in images with an exported model (a folder that tools/export_model.py wrote)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.core.cli import flag, make_parser, one_line_errors, positive

EXAMPLES = """examples:
  python deploy/python/infer.py --model_dir output_inference/fcos_r18vd_fpn_bccd --image_file cells.jpg
  python deploy/python/infer.py --model_dir DIR --image_dir photos --batch_size 4 --save_results
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--image_file", metavar="FILE", help="one image")
    images.add_argument("--image_dir", metavar="DIR", help="all images in a folder and below it")
    parser.add_argument("--device", type=str.upper, choices=("CPU", "GPU"), default="CPU", help="default: CPU")
    parser.add_argument("--batch_size", type=positive, default=1, help="images per run of the model (default: 1)")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score of a drawn box (default: 0.5)")
    parser.add_argument("--output_dir", default="output", help="folder of the results (default: output)")
    parser.add_argument("--save_results", action="store_true", help="write bbox.json, all scores")
    parser.add_argument("--save_images", type=flag, default=True, help="draw pictures (default: true)")
    parser.add_argument("--cpu_threads", type=positive, help="default: all processors")
    parser.add_argument("--enable_mkldnn", type=flag, default=True, help="oneDNN on CPU (default: true)")
    parser.add_argument(
        "--enable_mkldnn_bfloat16", type=flag, default=False, help="bfloat16 where the CPU has it (default: false)"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.deploy.results import list_images, write_results

        paths = list_images(arguments.image_file, arguments.image_dir)
        from ppdet.deploy import Detector

        detector = Detector(
            arguments.model_dir,
            device=arguments.device,
            precision="bf16" if arguments.enable_mkldnn_bfloat16 else "fp32",
            threads=arguments.cpu_threads,
            onednn=arguments.enable_mkldnn,
        )
        write_results(
            detector.detect(paths, arguments.batch_size),
            paths,
            arguments.output_dir,
            class_names=detector.class_names,
            category_ids=detector.category_ids,
            draw_threshold=arguments.threshold,
            visualize=arguments.save_images,
            save_results=arguments.save_results,
        )


if __name__ == "__main__":
    main()
