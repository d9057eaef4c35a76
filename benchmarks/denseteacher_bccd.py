"""Measure what unlabeled images gain: BCCD with 20 of its 205 training images labeled, over several random splits.

For each seed, a detector is first trained on the labels alone. Three runs start from it, with the same schedule and the
same number of labeled steps: labels alone, DenseTeacher with all unlabeled images, and DenseTeacher with as many
unlabeled images as there are labeled ones. AP is that of the averaged weights (the teacher) on the 87 validation images
after the last epoch. A second call keeps finished runs and continues an interrupted one.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from common import ROOT, make_parser, report

SUPERVISED = "configs/semi_det/baseline/fcos_r18vd_bccd_sup010.yml"
SEMI = "configs/semi_det/denseteacher/denseteacher_fcos_r18vd_bccd_semi010.yml"
EXAMPLES = """examples:
  python benchmarks/denseteacher_bccd.py                       # three seeds, all four rows
  python benchmarks/denseteacher_bccd.py --seeds 1 --output /tmp/one_seed
"""
SAME_SCHEDULE = ["epoch=100", "snapshot_epoch=25", "LearningRate.base_lr=0.005"]  # as in the file SEMI
FIRST, LONGER, ALL, FIXED = (
    "labels alone, 300 steps",
    "then labels alone, 500 steps",
    "then DenseTeacher, all 185 unlabeled images, 500 steps",
    "then DenseTeacher, 20 unlabeled images, 500 steps",
)


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the splits (default: 1 2 3)")
    parser.add_argument(
        "--data", default=str(ROOT / "dataset" / "bccd"), metavar="DIR", help="BCCD (default: dataset/bccd)"
    )
    parser.add_argument(
        "--output", default=str(ROOT / "output" / "denseteacher_bccd"), metavar="DIR", help="of the runs"
    )
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configurations")
    arguments = parser.parse_args()
    data, output = Path(arguments.data).resolve(), Path(arguments.output).resolve()

    split = ["--percent", "10", "--seeds", *map(str, arguments.seeds), "--output_dir", output / "annotations"]
    run("tools/gen_semi_coco.py", "--anno_path", data / "annotations" / "train.json", *split)
    found: dict[str, dict[int, float]] = {}
    for seed in arguments.seeds:
        shared = [f"TrainDataset.anno_path={output}/annotations/train.{seed}@10.json"]
        shared += [f"{name}Dataset.dataset_dir={data}" for name in ("Train", "Eval", "Test")] + arguments.opt
        first = output / f"{seed}" / "first"
        start = f"pretrain_weights={first / Path(SUPERVISED).stem / 'model_final.pdparams'}"
        unlabeled = f"UnsupTrainDataset.anno_path={output}/annotations/train.{seed}@10-unlabeled.json"
        semi = [*shared, start, unlabeled, f"UnsupTrainDataset.dataset_dir={data}"]
        for name, config, folder, options in (
            (FIRST, SUPERVISED, first, shared),
            (LONGER, SUPERVISED, output / f"{seed}" / "longer", [*shared, start, *SAME_SCHEDULE]),
            (ALL, SEMI, output / f"{seed}" / "all", semi),
            (FIXED, SEMI, output / f"{seed}" / "fixed", [*semi, "UnsupTrainDataset.sample_num=20"]),
        ):
            found.setdefault(name, {})[seed] = train(config, folder, options)
    header = ["trained with", *(f"seed {seed}" for seed in arguments.seeds), "mean", "spread"]
    rows = []
    for name, by_seed in found.items():
        values = list(by_seed.values())
        rows.append([name, *values, statistics.mean(values), max(values) - min(values)])
    report("AP of the averaged weights on BCCD's validation images", header, rows, arguments.json)


def train(config: str, folder: Path, options: list) -> float:
    """Return the AP in percent after the last epoch of a run. The run is trained unless it is finished already."""
    history = folder / Path(config).stem / "history.jsonl"
    if not (history.with_name("model_final.json").exists() and evaluations(history)):
        run("tools/train.py", "-c", config, "--eval", "-r", "auto", "-o", f"save_dir={folder}", *options)
    return 100 * evaluations(history)[-1]


def evaluations(history: Path) -> list[float]:
    lines = map(json.loads, history.read_text().splitlines())
    return [line["numbers"]["AP"] for line in lines if line["event"] == "evaluation"]


def run(*command: object) -> None:
    print("python", *command, flush=True)
    whole = [sys.executable, *map(str, command)]
    subprocess.run(whole, cwd=ROOT, check=True)  # nosec B603


if __name__ == "__main__":
    main()
