"""Measure what settings matter for small data: BCCD with 56 training images, one change at a time.

For each seed, a base run trains a small detector from scratch on 56 of the 205 training images, with momentum and two
milestones, as `ppdet init` proposed before it had AdamW. Every other run changes one thing: the size of the input,
the batch, the learning rate, the levels, the start, or the length. All but those of another length see as many images
as the base does. AP is that of the last epoch on the 87 validation images. The row "again" changes only the random
numbers: differences that are not larger than its own say nothing. The second table has the AP during the runs that
are evaluated several times, and where `patience` would have ended them. A second call keeps finished runs and
continues an interrupted one. All runs of a seed take 3 GB of disk space.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import ROOT, make_parser, report
from dense_teacher_gain import SUPERVISED, run, train

from ppdet.engine.hooks.early_stopping import best_evaluation

EXAMPLES = """examples:
  python benchmarks/small_data.py                                   # one seed, all rows: 25 minutes on two cores
  python benchmarks/small_data.py --seeds 1 2 3 --only base again rate_third rate_triple
  python benchmarks/small_data.py --output /tmp/tiny -o max_iters=2 EvalDataset.sample_num=4    # a try, whose AP is 0
"""
EPOCHS = 12  # of the base: 14 steps of 4 images each
EVERY = 3  # epochs between two evaluations of the runs that are evaluated several times
PATIENCES = (1, 2)
SCHEDULE = "[{PiecewiseDecay: {gamma: 0.1, milestones: [70%, 90%]}}, {LinearWarmup: {start_factor: 0.1, steps: 5%}}]"
BASE = ["use_simple_ema=false", "keep_checkpoints=0", f"LearningRate.schedulers={SCHEDULE}"]
TARGETS = "TrainReader.batch_transforms.2"
THREE_LEVELS = [
    "FPN.extra_stage=0",
    "FCOSHead.fpn_stride=[8,16,32]",
    f"{TARGETS}.downsample_ratios=[8,16,32]",
]
SHAPES_EPOCHS = 2  # of 150 steps on the shapes of the quick start


class Row(NamedTuple):
    """A run.

    Attributes:
        what: its name in the table.
        options: what differs from the base.
        epochs: its length.
        has_curve: whether it is evaluated several times.
        starts_from_shapes: whether it starts from the detector of shapes.
    """

    what: str
    options: Sequence[str] = ()
    epochs: int = EPOCHS
    has_curve: bool = False
    starts_from_shapes: bool = False


ROWS = {
    "base": Row("base: 240x320, 4 images, rate 0.01, from scratch, 12 epochs", has_curve=True),
    "again": Row("again, with other random numbers"),
    "size_160": Row("input 160x213", ["input_size=[160,213]"]),
    "size_320": Row("input 320x427", ["input_size=[320,427]"]),
    "batch_2": Row("2 images, rate 0.01", ["TrainReader.batch_size=2", "LearningRate.base_lr=0.01"]),
    "batch_2_scaled": Row("2 images, rate 0.005", ["TrainReader.batch_size=2", "LearningRate.base_lr=0.005"]),
    "batch_8": Row("8 images, rate 0.01", ["TrainReader.batch_size=8", "LearningRate.base_lr=0.01"]),
    "batch_8_scaled": Row("8 images, rate 0.02", ["TrainReader.batch_size=8", "LearningRate.base_lr=0.02"]),
    "rate_third": Row("rate 0.0033", ["LearningRate.base_lr=0.0033"]),
    "rate_triple": Row("rate 0.03", ["LearningRate.base_lr=0.03"]),
    "levels_3": Row("without P6 and P7", [*THREE_LEVELS, f"{TARGETS}.object_sizes_boundary=[64,128]"]),
    "levels_fitted": Row(
        "without P6 and P7, bounds 24 and 48", [*THREE_LEVELS, f"{TARGETS}.object_sizes_boundary=[24,48]"]
    ),
    "start_shapes": Row("from a detector of shapes", starts_from_shapes=True),
    "start_frozen": Row(
        "from a detector of shapes, stem, res2 and norms frozen",
        ["ResNet.freeze_at=0", "ResNet.freeze_norm=true"],
        starts_from_shapes=True,
    ),
    "length_quarter": Row("3 epochs", epochs=EPOCHS // 4),
    "length_half": Row("6 epochs", epochs=EPOCHS // 2),
    "length_double": Row("24 epochs", epochs=EPOCHS * 2, has_curve=True),
}


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="seeds of images and weights (default: 1)")
    parser.add_argument(
        "--data", default=str(ROOT / "dataset" / "bccd"), metavar="DIR", help="BCCD (default: dataset/bccd)"
    )
    parser.add_argument("--output", default=str(ROOT / "output" / "small_data"), metavar="DIR", help="of the runs")
    parser.add_argument(
        "--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"rows to run: {', '.join(ROWS)}"
    )
    parser.add_argument("--images", type=int, default=56, help="training images (default: 56)")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()
    data, output = Path(arguments.data).resolve(), Path(arguments.output).resolve()

    split = ["--images", arguments.images, "--seeds", *arguments.seeds, "--output_dir", output / "annotations"]
    run("tools/gen_semi_coco.py", "--anno_path", data / "annotations" / "train.json", *split)
    rows, curves = [], []
    for name in arguments.only:
        row, values, seconds = ROWS[name], [], []
        for seed in arguments.seeds:
            labeled = output / "annotations" / f"train.{seed}@{arguments.images}images.json"
            options = [f"{part}Dataset.dataset_dir={data}" for part in ("Train", "Eval", "Test")]
            options += [f"TrainDataset.anno_path={labeled}", f"seed={seed + 1000 if name == 'again' else seed}"]
            options += settings(row)
            if row.starts_from_shapes:
                options.append(f"pretrain_weights={detector_of_shapes(output, arguments.opt)}")
            folder = output / f"{seed}" / name
            values.append(train(SUPERVISED, folder, [*options, *arguments.opt]))
            events = history(folder)
            seconds.append(statistics.median(seconds_of_steps(events)))
            print(f"seed {seed}, {name}: {values[-1]:.1f} AP", flush=True)
            if row.has_curve:
                curves.append([row.what, seed, *curve(events)])
        mean = [statistics.mean(values)] if len(values) > 1 else []
        rows.append([row.what, *values, *mean, statistics.median(seconds)])
    mean = ["mean"] if len(arguments.seeds) > 1 else []
    header = ["run", *(f"seed {seed}" for seed in arguments.seeds), *mean, "seconds per step"]
    report(f"AP on BCCD's validation images, of {arguments.images} training images", header, rows, arguments.json)
    if curves:
        header = ["run", "seed", "AP after each evaluation", "best", "last", *(f"patience {n}" for n in PATIENCES)]
        path = Path(arguments.json).with_suffix(".curves.json") if arguments.json else None
        report(f"AP every {EVERY} epochs", header, curves, str(path) if path else None)


def settings(row: Row) -> list[str]:
    """All settings of a run but its data and its start."""
    return [*BASE, f"epoch={row.epochs}", f"snapshot_epoch={EVERY if row.has_curve else row.epochs}", *row.options]


def detector_of_shapes(output: Path, options: list[str]) -> Path:
    """Return the weights of the same network trained on generated shapes, which have other classes."""
    shapes, folder = output / "shapes", output / "detector_of_shapes"
    if not (shapes / "annotations" / "val.json").exists():
        run("dataset/shapes/generate.py", "--output", shapes)
    own = [*BASE, "num_classes=4", f"epoch={SHAPES_EPOCHS}", f"snapshot_epoch={SHAPES_EPOCHS}"]
    for part, name in (("Train", "train"), ("Eval", "val"), ("Test", "val")):
        own += [f"{part}Dataset.dataset_dir={shapes}", f"{part}Dataset.anno_path=annotations/{name}.json"]
        if part != "Test":
            own += [f"{part}Dataset.image_dir=images/{name}", f"{part}Dataset.allow_empty=true"]
    found = train(SUPERVISED, folder, [*own, *options])
    print(f"the detector of shapes: {found:.1f} AP of its own classes", flush=True)
    return folder / Path(SUPERVISED).stem / "model_final.pdparams"


def history(folder: Path) -> list[dict]:
    """What a run logged."""
    return [json.loads(line) for line in (folder / Path(SUPERVISED).stem / "history.jsonl").read_text().splitlines()]


def seconds_of_steps(events: list[dict]) -> list[float]:
    """The seconds of a step in each line of the log."""
    return [event["seconds_per_step"] for event in events if event["event"] == "report"]


def curve(events: list[dict]) -> list[object]:
    """AP after each evaluation, the best, the last, and what the best would be if `patience` had ended the run."""
    found = [(event["epoch"], 100 * event["numbers"]["AP"]) for event in events if event["event"] == "evaluation"]
    values = [value for _, value in found]
    best = found[best_evaluation(values)]
    texts = [f"{value:.1f}" for value in values]
    return [", ".join(texts), f"{best[1]:.1f}, epoch {best[0]}", texts[-1], *(ended(found, n) for n in PATIENCES)]


def ended(found: list[tuple[int, float]], patience: int) -> str:
    """The epoch after which `patience` would have ended a run with these evaluations, and its best AP until then."""
    for count in range(1, len(found)):
        best = best_evaluation([value for _, value in found[:count]])
        if count - 1 - best >= patience:
            return f"ends after epoch {found[count - 1][0]} with {found[best][1]:.1f}"
    return "does not end it"


if __name__ == "__main__":
    main()
