"""Check a data set in COCO's format: what its files, images and boxes are, and what is wrong with them.

It prints a summary at once, and after the images were read: missing and broken images, sizes that differ from the
file's, copies and near-duplicates within and across the splits, class balance, boxes without area, doubled and crowded
boxes, and how the boxes fit the feature levels of FCOS at an input size. A page of HTML has the same with histograms
and pictures. --fix writes a cleaned copy; the data set itself is never changed.

DATA is a folder, whose COCO files are found
(annotations/*.json, *.json or */*.json), or the files themselves. A file is for evaluation if its name has val, test,
eval or dev in it, and otherwise for training. `ppdet data convert` makes such files from those of other tools.

Errors make training fail or its numbers wrong; notes may be as they should be. The exit code is 0, or, with --strict, 1
if there are errors.

examples:
  {program} dataset/mine
  {program} dataset/mine --input_size 512 512
  {program} dataset/mine/train.json dataset/mine/val.json --image_dir dataset/mine/images
  {program} dataset/mine --fix dataset/mine_cleaned
  {program} dataset/mine --model output/NAME        # and the labels that a trained detector contradicts
  {program} dataset/mine --detections output/bbox.json    # the same, by what ppdet infer --save_results true wrote
  {program} dataset/mine -c configs/mine.yml        # with the input size and the levels of a configuration
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.cli.arguments import add_config_arguments, add_device_argument, config_words, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.utils.printable import counted, printable

if TYPE_CHECKING:
    from ppdet.core.config import Config
    from ppdet.data.checking.found import Found
    from ppdet.data.checking.listed_split import ListedSplit
    from ppdet.data.transforms.batches.targets import Gt2FCOSTarget

DEFAULT_SIZE = (800, 1333)


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("data", nargs="+", metavar="DATA", help="folder of the data set, or COCO files")
    parser.add_argument("--image_dir", metavar="DIR", help="folder of the images (default: found near the files)")
    parser.add_argument(
        "--input_size",
        nargs=2,
        type=positive,
        metavar=("SHORT", "LONG"),
        help="images are resized, with their ratio kept, to a shorter side SHORT, or a longer side LONG if that is "
        f"less (default: that of -c, or {DEFAULT_SIZE[0]} {DEFAULT_SIZE[1]})",
    )
    parser.add_argument(
        "--page",
        metavar="HTML",
        help="file of the page (default: output/data_check_NAME.html, where NAME is that of the data set's folder); "
        '"" writes none',
    )
    parser.add_argument(
        "--fix",
        metavar="DIR",
        help="write a cleaned copy, images included, to this new folder: without images that cannot be read, copies, "
        "training images that a split for evaluation has too (and those that look alike, if they are few), boxes "
        "without area and second boxes of an object; with true sizes",
    )
    detector = parser.add_mutually_exclusive_group()
    detector.add_argument(
        "--model",
        dest="run",
        metavar="RUN",
        help="a trained detector, as the folder of its run (output/NAME) or one of its checkpoints (output/NAME/3), "
        "detects in all images, and the labels that it contradicts are listed as likely errors; its configuration also "
        "says the input size",
    )
    detector.add_argument(
        "--detections",
        type=Path,
        metavar="JSON",
        help="the same with a bbox.json that was written before, without a threshold for scores",
    )
    parser.add_argument("--strict", action="store_true", help="end with exit code 1 if there are errors")
    add_config_arguments(parser, required=False)
    add_device_argument(parser)
    arguments = parser.parse_args(argv)
    if arguments.run is not None and arguments.config is not None:
        parser.error("name either --model, whose configuration is used, or a YAML file with -c")
    short, long = arguments.input_size or DEFAULT_SIZE
    if short > long:
        parser.error(f"--input_size SHORT LONG: {short} is longer than {long}; name the shorter side first")
    return arguments


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.data.checking.balance import class_table, level_table, overview
        from ppdet.data.checking.cleaned_copy import require_new, write_cleaned_copy
        from ppdet.data.checking.data_check import check_files, check_images, read_splits
        from ppdet.data.checking.found import SEVERITIES

        cfg = configuration(arguments)
        splits = read_splits(arguments.data, arguments.image_dir)
        if arguments.fix:
            require_new(Path(arguments.fix), splits, arguments.data)
        size, target = levels_of(arguments, cfg, splits)
        print(f"{overview(splits)}\n\n{class_table(splits)}\n")
        first = check_files(splits)
        print_findings(first)
        checked = check_images(splits, target, *size, progress=show_progress)
        print(f"\nat an input size of {size[0]} x {size[1]} pixels:\n{level_table(checked.fit)}\n")
        later = list(checked.found)
        if arguments.run is not None and cfg is not None:
            from ppdet.engine.label_noise import noise_by_model

            readable = [path for path, facts in checked.facts.items() if facts.size]
            later += noise_by_model(splits, cfg, readable, show_progress)
        elif arguments.detections:
            from ppdet.engine.label_noise import label_noise

            later += label_noise(splits, arguments.detections)
        print_findings(later)
        found = [*first, *later]
        errors = sum(one.severity == "error" for one in found)
        numbers = [counted(sum(one.severity == severity for one in found), severity) for severity in SEVERITIES]
        print(f"\n{counted(len(checked.facts), 'image')} read: {', '.join(numbers)}")
        page = page_of(arguments.data[0]) if arguments.page is None else arguments.page
        if page:
            from ppdet.engine.data_page import write_data_page

            shown_size = f"{size[0]} x {size[1]}"
            write_data_page(Path(page), splits, found, checked, shown_size, show_progress)
            print(printable(f"page: {page} (open it in a browser)"))
        if arguments.fix:
            changes = write_cleaned_copy(splits, checked.facts, arguments.fix, show_progress)
            for name, counts in changes.items():
                what = ", ".join(f"{text}: {count}" for text, count in counts.items()) or "nothing to change"
                print(printable(f"{name}: {what}"))
            print(printable(f"cleaned copy: {arguments.fix}"))
        for line in next_steps(arguments, splits, bool(errors)):
            print(printable(line))
    if arguments.strict and errors:
        sys.exit(1)


def page_of(data: str) -> str:
    """The file of the page by the folder of a data set or of a COCO file, so that each data set has its own page."""
    folder = Path(data).resolve() if os.path.isdir(data) else Path(data).resolve().parent
    if folder.name == "annotations":
        folder = folder.parent
    return os.path.join("output", f"data_check_{folder.name}.html")


def next_steps(arguments: argparse.Namespace, splits: "Sequence[ListedSplit]", has_errors: bool) -> list[str]:
    """The lines that say what to do next."""
    [data, *others] = arguments.data
    if arguments.fix:
        return [f"next: ppdet init {shlex.quote(arguments.fix)}      # writes a configuration for the cleaned copy"]
    if arguments.run or arguments.detections:
        return [
            "next: where the page shows wrong labels, correct them in the tool that drew them, convert and train again"
        ]
    if arguments.config:
        return [f"next: ppdet data show {shlex.join(config_words(arguments))}      # pictures of training batches"]
    if others or all(split.is_evaluated for split in splits):
        return ["next: ppdet init FOLDER writes a configuration, where FOLDER has the file to train on (train.json)"]
    images = f" --image_dir {shlex.quote(arguments.image_dir)}" if arguments.image_dir else ""
    place, new = f"{shlex.quote(data)}{images}", data.rstrip("/")
    lines = ["next:"]
    if has_errors:
        fix = shlex.quote(f"{new}_cleaned")
        lines.append(f"  ppdet data check {place} --fix {fix}      # writes a copy without what it can mend")
    if os.path.isdir(data) and not any(split.is_evaluated for split in splits):
        lines.append(
            f"  ppdet data convert {place} {shlex.quote(f'{new}_split')} --split 0.8/0.2      # sets images aside to "
            "evaluate on"
        )
    return [*lines, f"  ppdet init {place}      # writes a configuration"]


def configuration(arguments: argparse.Namespace) -> "Config | None":
    """The configuration of --model or -c; None without them."""
    if arguments.run is None and arguments.config is None:
        return None
    load_libraries(arguments, announce=False)
    if arguments.run is None:
        from ppdet.core.workspace import load_config

        return load_config(arguments.config, arguments.opt)
    from ppdet.engine.device_choice import set_device
    from ppdet.engine.runs.trained import trained_config

    cfg = trained_config(arguments, "TestReader")
    set_device(cfg)
    return cfg


def levels_of(
    arguments: argparse.Namespace, cfg: "Config | None", splits: "Sequence[ListedSplit]"
) -> "tuple[tuple[int, int], Gt2FCOSTarget]":
    """The input size and the transform that makes training targets: those of the configuration, or FCOS's own."""
    from ppdet.data.transforms.batches.targets import Gt2FCOSTarget

    if cfg is None:
        return tuple(arguments.input_size or DEFAULT_SIZE), Gt2FCOSTarget()
    from ppdet.engine.input_levels import configured_levels

    configured, target = configured_levels(cfg)
    size = arguments.input_size or configured
    if size is None:  # images keep their sizes
        sizes = {(record["h"], record["w"]) for split in splits for record in split.dataset.records}
        if len(sizes) > 1:
            from ppdet.utils.errors import ConfigError

            raise ConfigError(
                f"{cfg.path}: EvalReader.sample_transforms has no Resize, and the images have {len(sizes)} sizes: say "
                "for which one the boxes are checked with --input_size SHORT LONG"
            )
        size = sorted(sizes.pop())
    return tuple(size), target


def print_findings(found: "Sequence[Found]") -> None:
    """Print findings, a line for each, errors first."""
    from ppdet.data.checking.found import SEVERITIES

    for one in sorted(found, key=lambda one: SEVERITIES.index(one.severity)):
        print(f"{one.severity}: {printable(one.text)}", flush=True)


def show_progress(items: Iterable, total: int | None = None) -> Iterable:
    """Iterate over images, with a progress bar on a terminal; `total` is the number of items that have no length."""
    from tqdm import tqdm

    from ppdet.utils.logger import is_watched

    return tqdm(items, total=total, desc="images", unit=" images", leave=False, disable=not is_watched())
