"""Pick the images of a folder that are worth labelling next, as a list of files and a page of pictures.

A detector that was trained on the images labeled so far says what it is uncertain about; the picked images also differ
from one another and from the labeled ones, and show no picture twice. Without a RUN, they are spread over the folder by
their colors: that is for the first images of a data set.

examples:
  {program} IMAGES --number 20                                            # the first ones to label
  {program} IMAGES output/NAME --labelled my_data/annotations/*.json      # the next ones
  ppdet infer output/NAME --infer_list output/pick/pick.txt --image_root IMAGES --format labelstudio
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppdet.cli.arguments import (
    add_amp_argument,
    add_device_argument,
    add_run_arguments,
    load_libraries,
    refuse_both,
)
from ppdet.core.command_line import make_parser, one_line_errors, positive


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("images", metavar="IMAGES", help="a folder with images, also in its subfolders")
    add_run_arguments(parser)
    add_device_argument(parser)
    add_amp_argument(parser, "eval_amp")
    parser.add_argument("--number", type=positive, default=50, metavar="N", help="images to pick (default: 50)")
    parser.add_argument(
        "--labelled",
        metavar="FILE",
        nargs="+",
        default=[],
        help="COCO annotations, also those of validation: the images that they list, in the folder or near the file, "
        "are labeled already, and neither they nor what resembles them is picked",
    )
    parser.add_argument(
        "--near_duplicates",
        action="store_true",
        help="pick also images that show almost the same picture, as those of a fixed camera do",
    )
    parser.add_argument(
        "--output_dir", default="output/pick", metavar="DIR", help="folder for the results (default: output/pick)"
    )
    parser.add_argument(
        "--draw_threshold",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="draw boxes with at least this score on the page (default: 0.3)",
    )
    arguments = parser.parse_args(argv)
    refuse_both(parser, arguments)
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.utils.disk.images import list_images
        from ppdet.utils.errors import DataError
        from ppdet.utils.extras import require_package
        from ppdet.utils.logger import get_logger

        logger = get_logger(__name__)
        if not arguments.near_duplicates:
            require_package(DataError, "imagehash")
        paths = list_images(folder=arguments.images)
        has_detector = arguments.run is not None or arguments.config is not None
        if has_detector:
            load_libraries(arguments)
        from ppdet.engine.picking import page, pick

        listed, counts = set[str](), Counter[str]()
        for file in arguments.labelled:
            content = pick.read_labeled(file)
            listed.update(pick.labeled_images(content, file, paths))
            counts.update(pick.labels_of_classes(content, file))
        elsewhere = sorted(listed - set(paths))
        paths += elsewhere
        if has_detector:
            from ppdet.engine.device_choice import set_device
            from ppdet.engine.runs.trained import trained_config

            cfg = trained_config(arguments, "TestReader")
            set_device(cfg)
            seen = pick.look_with_detector(cfg, paths, _progress)
        else:
            seen = pick.look_without_detector(paths, _progress)
        labeled = [number for number, path in enumerate(seen.paths) if path in listed]
        options = {"counts": counts, "near_duplicates": arguments.near_duplicates}
        picks = pick.pick(seen, arguments.number, labeled, _progress, **options)
        page.write_picks(picks, arguments.output_dir, arguments.draw_threshold)
        output = Path(arguments.output_dir)
        if len(seen.paths) < len(paths):
            logger.warning("%d of %d images could not be read", len(paths) - len(seen.paths), len(paths))
        logger.info("%d images, of which %d are labeled already", len(seen.paths), len(labeled))
        if elsewhere:
            logger.info("of these, %d are not in %s, but near their annotations", len(elsewhere), arguments.images)
        logger.info("%d near-duplicates of other images were left out", picks.duplicates)
        if len(picks.chosen) < arguments.number and picks.duplicates:
            logger.warning(
                "fewer images than asked for: the others resemble these; with --near_duplicates they are picked too"
            )
        logger.info("%d images to label next: %s", len(picks.chosen), output / page.LIST)
        logger.info("pictures: %s", output / page.PAGE)


def _progress(items: Iterable, total: int, title: str) -> Iterable:
    """Show a progress bar on a terminal."""
    from tqdm import tqdm

    from ppdet.utils.logger import is_watched

    return tqdm(items, total=total, desc=title, unit="image", leave=False, disable=not is_watched())
