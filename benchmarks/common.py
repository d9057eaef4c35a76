"""What all benchmarks share: options, the description of the machine, medians, tables and JSON files.

A time only means something beside another time of the same run, because machines differ, and one machine changes from
hour to hour. So every benchmark also measures a limit, such as what the bare library takes for the same data, in turns
with the stage itself, and prints the ratio.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "torch", "numpy", "opencv-python-headless", "opencv-python")


def make_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark: --repeat and --json."""
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeat", type=int, default=5, help="number of measurements; the median is reported (default: 5)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the table to this file")
    return parser


def medians(
    stages: dict[str, Callable[[], object]], repeat: int, warm_up: int = 1, in_a_row: int = 1
) -> dict[str, float]:
    """Return the median seconds of each stage. Stages take turns, so that a slow minute of the machine affects all.

    Args:
        stages: functions by name.
        repeat: number of measured turns.
        warm_up: number of runs of each stage before the first turn, which are not measured.
        in_a_row: number of runs of a stage in a turn; only the last one is measured. The idle threads of a library keep
            a core busy for some milliseconds after it returns, which would slow down the next stage.
    """
    for run in stages.values():
        for _ in range(warm_up):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(repeat):
        for name, run in stages.items():
            for _ in range(in_a_row):
                start = time.perf_counter()
                run()
                last = time.perf_counter() - start
            seconds[name].append(last)
    return {name: statistics.median(values) for name, values in seconds.items()}


def processes_from(root: int) -> list[int]:
    """Return a process and all that come from it, on Linux."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def memory_mib(processes: Sequence[int]) -> float:
    """Return the memory of processes in MiB, on Linux; what several of them share counts once."""
    total = 0
    for process in processes:
        try:
            lines = Path("/proc", str(process), "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def machine() -> dict[str, str]:
    """Return the processor, the number of cores, and the versions of Python and of the packages in PACKAGES."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cores = str(len(os.sched_getaffinity(0)))
    return {"cpu": processor(), "cores": cores, "python": platform.python_version(), **versions}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{fields.get('model name', '?')} (family {fields.get('cpu family', '?')} model {fields.get('model', '?')})"


def report(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], path: str | None = None) -> None:
    """Print a title, a line about the machine, and a Markdown table. Write them to `path` as JSON too, if given."""
    where = machine()
    print(f"\n{title}\n{', '.join(f'{key} {value}' for key, value in where.items())}\n")
    cells = [[text(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    for row in [list(header), ["-" * width for width in widths], *cells]:
        print("| " + " | ".join(value.ljust(width) for value, width in zip(row, widths)) + " |")
    sys.stdout.flush()
    if path:
        table = [dict(zip(header, row)) for row in rows]
        Path(path).write_text(json.dumps({"title": title, "machine": where, "rows": table}, indent=1) + "\n")


def text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
