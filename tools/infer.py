"""Detect objects in images with a trained model: draws pictures, and writes COCO results with --save_results."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import (
    add_device_argument,
    add_run_arguments,
    add_slice_arguments,
    flag,
    make_parser,
    one_line_errors,
    require_run,
    run,
)

EXAMPLES = """examples:
  python tools/infer.py output/fcos_r18vd_fpn_bccd --infer_img cells.jpg      # best_model, or else model_final
  python tools/infer.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml \\
      -o weights=output/fcos_r18vd_fpn_bccd/best_model --infer_img cells.jpg
  python tools/infer.py output/NAME --infer_dir photos --save_results true --draw_threshold 0.4
  python tools/infer.py output/NAME --infer_dir aerial --slice_infer --slice_size 640 640
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_run_arguments(parser)
    add_device_argument(parser)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--infer_img", metavar="FILE", help="one image")
    images.add_argument("--infer_dir", metavar="DIR", help="all images in a folder and below it")
    images.add_argument("--infer_list", metavar="FILE", help="a text file with one image path a line")
    parser.add_argument("--output_dir", default="output", help="folder of the results (default: output)")
    parser.add_argument("--draw_threshold", type=float, default=0.5, help="least score of a drawn box")
    parser.add_argument("--save_results", type=flag, default=False, help="write bbox.json (default: false)")
    parser.add_argument("--save_threshold", type=float, default=0.0, help="least score in bbox.json")
    parser.add_argument("--visualize", type=flag, default=True, help="draw pictures (default: true)")
    add_slice_arguments(parser)
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision (-o eval_amp=true); on a CPU bfloat16, if it has that"
    )
    arguments = parser.parse_args()
    require_run(parser, arguments)
    arguments.opt = [*arguments.opt, *["eval_amp=true"] * arguments.amp]
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.deploy.results import list_images, write_results
        from ppdet.deploy.slicing import slicing_of

        slicing = slicing_of(arguments)
        paths = list_images(arguments.infer_img, arguments.infer_dir, arguments.infer_list)
        from ppdet.engine.runtime import load_paddle, set_device

        load_paddle()
        from ppdet.engine.predictor import Predictor
        from ppdet.engine.runs.trained import trained_config

        cfg = trained_config(arguments, "TestReader")
        set_device(cfg)
        predictor = Predictor(cfg)
        write_results(
            predictor.detect(paths, slicing),
            paths,
            arguments.output_dir,
            class_names=predictor.dataset.class_names,
            category_ids=predictor.dataset.category_ids,
            draw_threshold=arguments.draw_threshold,
            visualize=arguments.visualize,
            save_results=arguments.save_results,
            save_threshold=arguments.save_threshold,
        )


if __name__ == "__main__":
    run(main)
