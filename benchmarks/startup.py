"""Time from the training command to its first step, by stage: each time a new process, which ends after that step.

Seconds are those of a clock, from when the process was started. CPU seconds are those of the process, which other
programs disturb less. Bytecode of the modules and the result of the check of the layers are kept already, because each
command runs once before the first measurement. The limit is a process that imports Paddle and OpenCV alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/startup.py                 # after python dataset/bccd/download_bccd.py
  python benchmarks/startup.py -c fcos_r18_fpn_shapes --repeat 10 --json startup.json
  python benchmarks/startup.py -o worker_num=0 # without a worker process
"""
STAGES = (*("imports", "configuration", "data sets", "network", "self-checks", "workers", "first batch", "the rest"),)
HEADER = ("stage", "seconds", "CPU seconds")
BEFORE, STEP, LIMIT = "command to first step", "first step", "import paddle and cv2 alone"
WORD = "startup: "  # before the line that a program prints

# Programs of the processes. Each prints the time since it was started, by the clock of its parent, and its CPU time.
ALONE = """
import json, sys, time
import cv2, paddle
print(sys.argv[2] + json.dumps({"import": [time.time() - float(sys.argv[1]), time.process_time()]}))
"""
# Each stage is the time within its functions, without that of other stages that they call.
TRAINING = """
import json, os, sys, time
started, word = float(sys.argv[1]), sys.argv[2]
spent, open_stages = {}, []
last = [started, 0.0]

def switch():
    now = [time.time(), time.process_time()]
    stage = spent.setdefault(open_stages[-1] if open_stages else "the rest", [0.0, 0.0])
    for i in range(2):
        stage[i] += now[i] - last[i]
    last[:] = now

def measured(stage, owner, name):
    function = getattr(owner, name)
    def call(*arguments, **options):
        if "first step" in open_stages:  # all that it calls belongs to it
            return function(*arguments, **options)
        switch()
        open_stages.append(stage)
        try:
            return function(*arguments, **options)
        finally:
            switch()
            open_stages.pop()
    setattr(owner, name, call)

open_stages.append("imports")
from ppdet.cli import train
load = train.load_libraries

def load_and_measure(arguments):
    load(arguments)
    import ppdet.engine.build, ppdet.engine.evaluator, ppdet.engine.runs.trained, ppdet.engine.trainer
    import ppdet.data.loading.collate, ppdet.data.loading.workers, ppdet.modeling.cpu
    switch()
    open_stages.clear()
    trainer, step = ppdet.engine.trainer, ppdet.engine.trainer.Trainer.train_step
    measured("configuration", ppdet.engine.runs.trained, "training_config")
    measured("data sets", trainer, "build_train_reader")
    measured("data sets", trainer, "Evaluator")
    measured("network", trainer.Trainer, "_build_model")
    measured("self-checks", ppdet.modeling.cpu, "agrees")
    measured("workers", ppdet.data.loading.workers.WorkerPool, "_start")
    measured("first batch", ppdet.data.loading.workers.WorkerPool, "_receive")
    measured("first batch", ppdet.data.loading.collate.BatchMaker, "__call__")

    def train_step(self):
        switch()
        open_stages.append("first step")
        step(self)
        switch()
        print(word + json.dumps(spent), flush=True)
        os._exit(0)  # its workers end by themselves

    trainer.Trainer.train_step = train_step

train.load_libraries = load_and_measure
train.main(sys.argv[3:], "ppdet train")
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "-c",
        "--config",
        default="configs/fcos/fcos_r18vd_small.yml",
        metavar="FILE",
        help="configuration to train (default: %(default)s)",
    )
    parser.add_argument("-o", "--opt", nargs="*", default=[], metavar="KEY=VALUE", help="settings to change in it")
    return parser.parse_args()


def run(program: str, arguments: Sequence[str] = ()) -> dict[str, list[float]]:
    """Run a program in a new Python process, and return its line: seconds and CPU seconds by stage.

    Raises:
        SystemExit: the program failed; the message is its own.
    """
    command = [sys.executable, "-c", program, str(time.time()), WORD, *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)  # nosec B603
    lines = [line for line in done.stdout.splitlines() if line.startswith(WORD)]
    if done.returncode or not lines:
        sys.exit(f"the process ended with exit code {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(lines[-1].removeprefix(WORD))


def table(trained: Sequence[dict[str, list[float]]], alone: Sequence[dict[str, list[float]]]) -> list[list[object]]:
    """Return rows of HEADER with the medians: of each stage, their sum in one process, the first step, the limit.

    Args:
        trained, alone: what `run` returned for the training command and for the limit.
    """
    rows: list[list[object]] = []
    for stage in STAGES:
        rows.append([stage, *_medians([one.get(stage, [0.0, 0.0]) for one in trained])])
    sums = [[sum(part) for part in zip(*(one.get(stage, [0.0, 0.0]) for stage in STAGES))] for one in trained]
    rows.append([BEFORE, *_medians(sums)])
    rows.append([STEP, *_medians([one[STEP] for one in trained])])
    rows.append([LIMIT, *_medians([one["import"] for one in alone])])
    return rows


def _medians(pairs: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(values) for values in zip(*pairs)]


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        options = ["-c", arguments.config, "--eval", "--overwrite", "-o", f"save_dir={folder}", *arguments.opt]
        turns = [(run(TRAINING, options), run(ALONE)) for _ in range(1 + arguments.repeat)][1:]
    trained, alone = zip(*turns)
    name = arguments.config.rpartition("/")[2].removesuffix(".yml")
    report(f"From the command to the first step, {name}", HEADER, table(trained, alone), arguments.json)


if __name__ == "__main__":
    main()
