"""Check this machine and installation: versions, devices, engines, speed of the CPU, memory and disk.

Each line says what is there; a line with "slow", "missing" or "broken" is followed by what to do. The exit code is 0,
or 1 when training cannot work.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import ppdet
from ppdet.core.command_line import make_parser, one_line_errors

EXAMPLES = """examples:
  {program}
  {program} --json > doctor.json      # for a report
"""
# Modules that training imports, by the name of their package.
REQUIRED = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "faster-coco-eval": "faster_coco_eval",
    "pyyaml": "yaml",
    "tqdm": "tqdm",
    "typeguard": "typeguard",
    "safetensors": "safetensors",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "fonttools": "fontTools",
}
# Modules of the optional extras of this package.
EXTRAS = {
    "onnx": ("onnx", "onnxruntime", "paddle2onnx"),
    "openvino": ("openvino",),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "batch": ("ray", "pyarrow", "fsspec"),
    "tensorboard": ("tensorboardX",),
    "vdl": ("visualdl",),
}
LEAST_MEMORY, LEAST_DISK = 4, 5  # GiB
Level = Literal["ok", "note", "slow", "missing", "broken"]


class Finding(NamedTuple):
    """One line of the report.

    level: "ok"; "note" when an optional part is not installed; "slow"; "missing" when something to be expected does
    not work; "broken" when training cannot work. advice: what to do about it, or "".
    """

    topic: str
    level: Level
    text: str
    advice: str = ""


def python() -> Iterator[Finding]:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        yield Finding("python", "ok", here)
    else:
        yield Finding("python", "broken", here, "install ppdet with Python 3.10 to 3.13")
    yield Finding("ppdet", "ok", f"{ppdet.__version__}, {Path(ppdet.__file__).parent}")


def libraries() -> Iterator[Finding]:
    versions = {}
    for package, module in REQUIRED.items():
        try:
            imported = importlib.import_module(module)
            versions[package] = getattr(imported, "__version__", None) or version_of(package)
        except Exception as error:
            # What an import raises besides ImportError is as little our choice: numpy of another ABI, missing libGL.
            yield Finding(package, "broken", one_line(error), f"pip install --force-reinstall {package}")
    yield Finding("libraries", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def paddle_itself() -> Iterator[Finding]:
    from ppdet.utils.process.paddle_setup import load_paddle

    try:
        load_paddle(announce=False)
        import paddle

        x = paddle.ones([2, 2])
        x.stop_gradient = False
        (x @ x).sum().backward()
        computes = x.grad is not None and float(x.grad.sum()) == 16
    except ImportError as error:
        advice = "pip install paddlepaddle, or the build for your GPU (docs/GPU.md)"
        yield Finding("paddle", "broken", one_line(error), advice)
        return
    if not computes:
        yield Finding("paddle", "broken", f"{paddle.__version__}: wrong gradients of a product", "install it again")
    elif paddle.__version__.startswith("2.") and version_of("numpy").startswith("2."):
        yield Finding("paddle", "broken", f"{paddle.__version__} needs numpy 1", 'pip install "numpy<2"')
    else:
        yield Finding("paddle", "ok", paddle.__version__)


def devices() -> Iterator[Finding]:
    from ppdet.utils import device

    kinds = device.kinds()[1:]
    counts = {kind: device.count(kind) for kind in kinds}
    if any(counts.values()):
        yield Finding("devices", "ok", ", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
    elif kinds:
        advice = "check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES, then run ppdet check-device"
        yield Finding(
            "devices", "missing", f"this Paddle is built for {' and '.join(kinds)}, but none is visible", advice
        )
    elif shutil.which("nvidia-smi"):
        advice = "pip uninstall paddlepaddle, and install paddlepaddle-gpu for your CUDA (docs/GPU.md)"
        yield Finding("devices", "slow", "there is an NVIDIA driver, but this Paddle computes on CPUs only", advice)
    else:
        yield Finding("devices", "ok", "CPU")


def processor() -> Iterator[Finding]:
    from ppdet.utils.process.cpu import cpu_count

    cores, threads = cpu_count(), os.environ.get("OMP_NUM_THREADS", "")
    text = f"{cores} processors, {threads or 'all'} threads"
    if threads.isdigit() and int(threads) < cores:
        yield Finding("threads", "slow", text, f"OMP_NUM_THREADS is set to {threads}: unset it, or set it to {cores}")
    else:
        yield Finding("threads", "ok", text)
    from ppdet.modeling import cpu

    if not cpu.ready():
        advice = "nothing to do: layers use Paddle's own operations; the log says what is missing for oneDNN"
        yield Finding("CPU layers", "slow", "without oneDNN, a training step takes up to twice as long", advice)
    elif cpu.has_bfloat16():
        yield Finding("CPU layers", "ok", f"oneDNN {cpu.version()}; bfloat16 works: --amp is about twice as fast")
    else:
        text = f"oneDNN {cpu.version()}; float32 only: the processor has no AVX-512 BF16 or AMX for --amp"
        yield Finding("CPU layers", "ok", text)


def memory() -> Iterator[Finding]:
    if not hasattr(os, "sysconf"):
        yield Finding("memory", "ok", "not known on this system")
        return
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    advice = "lower TrainReader.batch_size, input_size and worker_num (-o)" if total < LEAST_MEMORY else ""
    yield Finding("memory", "slow" if advice else "ok", f"{total:.1f} GiB", advice)


def disk() -> Iterator[Finding]:
    free = shutil.disk_usage(".").free / 2**30
    advice = "free some, or change to another disk: -o save_dir=DIR" if free < LEAST_DISK else ""
    yield Finding("disk", "missing" if advice else "ok", f"{free:.1f} GiB free in {Path.cwd()}", advice)
    try:
        with tempfile.TemporaryFile(dir="."):
            pass
    except OSError as error:
        yield Finding("disk", "broken", f"{Path.cwd()}: {error.strerror}", "change to a folder that you can write to")


def cache() -> Iterator[Finding]:
    from ppdet.utils.disk.download import WEIGHTS_HOME

    folder = Path(os.environ.get("PPDET_WEIGHTS_HOME") or WEIGHTS_HOME).expanduser()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        advice = "set PPDET_WEIGHTS_HOME to a folder that you can write to"
        yield Finding("downloads", "missing", f"{existing} cannot be written", advice)
    else:
        count = sum(path.is_file() for path in folder.iterdir()) if folder.is_dir() else 0
        yield Finding("downloads", "ok", f"{count} files of weights in {folder}")


def workers() -> Iterator[Finding]:
    from ppdet.utils.process.start import process_context

    yield Finding("data workers", "ok", f"start by {process_context().get_start_method()} (-o worker_start=)")


def extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        if absent:
            advice = f'pip install "ppdet-fcos[{extra}]"'
            if "paddle2onnx" in absent and sys.version_info >= (3, 13):
                advice += "; paddle2onnx has no wheel for Python 3.13: export to ONNX and OpenVINO with 3.10 to 3.12"
            yield Finding(extra, "note", f"not installed: {', '.join(absent)}", advice)
        else:
            yield Finding(extra, "ok", ", ".join(f"{module} {version_of(module)}" for module in modules))


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


CHECKS = (python, libraries, paddle_itself, devices, processor, memory, disk, cache, workers, extras)


def examine(checks: Sequence[Callable[[], Iterator[Finding]]]) -> list[Finding]:
    """Return the findings of these checks. A check that fails is a finding, too."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(Finding(check.__name__, "missing", f"cannot be checked: {one_line(error)}"))
    return findings


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES, program)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        findings = examine(CHECKS)
        if arguments.json:
            print(json.dumps([finding._asdict() for finding in findings], indent=2))
        else:
            for topic, level, text, advice in findings:
                print(f"{topic:12} {text}" if level in ("ok", "note") else f"{topic:12} {level.upper()}: {text}")
                if advice:
                    print(f"{'':12} -> {advice}")
    if any(finding.level == "broken" for finding in findings):
        sys.exit(1)
