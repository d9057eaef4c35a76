"""What the benchmarks share: their options, the machine they ran on, medians, tables and JSON.

A figure means something only beside another of the same run: machines differ, and so does one machine from hour to
hour. So every benchmark measures the limit of its stage (what the bare library costs on the same data) as well, in
turns with the stage itself, and prints the ratio.
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
    """A parser with the options every benchmark has: --repeat and --json."""
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5, help="measurements, of which the median counts (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="also write the table to this file")
    return parser


def medians(
    stages: dict[str, Callable[[], object]], repeat: int, warm_up: int = 1, in_a_row: int = 1
) -> dict[str, float]:
    """Median seconds of each stage, measured in turns, so that a slow minute meets all of them.

    in_a_row: runs of a stage in its turn, of which the last counts. Libraries' idle threads keep a core busy for some
    milliseconds, which the next stage would pay for.
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


def machine() -> dict[str, str]:
    """Processor, cores in use, Python and the versions of the packages that matter."""
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
    """Print a Markdown table under the machine's line; write the same to `path` as JSON."""
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
