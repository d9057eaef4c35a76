"""The check of a data set, in two steps: its files at once, and then its images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ppdet.data.checking.balance import balance_findings, level_findings
from ppdet.data.checking.found import Found, box_findings, file_findings, image_findings
from ppdet.data.checking.image_pass import ImageFacts, read_all
from ppdet.data.checking.level_fit import LevelFit, fit_levels
from ppdet.data.checking.listed_split import ListedSplit, find_files, name_of, read_split
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.utils.boxes import clip_to_image


@dataclass(frozen=True)
class Checked:
    """What the images of a data set are, how its boxes fit the levels, and what is wrong with them."""

    facts: dict[str, ImageFacts]
    fit: LevelFit
    found: list[Found]


def read_splits(paths: Sequence[str], image_dir: str | None = None) -> list[ListedSplit]:
    """Read the COCO files that folders or files name; see `find_files` and `read_split` for the errors."""
    files = [file for path in paths for file in find_files(path)]
    names = [name_of(file) for file in files]
    # Two files of one name are told apart by their paths.
    unique = [name if names.count(name) == 1 else file for name, file in zip(names, files)]
    return [read_split(file, image_dir, name) for file, name in zip(files, unique)]


def check_files(splits: Sequence[ListedSplit]) -> list[Found]:
    """What the annotation files show without their images."""
    return file_findings(splits) + balance_findings(splits)


def check_images(
    splits: Sequence[ListedSplit],
    target: Gt2FCOSTarget,
    short: int,
    long: int,
    progress: Callable[[Sequence], Iterable] = iter,
) -> Checked:
    """Read all images, and check them, their boxes, and how these fit the levels at an input size.

    Args:
        target: the transform that makes the training targets.
        short, long: see `level_fit.scale_of`.
        progress: wraps the paths of the images while they are read.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for split in splits:
        for record in split.dataset.records:
            sizes.setdefault(record["im_file"], (record["h"], record["w"]))
    facts = read_all(sizes, progress)
    images = []
    for split in splits:
        for record in split.dataset.records:
            size = facts[record["im_file"]].size
            if size:
                boxes, inside = clip_to_image(record["gt_bbox"], *size)
                images.append((boxes[inside], record["gt_class"][inside], size))
    fit = fit_levels(images, target, short, long)
    found = image_findings(splits, facts) + box_findings(splits, facts) + level_findings(fit, f"{short} x {long}")
    return Checked(facts, fit, found)
