"""Running the self-check of an exported folder in every engine and precision of this machine.

Each engine runs in a process of its own, since a crash in an engine's library would end this one.
"""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppdet.core.extensions import import_extensions, imported
from ppdet.deploy.backends import BACKENDS, NO_FILE, export_command, find_problem, why_not_here
from ppdet.deploy.backends.base import Backend, Options, is_installed, last_line
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.compare import SelfCheck, tolerance_of
from ppdet.deploy.further_files import copied_from, further_files, load_alone, run_further_file
from ppdet.deploy.precisions import OF_TENSORRT, OWN_FILES, PRECISIONS
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.utils.errors import DeployError
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


@dataclass(frozen=True)
class Export:
    """What an exported folder says about itself.

    Attributes:
        precision: the precision that it was exported for.
        output: what its graphs end with, see `ExportedDetector`.
        versions: what exported it, such as "ppdet 0.1.0, paddle 3.3.1"; "" if it does not say so.
        check: its self-check, if it has one.
    """

    folder: Path
    precision: str
    output: str
    versions: str
    check: SelfCheck | None

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Export":
        """Read infer_cfg.yml and the self-check.

        Raises:
            DeployError: the folder is no exported model, or its self-check is damaged.
        """
        folder = Path(folder)
        settings = read_infer_cfg(folder)
        versions = settings.get("versions")
        named = versions.items() if isinstance(versions, dict) else ()
        return cls(
            folder,
            str(settings.get("precision", "fp32")),
            str(settings.get("output", "detections")),
            ", ".join(f"{name} {version}" for name, version in named),
            SelfCheck.read(folder),
        )


def require_device(options: Options) -> None:
    """Raise DeployError if no engine here computes on the device, whatever a folder has.

    A device other than the CPU is asked for in a new process, since a driver may end it.
    """
    if options.kind == "cpu":
        return
    try:
        problems = call_in_child(device_problems, {"options": asdict(options), "imports": imported()}, seconds=LONGEST)
    except ChildError:
        return  # the row of the engine says it
    if all(problems.values()):
        reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise DeployError(f"no engine on this machine computes on {options.device}: {reasons}")


def device_problems(options: Mapping[str, Any], imports: Sequence[str]) -> dict[str, str | None]:
    """Return why each engine cannot compute on a device; None if it can."""
    import_extensions(imports)
    wanted = Options(**options)
    return {name: why_not_here(kind, wanted) for name, kind in BACKENDS.items()}


def run_engines(export: Export, *, device: str = "cpu", threads: int | None = None) -> Iterator[Row]:
    """Run the self-check of an exported folder in every engine and precision, one after the other.

    Args:
        device, threads: see `Options`.

    Raises:
        DeployError: the device has no such name.
    """
    for name, kind in BACKENDS.items():
        for precision in PRECISIONS:
            options = Options(device=device, precision=precision, threads=threads)
            file = kind.find(export.folder, precision)
            if file is None or not is_installed(kind.package):
                why = find_problem(kind, export.folder, options) or ""
                yield Row(name, precision, "unavailable", file.name if file else "", why)
            else:
                yield in_own_process(export.folder, name, options, file.name)
    for further in further_files(export.folder):
        precision = OF_TENSORRT.get(further, export.precision)
        work = {"folder": str(export.folder), "file": further, "precision": precision}
        try:
            yield Row(**call_in_child(further_row, work, seconds=LONGEST))
        except ChildError as error:
            yield Row(ONNXRuntime.name, precision, "fails", further, f"its process {error}")


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
        outputs = backend(check.arrays)
        milliseconds = measure(backend, check)
    except Exception as error:  # engines have classes of their own
        return Row(name, precision, "fails", file, last_line(error))
    return compared(Row(name, precision, "works", file, milliseconds=milliseconds), check, outputs, options.kind)


def run_further(folder: Path, file: str, precision: str) -> Row:
    """Run a file for TensorRT, or a model of Triton, in ONNX Runtime on the CPU, without measuring it."""
    row = Row(ONNXRuntime.name, precision, "loads", file)
    if not is_installed(ONNXRuntime.package):
        return replace(row, outcome="unavailable", why=f"it is not installed: pip install {ONNXRuntime.distribution}")
    try:
        check = SelfCheck.read(folder)
        if check is None:
            load_alone(folder / file)
            return replace(row, why="the folder has no self-check: no detections were compared")
        result = run_further_file(folder, file, Options(), check)
    except Exception as error:  # engines have classes of their own
        return replace(row, outcome="fails", why=f"{file}: {last_line(error)}")
    if result is None:
        return replace(row, why="no engine here runs the folder's other files, to compare it with")
    return compared(row, *result, "cpu")


def further_row(folder: str, file: str, precision: str) -> dict[str, Any]:
    """Return what `run_further` does as a dictionary, in the process that was started for it."""
    return asdict(run_further(Path(folder), file, precision))


def compared(row: Row, check: SelfCheck, outputs: Sequence[np.ndarray], device: str) -> Row:
    """Return the row with the result of comparing the outputs of its graph with what is expected."""
    try:
        found = check.compare(outputs, row.precision, device)
    except DeployError as error:
        return replace(row, outcome="differs", why=str(error))
    outcome: Outcome = "works"
    why = ""
    if found.unmatched > tolerance_of(row.precision, device).unmatched * found.compared:
        outcome, why = "differs", f"{found.unmatched} detections of the two sides do not match ({found})"
    elif not found.compared:
        reason = check.why_not_comparable(row.precision, device) or "its scores are too close to each other"
        outcome, why = "loads", f"it runs; no detections are compared: {reason}"
    return replace(
        replace(row, outcome=outcome, why=why),
        **{name: getattr(found, name) for name in ("compared", "unmatched", "score", "pixels")},
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


def is_good(export: Export, rows: Sequence[Row]) -> bool:
    """Whether an engine runs the folder, none has other detections, and none fails in a precision that is needed.

    These are fp32 and the precision that the folder was exported for. In others an engine may fail, as Paddle does in
    bf16 on processors without AVX-512, if it runs the same file in another one. OpenVINO, which has fewer
    operators, may fail with an ONNX file that ONNX Runtime runs.
    """
    needed = {"fp32", export.precision}
    run = {(row.engine, row.file) for row in rows if row.outcome in ("works", "loads")}
    borrowed = {("openvino", file) for engine, file in run if engine == ONNXRuntime.name}
    fails = [row for row in rows if row.outcome == "fails" and (row.engine, row.file) not in borrowed]
    bad = [row for row in fails if row.precision in needed or (row.engine, row.file) not in run]
    return bool(run) and not bad and all(row.outcome != "differs" for row in rows)


def summary(export: Export, rows: Sequence[Row]) -> list[str]:
    """Return lines that say what is fastest, what differs, what fails, what is missing, and what was not run."""
    measured = sorted((row for row in rows if row.outcome == "works" and row.milliseconds), key=speed)
    lines = []
    if measured:
        fastest = measured[0]
        exact = next((row for row in measured if row.precision == "fp32"), fastest)
        text = f"fastest: {fastest.engine} in {fastest.precision}, {speed(fastest):.1f} ms per image"
        if exact is not fastest:
            text += f"; of those in fp32, {exact.engine}, {speed(exact):.1f} ms"
        lines.append(text)
    titles = {"differs": "differs", "fails": "fails", "unavailable": "missing", "loads": "not compared"}
    for outcome, title in titles.items():
        alike: dict[str, list[str]] = {}  # what has one reason is one line
        for row in rows:
            if row.outcome == outcome and NO_FILE not in row.why:
                alike.setdefault(row.why, []).append(f"{row.engine} in {row.precision}")
        lines += [f"{title}: {', '.join(names)}: {why}" for why, names in alike.items()]
    lines += [*files_to_write(export.folder, rows), *files_without_engine(export.folder)]
    if not any(row.outcome in ("works", "loads") for row in rows):
        lines.append("no engine on this machine can run the folder")
    return lines


def files_to_write(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Return the engines whose file is missing, in a line for each command that writes their files."""
    lacking = [row for row in rows if row.outcome == "unavailable" and NO_FILE in row.why]
    lines = []
    for quantized in (False, True):  # a folder has no more than one of the precisions with files of their own
        missing = [row for row in lacking if (row.precision == "int8") is quantized]
        if missing:
            names = ", ".join(f"{row.engine} in {row.precision}" for row in missing)
            precision = next((row.precision for row in missing if row.precision in OWN_FILES), "fp32")
            command = export_command(folder, {BACKENDS[row.engine].format for row in missing}, precision)
            lines.append(f"missing: {names}: no file in the folder: {command} writes all of them")
    return lines


def files_without_engine(folder: Path) -> list[str]:
    """Return a line for each graph in the folder that is not run where it will be used."""
    lines = []
    for file in OF_TENSORRT:
        if (folder / file).is_file():
            lines.append(f"not run in TensorRT: {file}; the table says what ONNX Runtime makes of it")
    for path in sorted(folder.glob("triton/*/*/model.onnx")):
        same = copied_from(folder, path)
        of = f"the same file as {same}" if same else "no copy of an ONNX file of this folder: export it again"
        lines.append(f"not run in Triton: {path.relative_to(folder).as_posix()}: it is {of}")
    return lines


def speed(row: Row) -> float:
    """The milliseconds per image of a row that was measured."""
    assert row.milliseconds is not None
    return row.milliseconds
