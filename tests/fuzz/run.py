"""Make hostile inputs, thousands of each kind, and see that the project refuses them in one line or accepts them.

A case is a function of its kind, the seed and its number, so that a finding can be repeated. Every case runs in a
process with limits of time, memory and processor time. What must not happen is written to output/fuzz/*.json, and the
exit code is then 1.

examples:
  python tests/fuzz/run.py                                             # 10,000 cases of each kind
  python tests/fuzz/run.py --kind images --kind yaml --cases 500 --seed 7
  python tests/fuzz/run.py --kind images --seed 7 --case 1234          # one case again, with what it says
  python tests/fuzz/run.py --kind images --seed 7 --case 1234 --keep here   # and its files
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The folder of this file has modules that are called like libraries.
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "ppdet-fuzz-hypothesis"))

from tqdm import tqdm

from fuzz.sandbox import FAILED, READ, REFUSED, Limits
from fuzz.workers import Finished, Job, run_all

NAMES = ("weights", "yaml", "json", "images", "requests", "batches")
KEPT = 10  # findings of one kind of message that get a file


class Row:
    """The figures of a kind."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.subjects: Counter[str] = Counter()
        self.findings: Counter[str] = Counter()
        self.slowest, self.largest = (0.0, -1), (0, -1)

    def add(self, finished: Finished) -> None:
        outcome = finished.outcome
        self.results[outcome.result] += 1
        self.subjects[f"{finished.subject} {outcome.result}"] += 1
        if outcome.result != FAILED:
            self.messages[
                template(outcome.line) if outcome.result == REFUSED else f"accepted: {outcome.line[:60]}"
            ] += 1
        self.slowest = max(self.slowest, (outcome.processor_s, finished.job.number))
        self.largest = max(self.largest, (outcome.memory, finished.job.number))

    def cells(self, name: str) -> list[str]:
        results = self.results
        return [
            name,
            *[f"{n:,}" for n in (sum(results.values()), results[READ], results[REFUSED], results[FAILED])],
            f"{self.slowest[0]:.2f} s ({self.slowest[1]})",
            f"{self.largest[0] / 2**20:.0f} MiB ({self.largest[1]})",
        ]


def template(line: str) -> str:
    """A message without what differs from case to case."""
    line = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", line)
    return re.sub(r"\d+", "N", line)[:110]


def report(finished: Finished, folder: Path, row: Row) -> None:
    """Write a finding to the folder, unless there are many like it."""
    job, outcome = finished.job, finished.outcome
    message = template(outcome.findings[0])
    row.findings[message] += 1
    if row.findings[message] > KEPT:
        return
    again = f"python tests/fuzz/run.py --kind {job.kind} --seed {job.seed} --case {job.number}"
    content = {**job._asdict(), "subject": finished.subject, "made": finished.made, "findings": outcome.findings}
    content |= {"line": outcome.line, "traceback": outcome.trace.splitlines(), "again": again}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{job.kind}-{job.seed}-{job.number}.json").write_text(json.dumps(content, indent=1))


def jobs_of(arguments: argparse.Namespace, kind: str) -> Iterator[Job]:
    """The cases of a kind, until the time is over."""
    end = time.monotonic() + 60 * arguments.minutes if arguments.minutes else float("inf")
    for number in arguments.case or range(arguments.cases):
        if time.monotonic() > end:
            return
        yield Job(kind, arguments.seed, number)


def keep(arguments: argparse.Namespace, kind: str) -> None:
    """Write the files of the named cases."""
    from fuzz.case import write_files
    from fuzz.draw import Draw
    from fuzz.kinds import KINDS

    for number in arguments.case:
        folder = (Path(arguments.keep) / f"{kind}-{arguments.seed}-{number}").resolve()
        folder.mkdir(parents=True)
        case = KINDS[kind].build(Draw(kind, arguments.seed, number))
        os.chdir(folder)
        write_files(case, folder)
        os.chdir(ROOT)
        print(f"{folder}: {case.subject}, {case.made}, { ({k: v for k, v in case.arguments.items()})!a:.2000}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kind", action="append", choices=NAMES, help="may be repeated (default: all)")
    add("--cases", type=int, default=10_000, metavar="N", help="cases of each kind (default: 10000)")
    add("--seed", type=int, default=0, metavar="N", help="another seed makes other cases (default: 0)")
    add("--case", type=int, action="append", metavar="N", help="only the case of this number; may be repeated")
    add("--minutes", type=float, metavar="M", help="stop each kind after M minutes (default: when all cases are done)")
    add("--keep", metavar="FOLDER", help="with --case: write the files of the case there")
    add("--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="(default: as many as processors)")
    add("--output", default=str(ROOT / "output" / "fuzz"), metavar="FOLDER", help="of findings (default: output/fuzz)")
    add("--messages", action="store_true", help="show how often each message came, and each kind of case")
    arguments = parser.parse_args()
    if arguments.keep and not arguments.case:
        parser.error("--keep needs --case")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    kinds = arguments.kind or list(NAMES)
    rows = {kind: Row() for kind in kinds}
    folder = Path(tempfile.mkdtemp(prefix="ppdet-fuzz-"))
    try:
        for kind, row in rows.items():
            if arguments.keep:
                keep(arguments, kind)
            total = len(arguments.case) if arguments.case else arguments.cases
            processes = 1 if arguments.case else arguments.processes
            finished = run_all(jobs_of(arguments, kind), processes=processes, limits=Limits(), folder=folder)
            for one in tqdm(
                finished,
                desc=f"{kind:8}",
                total=total,
                unit="case",
                smoothing=0.05,
                mininterval=0.5 if sys.stderr.isatty() else 30,
            ):
                row.add(one)
                if one.outcome.findings:
                    report(one, Path(arguments.output), row)
                if arguments.case:
                    print(f"{one.subject}, {one.made}: {one.outcome.result}: {one.outcome.line!a}")
                    print("\n".join([*map(ascii, one.outcome.findings), one.outcome.trace]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(rows, arguments)
    sys.exit(any(row.findings for row in rows.values()))


def show(rows: dict[str, Row], arguments: argparse.Namespace) -> None:
    """Print the table, the findings, and, if asked for, the messages."""
    for kind, row in rows.items():
        if arguments.messages:
            print(f"\n{kind}: " + ", ".join(f"{name} {n}" for name, n in sorted(row.subjects.items())))
            print("\n".join(f"{n:7} {message!a}" for message, n in row.messages.most_common(60)))
        if row.findings:
            print(f"\nfindings, {kind}:")
            print("\n".join(f"{n:7} {message!a}" for message, n in row.findings.most_common()))
    print("\n| kind | cases | accepted | refused | findings | most processor time (case) | most memory (case) |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(f"| {' | '.join(row.cells(kind))} |" for kind, row in rows.items()))


if __name__ == "__main__":
    main()
