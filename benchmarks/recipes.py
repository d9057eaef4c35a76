"""Measure the recipe for small data: blood cells (BCCD) and circuit boards (DeepPCB), from scratch and from each other.

All runs but the first row's have one configuration; only the paths and the number of classes differ, as in the file
that `ppdet init` writes. A row ending in _short has a quarter of the epochs; the runs of a row ending in _transfer have
as many, and start from the detector that was trained on the other data set with the same seed, for all epochs. The
figures are those of the last epoch on the validation images. `tta` evaluates the finished runs over all epochs again,
with test-time augmentation and with other kinds of NMS. A second call keeps finished runs, also if the options differ,
and continues an interrupted one.
"""

import json
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from common import ROOT, make_parser, report
from dense_teacher_gain import run

from ppdet.core.workspace import load_config

EXAMPLES = """examples:
  python benchmarks/recipes.py --seeds 1 2 3 --amp                        # everything
  python benchmarks/recipes.py --only bccd bccd_short --seeds 1
  python benchmarks/recipes.py --row_opt on_deeppcb epoch=6 input_size=[480,480]
  python benchmarks/recipes.py --only tta --variant "scales: --tta --tta_scales 0.8 1 1.2"
  python benchmarks/recipes.py --table --json output/recipes.json         # what is finished; nothing is run
  python benchmarks/recipes.py --output /tmp/tiny -o max_iters=2 EvalDataset.sample_num=4    # a try, whose AP is 0
"""
SMALL, OLD = "fcos_r18vd_small", "fcos_r18vd_fpn_bccd"
IOU = 0.33  # that of DeepPCB's own metric
MEASURE = [f"eval_metrics=[{{name: APAtIoU, iou: {IOU}}}]", "keep_checkpoints=0"]
FIGURES = {"AP50": "AP50", f"mAP at {IOU}": f"AP@{IOU}", f"F at {IOU}": f"F@{IOU}"}
SOFT = "-o FCOSHead.nms.name=SoftNMS"
VARIANTS = {"as it is": "", "TTA": "--tta", "Soft-NMS": SOFT, "TTA and Soft-NMS": f"--tta {SOFT}"}


class Row(NamedTuple):
    """The runs of a row of the table, one for each seed.

    Attributes:
        what: its name in the table.
        data: the data set, bccd or deeppcb.
        share: the epochs are those of the configuration, divided by this.
        source: the row with whose runs these start; "": random weights.
        config: the configuration; "": that of --config.
    """

    what: str
    data: str
    share: int = 1
    source: str = ""
    config: str = ""


ROWS = {
    "base": Row("BCCD, the recipe of before, all epochs", "bccd", config=OLD),
    "bccd": Row("BCCD from scratch, all epochs", "bccd"),
    "bccd_short": Row("BCCD from scratch, a quarter", "bccd", 4),
    "bccd_transfer": Row("BCCD from DeepPCB, a quarter", "bccd", 4, "deeppcb"),
    "deeppcb": Row("DeepPCB from scratch, all epochs", "deeppcb"),
    "deeppcb_short": Row("DeepPCB from scratch, a quarter", "deeppcb", 4),
    "deeppcb_transfer": Row("DeepPCB from BCCD, a quarter", "deeppcb", 4, "bccd"),
}
GROUPS = {"transfer": ["bccd", "bccd_short", "bccd_transfer", "deeppcb", "deeppcb_short", "deeppcb_transfer"]}
EVALUATED = ("bccd", "deeppcb")  # by `tta`


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    names = [*ROWS, *GROUPS, "tta"]
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the runs (default: 1 2 3)")
    parser.add_argument("--data_bccd", default=ROOT / "dataset" / "bccd", metavar="DIR", help="(default: dataset/bccd)")
    parser.add_argument(
        "--data_deeppcb", default=ROOT / "dataset" / "deeppcb", metavar="DIR", help="(default: dataset/deeppcb)"
    )
    parser.add_argument("--output", default=ROOT / "output" / "recipes", metavar="DIR", help="of the runs")
    parser.add_argument("--config", default=SMALL, help=f"the configuration that is measured (default: {SMALL})")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=[*ROWS, "tta"], metavar="ROW", help=f"rows: {', '.join(names)}"
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument("--table", action="store_true", help="print what is finished, and run nothing")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar='"NAME: OPTIONS"',
        help="another evaluation of `tta`, with these options of ppdet eval",
    )
    parser.add_argument(
        "--row_opt",
        nargs="+",
        action="append",
        default=[],
        metavar=("ROW", "KEY=VALUE"),
        help="override the configuration of a row, or of all rows on_bccd, on_deeppcb or from_other",
    )
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override all configurations")
    arguments = parser.parse_args()
    groups = ["on_bccd", "on_deeppcb", "from_other"]
    for name, *_ in arguments.row_opt:
        if name not in (*ROWS, *groups):
            parser.error(f"--row_opt {name}: expected one of {', '.join((*ROWS, *groups))}")
    data = {name: Path(getattr(arguments, f"data_{name}")).resolve() for name in ("bccd", "deeppcb")}
    runs = Runs(data, Path(arguments.output).resolve(), arguments)

    wanted = [name for one in arguments.only for name in GROUPS.get(one, [one])]
    found = {name: list(finished(runs, name, arguments)) for name in ROWS if name in wanted}
    variants = {**VARIANTS, **dict(parse_variant(text) for text in arguments.variant)}
    tried = list(evaluated(runs, variants, arguments)) if "tta" in arguments.only else []
    if found:
        rows = [(ROWS[name].what, outcomes) for name, outcomes in found.items()]
        print_table("Recipes: AP of the last epoch", rows, arguments)
    if "tta" in arguments.only and not tried:
        print("tta: none of the runs of bccd and deeppcb is finished")
    elif tried:
        path = Path(arguments.json).with_suffix(".tta.json") if arguments.json else None
        print_table("Test-time augmentation and NMS", tried, arguments, path)


class Finished(NamedTuple):
    """What a finished run, or an evaluation of one, gave: its seed, numbers from 0 to 1, and what it took."""

    seed: int
    numbers: dict[str, float]
    images: int  # that training read, or that were evaluated
    minutes: float


class Runs:
    """Trains the runs, and knows their folders and options."""

    def __init__(self, data: dict[str, Path], output: Path, arguments: Any) -> None:
        self.data, self.output, self.arguments = data, output, arguments

    def config(self, name: str) -> str:
        return ROWS[name].config or self.arguments.config

    def folder(self, name: str, seed: int) -> Path:
        """The folder of a run."""
        return self.output / f"{seed}" / name / Path(self.config(name)).stem

    def is_finished(self, name: str, seed: int) -> bool:
        folder = self.folder(name, seed)
        return (folder / "model_final.json").exists() and any(events(folder, "evaluation"))

    def train(self, name: str, seed: int) -> None:
        """Train a run, after that with which it starts. Finished runs are kept."""
        if self.is_finished(name, seed):
            return
        start = []
        if ROWS[name].source:
            self.train(ROWS[name].source, seed)
            start = [f"pretrain_weights={self.folder(ROWS[name].source, seed) / 'model_final.pdparams'}"]
        command = ["-m", "ppdet", "train", "-c", self.config(name), "--eval", "-r", "auto"]
        command += ["--amp"] if self.arguments.amp else []
        save = f"save_dir={self.folder(name, seed).parent}"
        run(*command, "-o", *self.options(name), *start, f"seed={seed}", save)

    def options(self, name: str) -> list[str]:
        """All settings of a row's runs but the seed, the start and the folder."""
        row = ROWS[name]
        groups = {name, f"on_{row.data}"} | ({"from_other"} if row.source else set())
        chosen = [value for group, *values in self.arguments.row_opt if group in groups for value in values]
        options = [*data_options(self.data[row.data]), *MEASURE, *chosen, *self.arguments.opt]
        epochs = int(load_config(self.config(name), options)["epoch"])
        share = max(1, epochs // row.share)
        # Of a whole run, four evaluations show the way; the shorter ones are evaluated once.
        every = share if row.share > 1 else -(-share // 4)
        return [*options, f"epoch={share}", f"snapshot_epoch={every}"]


def data_options(folder: Path) -> list[str]:
    """The settings that say which data set it is: paths, and the number of its classes."""
    classes = len(json.loads((folder / "annotations" / "val.json").read_text())["categories"])
    options = [f"num_classes={classes}", f"TestDataset.dataset_dir={folder}"]
    options += ["TestDataset.anno_path=annotations/val.json"]
    for part, name in (("Train", "train"), ("Eval", "val")):
        options += [f"{part}Dataset.dataset_dir={folder}", f"{part}Dataset.image_dir=images"]
        options += [f"{part}Dataset.anno_path=annotations/{name}.json"]
    return options


def finished(runs: Runs, name: str, arguments: Any) -> Iterator[Finished]:
    """Yield what the runs of a row gave, and train them unless --table."""
    for seed in arguments.seeds:
        if not arguments.table:
            runs.train(name, seed)
        if runs.is_finished(name, seed):
            one = outcome(runs.folder(name, seed), seed)
            print(f"seed {seed}, {name}: {100 * one.numbers['AP']:.1f} AP", flush=True)
            yield one


def outcome(folder: Path, seed: int) -> Finished:
    """What a finished run gave. Its minutes are those of its steps and evaluations, without interruptions."""
    numbers, last, seconds = {}, 0, 0.0
    for one in events(folder, "report", "evaluation"):
        if one["event"] == "report":
            seconds += one["seconds_per_step"] * (one["iteration"] - last)
            last, reported = one["iteration"], datetime.fromisoformat(one["time"])
        else:
            numbers = one["numbers"]
            if one["iteration"] == last:  # the evaluation began after the report
                seconds += (datetime.fromisoformat(one["time"]) - reported).total_seconds()
    cfg = load_config(folder / "config.yml")
    batch = cfg.component("TrainReader")["batch_size"] * cfg["accumulate_steps"]
    return Finished(seed, numbers, last * batch, seconds / 60)


def events(folder: Path, *kinds: str) -> Iterator[dict]:
    """Yield the lines of these kinds in the history of a run; none if there is no run."""
    path = folder / "history.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        if json.loads(line)["event"] in kinds:
            yield json.loads(line)


def parse_variant(text: str) -> tuple[str, str]:
    """Split "NAME: OPTIONS"."""
    name, colon, options = text.partition(":")
    if not colon:
        raise SystemExit(f'--variant {text!r}: expected "NAME: OPTIONS"')
    return name.strip(), options.strip()


def evaluated(runs: Runs, variants: dict[str, str], arguments: Any) -> Iterator[tuple[str, list[Finished]]]:
    """Yield the finished runs of EVALUATED under each variant, and evaluate them unless --table."""
    for name in EVALUATED:
        for title, options in variants.items():
            outcomes = []
            for seed in (seed for seed in arguments.seeds if runs.is_finished(name, seed)):
                folder = runs.folder(name, seed)
                path = folder / "variants" / f"{'_'.join(title.split())}.json"
                if not path.exists() and not arguments.table:
                    evaluate(folder, path, shlex.split(options))
                if path.exists():
                    outcomes.append(Finished(seed, **json.loads(path.read_text())))
            if outcomes:
                yield f"{ROWS[name].what}: {title}", outcomes


def evaluate(folder: Path, path: Path, options: Sequence[str]) -> None:
    """Evaluate the last weights of a run with options of `ppdet eval`, and keep the numbers in `path`."""
    from ppdet.engine.evaluator import Evaluator

    written = path.with_suffix("")
    weights = f"weights={folder / 'model_final'}"
    start = time.perf_counter()
    run("-m", "ppdet", "eval", folder, "--output_eval", written, *options, "-o", weights)
    minutes = (time.perf_counter() - start) / 60
    evaluator = Evaluator(load_config(folder / "config.yml"), output_eval=str(written))
    figures = {"numbers": evaluator.evaluate_file(), "images": len(evaluator.dataset.records), "minutes": minutes}
    path.write_text(json.dumps(figures, indent=1) + "\n")


def print_table(title: str, rows: list[tuple[str, list[Finished]]], arguments: Any, path: Path | None = None) -> None:
    """Print AP by seed with its mean and spread, the means of other figures, images and minutes; write them as JSON."""
    seeds = arguments.seeds
    header = ["run", *(f"seed {seed}" for seed in seeds), "mean", "spread", *FIGURES, "images read", "minutes"]
    table = []
    for what, outcomes in rows:
        aps = {one.seed: round(100 * one.numbers["AP"], 2) for one in outcomes}
        values = list(aps.values())
        summary = [statistics.mean(values), max(values) - min(values)] if values else ["-", "-"]
        means = [mean_of(outcomes, [one.numbers[key] * 100 for one in outcomes]) for key in FIGURES.values()]
        images = outcomes[0].images if outcomes else "-"
        minutes = mean_of(outcomes, [one.minutes for one in outcomes])
        table.append([what, *(aps.get(seed, "-") for seed in seeds), *summary, *means, images, minutes])
    report(title, header, table, str(path or arguments.json) if arguments.json else None)


def mean_of(outcomes: Sequence[Finished], values: Sequence[float]) -> float | str:
    return statistics.mean(values) if outcomes else "-"


if __name__ == "__main__":
    sys.exit(main())
