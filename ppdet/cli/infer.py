"""Detect objects in images with a trained detector: draw pictures, and write COCO results with --save_results.

With --format, the detections leave as pre-annotations for a labelling tool, where a person corrects them, and
`ppdet data convert` reads the corrected labels.

examples:
  {program} output/fcos_r18_fpn_shapes --infer_img IMAGE      # best_model, or else model_final
  {program} -c fcos_r18_fpn_shapes -o weights=output/fcos_r18_fpn_shapes/model_final --infer_img IMAGE
  {program} output/fcos_r18_fpn_shapes --infer_dir IMAGES --save_results true --draw_threshold 0.4
  {program} output/NAME --infer_dir IMAGES --thresholds report/thresholds.json
  {program} output/NAME --infer_dir IMAGES --slice_infer --slice_size 640 640
  {program} output/NAME --infer_dir IMAGES --tta
  {program} output/NAME --infer_dir IMAGES --format labelstudio --draw_threshold 0.3
"""

import argparse
from collections.abc import Sequence

from ppdet.cli.arguments import add_detection_arguments, add_format_arguments, load_libraries, require_run
from ppdet.core.command_line import flag, make_parser, one_line_errors
from ppdet.deploy.engine_options import number_between


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_detection_arguments(parser)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--infer_img", metavar="FILE", help="one image")
    images.add_argument("--infer_dir", metavar="DIR", help="all images in a folder and its subfolders")
    images.add_argument("--infer_list", metavar="FILE", help="a text file with the path of one image per line")
    parser.add_argument(
        "--output_dir", default="output", metavar="DIR", help="folder for the results (default: output)"
    )
    parser.add_argument(
        "--draw_threshold",
        type=number_between(0, 1),
        default=0.5,
        metavar="SCORE",
        help="draw boxes with at least this score, which are also those of --format (default: 0.5)",
    )
    parser.add_argument(
        "--thresholds",
        metavar="FILE",
        help="thresholds.json of `ppdet eval --report`: each class has its own least score, and --draw_threshold is "
        "for classes that the file lacks",
    )
    parser.add_argument(
        "--save_results", type=flag, default=False, metavar="BOOL", help="write bbox.json (default: false)"
    )
    parser.add_argument(
        "--save_threshold",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="write boxes with at least this score to bbox.json (default: 0)",
    )
    parser.add_argument("--visualize", type=flag, default=True, metavar="BOOL", help="draw pictures (default: true)")
    add_format_arguments(parser)
    arguments = parser.parse_args(argv)
    require_run(parser, arguments)
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.data.annotations.pre_annotations import PreAnnotations
        from ppdet.deploy.results import write_results
        from ppdet.deploy.slicing import slicing_of
        from ppdet.deploy.tta import tta_of
        from ppdet.engine.report.thresholds_file import read_file, read_thresholds
        from ppdet.utils.disk.images import list_images

        slicing, tta = slicing_of(arguments), tta_of(arguments)
        paths = list_images(arguments.infer_img, arguments.infer_dir, arguments.infer_list)
        labels = None
        if arguments.format:
            labels = PreAnnotations(arguments.format, arguments.image_root or arguments.infer_dir, arguments.image_url)
            labels.check(paths, arguments.output_dir)  # before the model is loaded
        if arguments.thresholds:
            read_file(arguments.thresholds)  # what is wrong with it is told before the model is loaded
        load_libraries(arguments)
        from ppdet.engine.device_choice import set_device
        from ppdet.engine.predictor import Predictor
        from ppdet.engine.runs.trained import trained_config
        from ppdet.utils.class_thresholds import thresholds_of

        cfg = trained_config(arguments, "TestReader")
        set_device(cfg)
        predictor = Predictor(cfg, tta=tta)
        least = {"draw_threshold": arguments.draw_threshold}
        if arguments.thresholds:
            least["class_thresholds"] = read_thresholds(arguments.thresholds, predictor.dataset.class_names)
        write_results(
            predictor.detect(paths, slicing),
            paths,
            arguments.output_dir,
            class_names=predictor.dataset.class_names,
            category_ids=predictor.dataset.category_ids,
            draw_threshold=thresholds_of(least, predictor.dataset.class_names),
            visualize=arguments.visualize,
            save_results=arguments.save_results,
            save_threshold=arguments.save_threshold,
            pre_annotations=labels,
        )
