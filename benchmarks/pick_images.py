"""Measure what `ppdet data pick` gains: BCCD with 20 labeled images and 20 more, picked or drawn at random.

For each seed, 20 of the 205 training images are labeled, and a detector is trained on them. Then 20 of the other 185
get their labels: those that `ppdet data pick` chooses by that detector, 20 at random, or 20 that it spreads by their
colors without a detector. Supervised training continues with 40 images, the same schedule and the same number of steps.
AP is that of the averaged weights on the 87 validation images after the last epoch. A second call keeps finished runs
and continues an interrupted one.
"""

import json
import random
import shutil
import statistics
from pathlib import Path

from common import ROOT, make_parser, report
from dense_teacher_gain import SUPERVISED, run, train

EXAMPLES = """examples:
  python benchmarks/pick_images.py                                # three seeds; 1,100 steps of 4 images each
  python benchmarks/pick_images.py --arms random picked spread    # and what the detector adds to spreading
  python benchmarks/pick_images.py --seeds 1 --first_epochs 2 --epochs 2 --output /tmp/tiny    # a try, whose AP is 0
"""
ARMS = {
    "random": "and 20 at random",
    "picked": "and 20 by ppdet data pick",
    "spread": "and 20 by ppdet data pick without a detector",
}
FIRST = "20 at random"


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the draws (default: 1 2 3)")
    parser.add_argument(
        "--data", default=str(ROOT / "dataset" / "bccd"), metavar="DIR", help="BCCD (default: dataset/bccd)"
    )
    parser.add_argument("--output", default=str(ROOT / "output" / "pick_images"), metavar="DIR", help="of the runs")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=["random", "picked"],
        help="what is compared (default: random picked)",
    )
    parser.add_argument("--number", type=int, default=20, help="images that are added (default: 20)")
    parser.add_argument("--first_epochs", type=int, default=60, help="of 5 steps on 20 images (default: 60)")
    parser.add_argument("--epochs", type=int, default=40, help="of 10 steps on 40 images (default: 40)")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()
    data, output = Path(arguments.data).resolve(), Path(arguments.output).resolve()

    whole = json.loads((data / "annotations" / "train.json").read_text())
    pool = copy_images(whole, data / "images", output / "pool")
    split = ["--percent", "10", "--seeds", *map(str, arguments.seeds), "--output_dir", output / "annotations"]
    run("tools/gen_semi_coco.py", "--anno_path", data / "annotations" / "train.json", *split)
    found: dict[str, dict[int, float]] = {}
    for seed in arguments.seeds:
        labeled = output / "annotations" / f"train.{seed}@10.json"
        shared = [f"{name}Dataset.dataset_dir={data}" for name in ("Train", "Eval", "Test")]
        shared += [f"seed={seed}", *arguments.opt]
        first = output / f"{seed}" / "first"
        options = [f"TrainDataset.anno_path={labeled}", *schedule(arguments.first_epochs), *shared]
        found.setdefault(FIRST, {})[seed] = train(SUPERVISED, first, options)
        first_run = first / Path(SUPERVISED).stem
        start = f"pretrain_weights={first_run / 'model_final.pdparams'}"
        for arm in arguments.arms:
            names = choose(arm, pool, labeled, first_run, output / f"{seed}" / arm, arguments.number, seed)
            more = output / "annotations" / f"{arm}.{seed}.json"
            write_labels(whole, names | names_in(labeled), more)
            options = [f"TrainDataset.anno_path={more}", start, *schedule(arguments.epochs), *shared]
            found.setdefault(ARMS[arm], {})[seed] = train(SUPERVISED, output / f"{seed}" / arm, options)
            print(f"seed {seed}, {arm}: {found[ARMS[arm]][seed]:.1f} AP, {boxes_of(more)}", flush=True)
    header = ["labeled images", *(f"seed {seed}" for seed in arguments.seeds), "mean", "spread"]
    rows = [
        [name, *by_seed.values(), statistics.mean(by_seed.values()), max(by_seed.values()) - min(by_seed.values())]
        for name, by_seed in found.items()
    ]
    report("AP of the averaged weights on BCCD's validation images", header, rows, arguments.json)


def schedule(epochs: int) -> list[str]:
    """Options of a run that is evaluated once, after its last epoch."""
    return [f"epoch={epochs}", f"snapshot_epoch={epochs}"]


def choose(arm: str, pool: Path, labeled: Path, first_run: Path, folder: Path, number: int, seed: int) -> set[str]:
    """Return the names of the images that get labels. Those of an earlier call are kept."""
    listed = folder / "pick.txt"
    if not listed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if arm == "random":
            others = sorted({path.name for path in pool.iterdir()} - names_in(labeled))
            drawn = random.Random(seed).sample(others, number)  # nosec B311
            listed.write_text("".join(f"{pool / name}\n" for name in drawn))
        else:
            detector = [first_run] if arm == "picked" else []
            options = ["--labelled", labeled, "--number", number, "--output_dir", folder]
            run("-m", "ppdet", "data", "pick", pool, *detector, *options)
    names = {Path(line).name for line in listed.read_text().splitlines()}
    if len(names) != number:
        raise SystemExit(f"{listed}: {len(names)} images, expected {number}: the comparison would not be fair")
    return names


def names_in(annotations: Path) -> set[str]:
    """The file names of the images of a COCO file."""
    return {image["file_name"] for image in json.loads(annotations.read_text())["images"]}


def write_labels(whole: dict, names: set[str], path: Path) -> None:
    """Write the images of these names, with their boxes, as a COCO file."""
    images = [image for image in whole["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [one for one in whole["annotations"] if one["image_id"] in ids]
    path.write_text(json.dumps({**whole, "images": images, "annotations": annotations}))


def boxes_of(annotations: Path) -> str:
    """How many boxes of each class a COCO file has, in words."""
    content = json.loads(annotations.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    counts = {name: 0 for name in names.values()}
    for one in content["annotations"]:
        counts[names[one["category_id"]]] += 1
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def copy_images(whole: dict, images: Path, folder: Path) -> Path:
    """Copy the training images into a folder of their own, as somebody who has not labeled them would have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in whole["images"]:
        if not (folder / image["file_name"]).exists():
            shutil.copyfile(images / image["file_name"], folder / image["file_name"])
    return folder


if __name__ == "__main__":
    main()
