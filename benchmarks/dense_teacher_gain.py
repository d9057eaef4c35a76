"""Measure what unlabeled images gain on a data set, of which a small part is labeled, over several random splits.

The data set is a folder with annotations/train.json, annotations/val.json and images/. For each seed, a share of its
training images is labeled, and a detector is first trained on these alone. Further runs start from it: labels alone for
as many steps as DenseTeacher, labels alone until the student has seen as many images (with their augmented views) as
DenseTeacher's, DenseTeacher with all unlabeled images, and DenseTeacher with as many unlabeled images as there are
labeled ones. AP is that of the averaged weights (the teacher) on the validation images after the last epoch.

A second call keeps finished runs and continues an interrupted one. --table trains nothing and shows what is finished.
"""

import functools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from common import ROOT, make_parser, report

from ppdet.core.config import Config
from ppdet.core.workspace import load_config

SUPERVISED = "configs/semi_det/baseline/fcos_r18vd_bccd_sup010.yml"
SEMI = "configs/semi_det/denseteacher/denseteacher_fcos_r18vd_bccd_semi010.yml"
ROWS = ("longer", "passes", "all", "fixed")  # after the first run
EXAMPLES = """examples:
  python benchmarks/dense_teacher_gain.py                      # BCCD, 10 % labels, three seeds
  python benchmarks/dense_teacher_gain.py --seeds 1 --output /tmp/one_seed
  python benchmarks/dense_teacher_gain.py --data ../shared/data/deeppcb --percent 5 -o input_size=[320,320]
  python benchmarks/dense_teacher_gain.py --rows longer all --variant automatic DenseTeacher.train_cfg.ratio=auto \\
      --variant separate DenseTeacher.train_cfg.ratio=auto DenseTeacher.train_cfg.norm_statistics=separate
  python benchmarks/dense_teacher_gain.py --table              # what is finished
"""


class Row(NamedTuple):
    """A run of each seed.

    Attributes:
        what: its name in the table.
        folder: its folder's name.
        config: the configuration.
        options: what differs from the configuration, besides the data.
        steps: number of steps.
        images: number of images, with their views, from which the student learns.
    """

    what: str
    folder: str
    config: str
    options: Sequence[str]
    steps: int
    images: int


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the splits (default: 1 2 3)")
    parser.add_argument(
        "--data", default=str(ROOT / "dataset" / "bccd"), metavar="DIR", help="the data set (default: dataset/bccd)"
    )
    parser.add_argument(
        "--percent", type=decimal, default="10", metavar="P", help="share of labeled images (default: 10)"
    )
    parser.add_argument("--supervised", default=SUPERVISED, metavar="FILE", help="configuration for labels alone")
    parser.add_argument("--semi", default=SEMI, metavar="FILE", help="configuration of DenseTeacher")
    parser.add_argument("--first_epochs", type=int, help="of the first run (default: as in its configuration)")
    parser.add_argument("--epochs", type=int, help="of the runs after it (default: as in DenseTeacher's configuration)")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        help=f"runs after the first one (default: {' '.join(ROWS)})",
    )
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="a further row: DenseTeacher with all unlabeled images and these options; may be given several times",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="of the runs (default: output/denseteacher_NAME of the data set's folder)"
    )
    parser.add_argument("--table", action="store_true", help="train nothing, show what is finished")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configurations")
    arguments = parser.parse_args()
    data = Path(arguments.data).resolve()
    output = Path(arguments.output or ROOT / "output" / f"denseteacher_{data.name}").resolve()
    for name, *options in arguments.variant:
        if name in ("first", *ROWS) or not all("=" in option for option in options):
            parser.error(f"--variant {name}: expected a name of its own, and options KEY=VALUE")
    if any(option.startswith("epoch=") for option in arguments.opt):
        parser.error("-o epoch=… would give all rows one length: use --first_epochs and --epochs")

    splits, percent = output / "annotations", arguments.percent
    whole = data / "annotations" / "train.json"
    if not arguments.table:
        seeds = ["--seeds", *map(str, arguments.seeds)]
        run("tools/gen_semi_coco.py", "--anno_path", whole, "--percent", percent, *seeds, "--output_dir", splits)
    content = json.loads(whole.read_text())
    listed = math.floor(len(content["images"]) * Decimal(percent) / 100)
    options = [f"num_classes={len(content['categories'])}", *data_options(data), *arguments.opt]
    found: dict[str, list[tuple[Row, float | None]]] = {}
    for seed in arguments.seeds:
        labels = splits / f"train.{seed}@{percent}.json"
        shared = [f"TrainDataset.anno_path={labels}"]
        labeled = {
            config: images_read(config, [*shared, *options]) if labels.exists() else listed
            for config in (arguments.supervised, arguments.semi)
        }
        first = output / f"{seed}" / "first" / Path(arguments.supervised).stem / "model_final.pdparams"
        for row in plan(arguments, labeled, len(content["images"]) - listed):
            own = [] if row.folder == "first" else [f"pretrain_weights={first}"]
            if row.config == arguments.semi:
                own += [f"UnsupTrainDataset.anno_path={splits}/train.{seed}@{percent}-unlabeled.json"]
                own += [f"UnsupTrainDataset.dataset_dir={data}", "UnsupTrainDataset.image_dir=images"]
            folder = output / f"{seed}" / row.folder
            if not arguments.table:
                train(row.config, folder, [*shared, *own, *row.options, *options])
            found.setdefault(row.folder, []).append((row, result(row.config, folder)))
    header = ["trained with", "steps", "images", *(f"seed {seed}" for seed in arguments.seeds), "mean", "spread"]
    table = []
    for runs in found.values():
        values = [value for _, value in runs if value is not None]
        ends = [statistics.mean(values), max(values) - min(values)] if values else ["-", "-"]
        lengths = [span([row.steps for row, _ in runs]), span([row.images for row, _ in runs])]
        table.append([runs[0][0].what, *lengths, *("-" if value is None else value for _, value in runs), *ends])
    title = f"AP of the averaged weights on the validation images of {data.name}, {listed} images labeled"
    report(title, header, table, arguments.json)


def decimal(text: str) -> str:
    """Return a number as the names of the splits have it: 5 for 5.0."""
    try:
        return f"{Decimal(text).normalize():f}"
    except InvalidOperation:
        raise ValueError from None  # argparse names the option


def images_read(config: str, options: Sequence[str]) -> int:
    """Return the number of labeled images that an epoch has: without those that have no objects, unless allow_empty."""
    return len(load_config(str(ROOT / config), options).create("TrainDataset"))


def span(numbers: Sequence[int]) -> str:
    """Return the number of all seeds, or the smallest and the largest one where they differ."""
    return " to ".join(str(number) for number in sorted({min(numbers), max(numbers)}))


def data_options(data: Path) -> list[str]:
    """Return the options that name the data set; the annotations of the labeled images are another one."""
    options = [f"{part}Dataset.dataset_dir={data}" for part in ("Train", "Eval", "Test")]
    options += [f"{part}Dataset.image_dir=images" for part in ("Train", "Eval")]
    return options + [f"{part}Dataset.anno_path=annotations/val.json" for part in ("Eval", "Test")]


def plan(arguments, labeled: dict[str, int], unlabeled: int) -> list[Row]:
    """Return the runs of a seed, the first one first; `labeled` is the number of images that a configuration reads."""
    supervised, semi = (load(name) for name in (arguments.supervised, arguments.semi))
    first, epochs = arguments.first_epochs or supervised["epoch"], arguments.epochs or semi["epoch"]
    every = max(1, epochs // 4)
    rate = f"LearningRate.base_lr={semi.component('LearningRate')['base_lr']}"

    def row(what: str, folder: str, config: str, *options: str) -> Row:
        steps, images = length(config, labeled[config], (*options, *arguments.opt))
        return Row(what, folder, config, options, steps, images)

    def alone(what: str, folder: str, epochs: int, *options: str) -> Row:
        return row(what, folder, arguments.supervised, f"epoch={epochs}", *options)

    def teacher(what: str, folder: str, *options: str) -> Row:
        own = [f"epoch={epochs}", f"snapshot_epoch={every}", *options]
        return row(f"then DenseTeacher, {what}", folder, arguments.semi, *own)

    # Epochs of labels alone with as many images:
    more = round(epochs * teacher("", "").images / alone("", "", epochs).images)

    count = labeled[arguments.semi]
    rows = [
        alone("labels alone", "first", first, f"snapshot_epoch={max(1, first // 2)}"),
        alone("then labels alone, as many steps", "longer", epochs, f"snapshot_epoch={every}", rate),
        alone("then labels alone, as many images", "passes", more, f"snapshot_epoch={max(1, more // 4)}", rate),
        teacher(f"all {unlabeled} unlabeled images", "all"),
        teacher("as many unlabeled images as labeled ones", "fixed", f"UnsupTrainDataset.sample_num={count}"),
    ]
    rows = [row for row in rows if row.folder in {"first", *arguments.rows}]
    return rows + [teacher(name, name, *options) for name, *options in arguments.variant]


@functools.cache
def load(config: str, options: tuple[str, ...] = ()) -> Config:
    return load_config(str(ROOT / config), options)


def length(config: str, labeled: int, options: tuple[str, ...]) -> tuple[int, int]:
    """Return the number of steps of a run with so many labeled images, and of images from which the student learns."""
    cfg = load(config, options)
    if cfg["ssod_method"]:
        reader = cfg.component("SemiTrainReader")
        batch = reader["sup_batch_size"]
        views = 2 * batch + reader["unsup_batch_size"]
    else:
        batch = views = cfg.component("TrainReader")["batch_size"]
    steps = labeled // (batch * cfg["accumulate_steps"])  # of an epoch
    if not steps:
        raise SystemExit(
            f"{labeled} labeled images are no full batch: raise --percent, or lower the batch sizes with -o"
        )
    return cfg["epoch"] * steps, cfg["epoch"] * steps * views * cfg["accumulate_steps"]


def train(config: str, folder: Path, options: Sequence[object]) -> float:
    """Return the AP in percent after the last epoch of a run. The run is trained unless it is finished already."""
    if result(config, folder) is None:
        run("tools/train.py", "-c", config, "--eval", "-r", "auto", "-o", f"save_dir={folder}", *options)
    found = result(config, folder)
    if found is None:
        raise SystemExit(f"{folder}: the run has no evaluation of its last epoch")
    return found


def result(config: str, folder: Path) -> float | None:
    """Return the AP in percent after the last epoch of a run, None if it is not finished."""
    history = folder / Path(config).stem / "history.jsonl"
    if not history.with_name("model_final.json").exists():
        return None
    lines = map(json.loads, history.read_text().splitlines())
    found = [line["numbers"]["AP"] for line in lines if line["event"] == "evaluation"]
    return 100 * found[-1] if found else None


def run(*command: object) -> None:
    print("python", *command, flush=True)
    whole = [sys.executable, *map(str, command)]
    subprocess.run(whole, cwd=ROOT, check=True)  # nosec B603


if __name__ == "__main__":
    main()
