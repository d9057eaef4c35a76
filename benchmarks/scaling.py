"""How the time of a training step grows with image size, batch, boxes, classes and processes (FCOS R18-vd, float32).

Every measurement is a process of its own that runs benchmarks/train_step.py. One thing changes at a time, and ratios
are relative to the first row of their group. Several processes share the cores of the machine, as in data parallel
training on a CPU; their row is the time per image of all processes together. Gradients are not averaged.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/scaling.py
  python benchmarks/scaling.py --repeat 7 --json scaling.json
"""
BASE = {"--model": "r18vd", "--batch": 2, "--height": 320, "--width": 448, "--boxes": 18}
GROUPS = {
    "image size": [{"--height": 160, "--width": 224}, {}, {"--height": 640, "--width": 896}],
    "batch": [{"--batch": 1}, {"--batch": 2}, {"--batch": 4}, {"--batch": 8}],
    "boxes per image": [{"--boxes": 1}, {"--boxes": 100}, {"--boxes": 1000}],
    "classes": [{}, {"-o": "num_classes=80"}, {"-o": "num_classes=1203"}],
}


def measure(options: dict, repeat: int, processes: int = 1) -> float:
    """Run train_step.py in `processes` processes at once; return the seconds per image of all together."""
    cores = len(os.sched_getaffinity(0))
    settings = {**BASE, **options, "--repeat": repeat}
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores // processes))}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.json" for i in range(processes)]
        running = []
        for path in paths:
            command = [sys.executable, "benchmarks/train_step.py", "--json", str(path)]
            command += [str(part) for pair in settings.items() for part in pair]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)  # nosec B603
            running.append(process)
        if any([process.wait() for process in running]):
            sys.exit("benchmarks/train_step.py failed")
        speeds = [json.loads(path.read_text())["rows"][0]["images/s"] for path in paths]
    return 1 / sum(speeds)


def main() -> None:
    arguments = make_parser(__doc__, EXAMPLES).parse_args()
    rows = []
    for group, variants in GROUPS.items():
        first = None
        for variant in variants:
            seconds = measure(variant, arguments.repeat)
            first = first or seconds
            rows.append([group, value_of(group, {**BASE, **variant}), 1e3 * seconds, seconds / first])
    first = None
    for processes in (1, 2):
        seconds = measure({}, arguments.repeat, processes)
        first = first or seconds
        rows.append(["processes", processes, 1e3 * seconds, seconds / first])
    report("Training step: ms per image", ["what changes", "to", "ms per image", "ratio"], rows, arguments.json)


def value_of(group: str, options: dict) -> str:
    """Return what the second column of the table says: the value that changes in this group of rows."""
    return {
        "image size": f"{options['--height']}x{options['--width']}",
        "batch": str(options["--batch"]),
        "boxes per image": str(options["--boxes"]),
        "classes": options.get("-o", "num_classes=3").split("=")[1],
    }[group]


if __name__ == "__main__":
    main()
