"""Evaluate a trained detector on EvalDataset: the twelve AP and AR numbers of COCO, and a page that shows its errors.

examples:
  {program} output/fcos_r18_fpn_shapes --classwise      # best_model, or else model_final
  {program} output/fcos_r18_fpn_shapes/3
  {program} -c fcos_r18_fpn_shapes -o weights=output/fcos_r18_fpn_shapes/model_final
  {program} output/NAME --output_eval results
  {program} output/NAME --json_eval --output_eval results     # numbers of an existing results/bbox.json
  {program} output/NAME --report report                       # report/report.html, to open in a browser
  {program} output/NAME --thresholds report/thresholds.json    # precision and recall at these, on this data
  {program} output/OTHER --report report2 --compare report    # beside the detections of another model
  {program} output/NAME --slice_infer --slice_size 640 640 --overlap_ratio 0.25 0.25
  {program} output/NAME --tta                                 # test-time augmentation, see docs/TTA.md
"""

import argparse
import errno
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.cli.arguments import add_detection_arguments, config_words, load_libraries, require_run
from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.utils.errors import DataError
from ppdet.utils.extras import require_hotcoco
from ppdet.utils.logger import get_logger
from ppdet.utils.masking import masked

if TYPE_CHECKING:
    from ppdet.engine.evaluator import Evaluator
    from ppdet.metrics.coco_metric import COCOMetric


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_detection_arguments(parser)
    parser.add_argument("--output_eval", metavar="DIR", help="folder for bbox.json (default: it is not written)")
    parser.add_argument(
        "--json_eval", action="store_true", help="evaluate the bbox.json in --output_eval, without running a model"
    )
    parser.add_argument("--classwise", action="store_true", help="print the AP of each class too")
    parser.add_argument(
        "--save_prediction_only", action="store_true", help="write bbox.json and do not compute the numbers"
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="write report.html, which shows the numbers of each class, its best threshold, the kinds of errors, "
        "likely label errors and pictures, thresholds.json for `ppdet export --thresholds`, and bbox.json",
    )
    parser.add_argument(
        "--thresholds",
        metavar="FILE",
        help="thresholds.json of a report: print the precision and recall of each class at its threshold, at an IoU of "
        "0.5; classes that the file lacks have 0.5",
    )
    parser.add_argument(
        "--compare",
        metavar="DIR",
        help="with --report: a folder with the bbox.json of another model on the same images, such as its report",
    )
    parser.add_argument(
        "--report_pictures",
        type=positive,
        default=300,
        metavar="N",
        help="with --report: most pictures to choose from by class, error and score (default: 300, 4 to 12 MB)",
    )
    arguments = parser.parse_args(argv)
    require_run(parser, arguments)
    useless = {"slice_infer": arguments.slice_infer, "tta": arguments.tta, "amp": "eval_amp=true" in arguments.opt}
    for name in (name for name, is_given in useless.items() if is_given and arguments.json_eval):
        parser.error(f"--json_eval takes detections from a file: leave --{name} out")
    if arguments.compare and not arguments.report:
        parser.error("--compare is for --report DIR")
    if arguments.report and arguments.save_prediction_only:
        parser.error("--report needs the numbers: leave --save_prediction_only out")
    if arguments.thresholds and arguments.save_prediction_only:
        parser.error("--thresholds needs the numbers: leave --save_prediction_only out")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.deploy.slicing import slicing_of
        from ppdet.deploy.tta import tta_of

        slicing, tta = slicing_of(arguments), tta_of(arguments)
        if arguments.report or arguments.thresholds:
            require_hotcoco(DataError)
        if arguments.thresholds:
            from ppdet.engine.report.thresholds_file import read_file

            read_file(arguments.thresholds)  # what is wrong with it is told before the evaluation
        load_libraries(arguments)
        from ppdet.engine.build import build_trained_model
        from ppdet.engine.device_choice import set_device
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
                tta=tta,
            )
            other = other_model(arguments, evaluator)
            # A folder that cannot be written to is told of before an evaluation, which may take hours.
            for folder in (arguments.report, None if arguments.json_eval else evaluator.output_eval):
                if folder:
                    make_folder(folder)
            numbers = evaluator.evaluate_file() if arguments.json_eval else evaluator(build_trained_model(cfg))
            if arguments.thresholds and numbers:
                log_counts(evaluator, arguments.thresholds)
            if arguments.report and numbers:
                from ppdet.engine.report.model_report import write_report

                title = arguments.run or cfg["weights"] or cfg["architecture"]
                pictures, name = arguments.report_pictures, arguments.compare
                write_report(evaluator, arguments.report, masked(str(title)), other, pictures, name)
                name_next_command(arguments)


def log_counts(evaluator: "Evaluator", file: str) -> None:
    """Log the precision and recall of each class at the thresholds of a file."""
    from ppdet.engine.report.at_thresholds import counts_at, counts_table
    from ppdet.engine.report.thresholds_file import read_thresholds
    from ppdet.utils.class_thresholds import thresholds_of

    names = evaluator.metric.class_names
    least = thresholds_of({"class_thresholds": read_thresholds(file, names)}, names)
    for line in ["at the thresholds, IoU 0.5:", *counts_table(counts_at(evaluator.metric, least)).splitlines()]:
        get_logger(__name__).info("%s", line)


def other_model(arguments: argparse.Namespace, evaluator: "Evaluator") -> "COCOMetric | None":
    """The detections in the folder that --compare names."""
    if not arguments.compare:
        return None
    from ppdet.engine.report.model_report import read_other

    return read_other(arguments.compare, evaluator)


def make_folder(folder: str) -> None:
    """Make a folder for results if it is missing.

    Raises:
        OSError: there is a file of this name, or nothing can be written into the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def name_next_command(arguments: argparse.Namespace) -> None:
    """Log the command that exports the model, with the thresholds of its report if the report has some."""
    from ppdet.engine.report.thresholds_file import THRESHOLDS

    file = Path(arguments.report) / THRESHOLDS
    if not arguments.json_eval:
        chosen = ["--thresholds", str(file)] if file.is_file() else []
        words = ["ppdet", "export", *config_words(arguments), *chosen]
        get_logger(__name__).info("next: %s", shlex.join(words))
