"""The engines that run an exported model, and the choice between them."""

import time
from collections.abc import Iterable
from pathlib import Path

from ppdet.deploy.backends.base import Backend, Options, is_installed, last_line
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.backends.open_vino import OpenVINO
from ppdet.deploy.backends.paddle_inference import PaddleInference
from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.precisions import OF_TENSORRT, OWN_FILES, TENSORRT, TENSORRT_INT8, graph_name
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# By their names. An engine from outside adds itself: BACKENDS["myengine"] = MyEngine.
BACKENDS: dict[str, type[Backend]] = {kind.name: kind for kind in (PaddleInference, ONNXRuntime, OpenVINO)}

NO_FILE = "has no file for it"
LARGEST_MODEL = 4 * 2**30  # bytes of a file; larger ones are not read


def load_backend(folder: Path, name: str, options: Options) -> Backend:
    """Load the graph of an exported folder in an engine.

    Args:
        name: the engine; `auto` is the fastest one that is installed and gives the detections of the export's
            self-check, or the first one that loads if the folder has no detections to compare.

    Raises:
        DeployError: the engine is not installed, or cannot run this folder with these options.
    """
    for path in folder.glob("model*"):
        if path.is_file() and path.stat().st_size > LARGEST_MODEL:
            raise DeployError(f"{path}: larger than the {LARGEST_MODEL:,} bytes that are read of a model's file")
    if name == "auto":
        return load_fastest(folder, options)
    if name not in BACKENDS:
        raise DeployError(f"backend is {name!r}; it must be auto, {', '.join(BACKENDS)}")
    problem = find_problem(BACKENDS[name], folder, options)
    if problem:
        raise DeployError(f"backend {name}: {problem}")
    return BACKENDS[name](folder, options)


def find_problem(kind: type[Backend], folder: Path, options: Options) -> str | None:
    """Why an engine cannot run the folder with these options; None if it can."""
    unsupported = kind.why_unsupported(options)  # before the file, which would be of no use
    if unsupported:
        return unsupported
    if kind.find(folder, options.precision) is None:
        return f"{folder} {NO_FILE}: {export_command(folder, [kind.format], options.precision)} writes one"
    return why_not_here(kind, options)


def export_command(folder: Path, formats: Iterable[str], precision: str) -> str:
    """Return the command that writes files of these formats, and again the others in the folder, which it replaces.

    Args:
        precision: of the file that is asked for. If every precision uses that file, the command keeps the precision
            that the folder has files of.
    """
    there = {"onnx": "model*.onnx", "openvino": "model*.xml", "triton": "triton/*"}
    of_target = {folder / name for name in OF_TENSORRT}
    all_formats = {*formats, *(name for name, pattern in there.items() if {*folder.glob(pattern)} - of_target)}
    words = ["ppdet export RUN --format", *sorted(all_formats)]
    there_already = [name for name in OWN_FILES if any(folder.glob(f"{graph_name(name)}.*"))]
    there_already += ["int8"] if (folder / TENSORRT_INT8).is_file() else []
    own = precision if precision in OWN_FILES else next(iter(there_already), None)
    words += [f"--precision {own}"] if own else []
    words += ["--target tensorrt"] if (folder / TENSORRT).is_file() else []
    return " ".join(words)


def why_not_here(kind: type[Backend], options: Options) -> str | None:
    """Why an engine cannot run any folder with these options on this machine; None if it can."""
    unsupported = kind.why_unsupported(options)
    if unsupported:
        return unsupported
    if not is_installed(kind.package):
        return f"it is not installed: pip install {kind.distribution}"
    return kind.why_unavailable(options)


def load_fastest(folder: Path, options: Options) -> Backend:
    problems = {name: find_problem(kind, folder, options) for name, kind in BACKENDS.items()}
    usable = [name for name, problem in problems.items() if problem is None]
    if not usable:
        raise DeployError("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
    check = SelfCheck.read(folder)
    why = check.why_not_comparable(options.precision, options.kind) if check else "the folder has no self-check"
    if why:
        check = None  # without detections to compare, every graph that detects nothing would pass
    seconds: dict[str, float] = {}
    best: Backend | None = None
    failures = []
    for name in usable:
        try:
            backend = BACKENDS[name](folder, options)
            if check is None:
                if len(usable) > 1:
                    logger.info("backend %s, the first that loads; engines are not compared: %s", name, why)
                return backend
            check.verify(backend, options.precision, options.kind)
            start = time.perf_counter()
            backend(check.arrays)
            seconds[name] = time.perf_counter() - start
        except Exception as error:  # an engine may raise anything, and another one may work
            failures.append(f"{name}: {last_line(error)}")
            logger.warning("backend %s", failures[-1])
            continue
        if seconds[name] == min(seconds.values()):
            best = backend
    if best is None:
        raise DeployError(
            f"{folder}: no backend {'passes the self-check' if check else 'can load it'}: {'; '.join(failures)}"
        )
    times = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in sorted(seconds.items(), key=lambda x: x[1]))
    logger.info("backend %s (self-check: %s)", best.name, times)
    return best
