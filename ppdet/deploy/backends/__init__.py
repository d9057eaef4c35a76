"""The engines that run an exported model, and the choice between them."""

import time
from collections.abc import Sequence
from pathlib import Path

from ppdet.deploy.backends.base import Backend, Options, reason
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.backends.open_vino import OpenVINO
from ppdet.deploy.backends.paddle_inference import PaddleInference
from ppdet.deploy.compare import SelfCheck
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

BACKENDS: dict[str, type[Backend]] = {kind.name: kind for kind in (PaddleInference, ONNXRuntime, OpenVINO)}


def load_backend(folder: Path, name: str, options: Options) -> Backend:
    """The graph of an exported folder in the named engine, or, for "auto", in the fastest one that is installed and
    gives the detections of the export's self-check. Where there is nothing to compare, "auto" is the first one that
    loads.

    Raises:
        DeployError: the engine is not installed, or cannot run this folder with these options.
    """
    if name == "auto":
        return fastest(folder, options)
    if name not in BACKENDS:
        raise DeployError(f"backend is {name!r}; it must be auto, {', '.join(BACKENDS)}")
    problem = obstacle(BACKENDS[name], folder, options)
    if problem:
        raise DeployError(f"backend {name}: {problem}")
    return BACKENDS[name](folder, options)


def obstacle(kind: type[Backend], folder: Path, options: Options) -> str:
    """Why an engine cannot run the folder, empty where it can."""
    if kind.find(folder, options.precision) is None:
        precision = " --precision fp16" if options.precision == "fp16" else ""
        return f"{folder} has no file for it: tools/export_model.py --format {kind.format}{precision} writes one"
    if not kind.is_installed():
        return f"it is not installed: pip install {kind.distribution}"
    return kind.refusal(options) or ""


def fastest(folder: Path, options: Options) -> Backend:
    obstacles = {name: obstacle(kind, folder, options) for name, kind in BACKENDS.items()}
    usable = [name for name, problem in obstacles.items() if not problem]
    if not usable:
        raise DeployError("; ".join(f"{name}: {problem}" for name, problem in obstacles.items()))
    check = SelfCheck.read(folder)
    comparable = check is not None and check.comparable(options.precision, options.kind)
    seconds: dict[str, float] = {}
    best, failures = None, []
    for name in usable:
        try:
            backend = BACKENDS[name](folder, options)
            if not comparable:
                tell_first(backend, check, usable)
                return backend
            check.verify(backend, options.precision, options.kind)
            start = time.perf_counter()
            backend(check.arrays)
            seconds[name] = time.perf_counter() - start
        except Exception as error:  # whatever an engine may raise: there are others
            failures.append(f"{name}: {reason(error)}")
            logger.warning("backend %s", failures[-1])
            continue
        if seconds[name] == min(seconds.values()):
            best = backend
    if best is None:
        wanted = "passes the self-check" if comparable else "can load it"
        raise DeployError(f"{folder}: no backend {wanted}: {'; '.join(failures)}")
    times = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in sorted(seconds.items(), key=lambda x: x[1]))
    logger.info("backend %s (self-check: %s)", best.name, times)
    return best


def tell_first(backend: Backend, check: SelfCheck | None, usable: Sequence[str]) -> None:
    """Log that "auto" has not compared engines, where there are several."""
    if len(usable) > 1:
        lacks = "has no self-check" if check is None else "has a self-check without detections, nothing"
        logger.info("backend %s: the folder %s to compare engines by", backend.name, lacks)
