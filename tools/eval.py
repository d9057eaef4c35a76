"""Evaluate a trained model on EvalDataset: COCO's twelve numbers."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import (
    add_device_argument,
    add_run_arguments,
    add_slice_arguments,
    make_parser,
    one_line_errors,
    require_run,
    run,
)

EXAMPLES = """examples:
  python tools/eval.py output/fcos_r18vd_fpn_bccd --classwise      # best_model, or else model_final
  python tools/eval.py output/fcos_r18vd_fpn_bccd/3
  python tools/eval.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml -o weights=output/fcos_r18vd_fpn_bccd/model_final
  python tools/eval.py output/NAME --output_eval results
  python tools/eval.py output/NAME --json_eval --output_eval results     # numbers of an existing results/bbox.json
  python tools/eval.py output/NAME --slice_infer --slice_size 640 640 --overlap_ratio 0.25 0.25
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_run_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--output_eval", metavar="DIR", help="folder for bbox.json (default: written nowhere)")
    parser.add_argument("--json_eval", action="store_true", help="evaluate bbox.json in --output_eval; no model")
    parser.add_argument("--classwise", action="store_true", help="AP of each class")
    parser.add_argument("--save_prediction_only", action="store_true", help="write bbox.json and compute no numbers")
    add_slice_arguments(parser)
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision (-o eval_amp=true); on a CPU bfloat16, if it has that"
    )
    arguments = parser.parse_args()
    require_run(parser, arguments)
    arguments.opt = [*arguments.opt, *["eval_amp=true"] * arguments.amp]
    for name in ("slice_infer", "amp"):
        if arguments.json_eval and getattr(arguments, name):
            parser.error(f"--json_eval takes detections from a file: leave --{name} out")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.deploy.slicing import slicing_of

        slicing = slicing_of(arguments)
        from ppdet.engine.runtime import load_paddle, set_device

        load_paddle()
        from ppdet.engine.build import build_trained_model
        from ppdet.engine.distributed import collectives
        from ppdet.engine.evaluator import Evaluator
        from ppdet.engine.runs.trained import trained_config

        cfg = trained_config(arguments, "EvalReader", with_weights=not arguments.json_eval)
        set_device(cfg)
        with collectives.joined():
            evaluator = Evaluator(
                cfg,
                classwise=arguments.classwise,
                output_eval=arguments.output_eval or cfg["output_eval"],
                predictions_only=arguments.save_prediction_only or cfg["save_prediction_only"],
                slicing=slicing,
            )
            if arguments.json_eval:
                evaluator.evaluate_file()
            else:
                evaluator(build_trained_model(cfg))


if __name__ == "__main__":
    run(main)
