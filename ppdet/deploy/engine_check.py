"""Running the self-check of an exported folder in every engine and precision of this machine.

Each engine runs in a process of its own, since a crash in an engine's library would end this one.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppdet.core.extensions import import_extensions, imported
from ppdet.deploy.backends import BACKENDS, find_problem
from ppdet.deploy.backends.base import Backend, Options, is_installed, last_line
from ppdet.deploy.compare import SelfCheck, compare, require_detections, tolerance_of
from ppdet.deploy.precisions import PRECISIONS
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.utils.process.child import ChildError, call_in_child

WARM_UP, LEAST_RUNS, MOST_RUNS, SECONDS = 2, 3, 20, 3.0  # runs that are timed: until they have taken these seconds
LONGEST = 900  # seconds that one engine may take, with loading
Outcome = Literal["works", "loads", "differs", "fails", "unavailable"]


@dataclass(frozen=True)
class Row:
    """What one engine makes of the folder in one precision.

    Attributes:
        engine, precision: see `Options` and `BACKENDS`.
        outcome: "works": it has the detections of the export. "loads": it loads the graph, and the folder has no
            detections to compare. "differs": it has other detections. "fails": it cannot load or run the graph, or its
            process ended. "unavailable": it was not tried, because it, or its file, is not there.
        file: name of its file in the folder; "" if there is none.
        why: one line, which says why it does not work; "" if it does.
        compared: number of detections that were compared. unmatched: number of those, on either side, that the other
            side does not have.
        score: largest difference of scores among the others. pixels: largest difference of a box's sides.
        milliseconds: median time per image, after warm-up; None if it was not measured.
    """

    engine: str
    precision: str
    outcome: Outcome
    file: str = ""
    why: str = ""
    compared: int = 0
    unmatched: int = 0
    score: float = 0.0
    pixels: float = 0.0
    milliseconds: float | None = None


def verify_folder(
    folder: str | os.PathLike,
    *,
    device: str = "cpu",
    threads: int | None = None,
    on_row: Callable[[Row], object] = lambda row: None,
) -> list[Row]:
    """Run the self-check of an exported folder in every engine and precision, one after the other.

    Args:
        device, threads: see `Options`.
        on_row: called with each row as soon as it is there.

    Raises:
        DeployError: the folder is no exported model, its self-check is damaged, or the device has no such name.
    """
    folder = Path(folder)
    read_infer_cfg(folder)
    SelfCheck.read(folder)
    rows = []
    for name, kind in BACKENDS.items():
        for precision in PRECISIONS:
            options = Options(device=device, precision=precision, threads=threads)
            file = kind.find(folder, precision)
            if file is None or not is_installed(kind.package):
                why = find_problem(kind, folder, options) or ""
                row = Row(name, precision, "unavailable", file.name if file else "", why)
            else:
                row = in_own_process(folder, name, options, file.name)
            rows.append(row)
            on_row(row)
    return rows


def in_own_process(folder: Path, name: str, options: Options, file: str) -> Row:
    """Do what `run_engine` does in a new process; if that ends without an answer, the row says how."""
    work = {"folder": str(folder), "name": name, "options": asdict(options), "file": file, "imports": imported()}
    try:
        return Row(**call_in_child(row_of, work, seconds=LONGEST))
    except ChildError as error:
        return Row(name, options.precision, "fails", file, f"its process {error}")


def row_of(folder: str, name: str, options: Mapping[str, Any], file: str, imports: Sequence[str]) -> dict[str, Any]:
    """Return the row of an engine as a dictionary, in the process that was started for it."""
    import_extensions(imports)
    return asdict(run_engine(Path(folder), name, Options(**options), file))


def run_engine(folder: Path, name: str, options: Options, file: str) -> Row:
    """Load the folder in an engine, compare its detections with those of the export, and measure it."""
    kind, precision = BACKENDS[name], options.precision
    try:
        problem = find_problem(kind, folder, options)
        if problem:
            return Row(name, precision, "unavailable", file, problem)
        check = SelfCheck.read(folder)
        backend = kind(folder, options)
        if check is None:
            return Row(name, precision, "loads", file, "the folder has no self-check: no detections were compared")
        rows, rows_per_image = require_detections(backend(check.arrays))
        milliseconds = measure(backend, check)
    except Exception as error:  # engines have classes of their own
        return Row(name, precision, "fails", file, last_line(error))
    if len(rows_per_image) != len(check.rows):
        why = f"it has detections of {len(rows_per_image)} images, the export of {len(check.rows)}"
        return Row(name, precision, "differs", file, why, milliseconds=milliseconds)
    actual = np.split(rows, np.cumsum(rows_per_image)[:-1])
    tolerance = tolerance_of(precision, options.kind)
    found = compare(check.rows, actual, tolerance, check.floor, check.top)
    outcome: Outcome = "works"
    why = ""
    if found.unmatched > tolerance.unmatched * found.compared:
        outcome, why = "differs", f"{found.unmatched} detections of the two sides do not match ({found})"
    elif not found.compared:
        outcome, why = "loads", "it runs; the self-check has no detections to compare in this precision"
    return Row(
        *(name, precision, outcome, file, why, found.compared, found.unmatched, found.score, found.pixels),
        milliseconds=milliseconds,
    )


def measure(backend: Backend, check: SelfCheck) -> float:
    """Return the median milliseconds that the engine needs for an image of the self-check's batch."""
    for _ in range(WARM_UP):
        backend(check.arrays)
    seconds: list[float] = []
    while len(seconds) < LEAST_RUNS or (len(seconds) < MOST_RUNS and sum(seconds) < SECONDS):
        start = time.perf_counter()
        backend(check.arrays)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds) / len(check.rows)


def is_good(rows: Sequence[Row]) -> bool:
    """Whether at least one engine can run the folder, and none that runs it has other detections."""
    return any(row.outcome in ("works", "loads") for row in rows) and all(row.outcome != "differs" for row in rows)


def summary(rows: Sequence[Row]) -> list[str]:
    """Return lines that say what is fastest, what differs, what fails and what is missing."""
    measured = sorted((row for row in rows if row.outcome == "works" and row.milliseconds), key=speed)
    lines = []
    if measured:
        fastest = measured[0]
        exact = next((row for row in measured if row.precision == "fp32"), fastest)
        text = f"fastest: {fastest.engine} in {fastest.precision}, {speed(fastest):.1f} ms per image"
        if exact is not fastest:
            text += f"; of those in fp32, {exact.engine}, {speed(exact):.1f} ms"
        lines.append(text)
    for outcome, title in (("differs", "differs"), ("fails", "fails"), ("unavailable", "missing")):
        lines += [f"{title}: {row.engine} in {row.precision}: {row.why}" for row in rows if row.outcome == outcome]
    if any(row.outcome == "loads" for row in rows):
        lines.append("not compared: " + "; ".join(dict.fromkeys(row.why for row in rows if row.outcome == "loads")))
    if not is_good(rows) and not any(row.outcome == "differs" for row in rows):
        lines.append("no engine on this machine can run the folder")
    return lines


def speed(row: Row) -> float:
    """The milliseconds per image of a row that was measured."""
    assert row.milliseconds is not None
    return row.milliseconds
