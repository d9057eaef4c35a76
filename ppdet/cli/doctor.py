"""Check this machine and installation: versions, devices, engines, speed of the CPU, memory and disk.

Each line says what is there; a line with "slow", "missing" or "broken" is followed by what to do. The exit code is 0,
or 1 when training cannot work.

examples:
  {program}
  {program} --json > doctor.json      # for a report
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import ppdet
from ppdet.core.command_line import make_parser, one_line_errors
from ppdet.utils.extras import EXTRAS, PADDLE_ADVICE, absent_packages, evaluation_package
from ppdet.utils.printable import printable

# Modules that training imports, by the name of their package.
REQUIRED = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "msgspec": "msgspec",
    "pyyaml": "yaml",
    "tqdm": "tqdm",
    "typeguard": "typeguard",
    "safetensors": "safetensors",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "fonttools": "fontTools",
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
    is_supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    advice = "" if is_supported else "install ppdet with Python 3.10 to 3.13"
    yield Finding("python", "ok" if is_supported else "broken", here, advice)
    yield Finding("ppdet", "ok", f"{ppdet.__version__}, {Path(ppdet.__file__).parent}")


def libraries() -> Iterator[Finding]:
    versions = []
    evaluation = evaluation_package()
    for package, module in (*REQUIRED.items(), (evaluation, evaluation)):
        try:
            importlib.import_module(module)
        except Exception as error:
            # Broken packages raise more than ImportError: NumPy with another ABI, a missing libGL.
            yield Finding(package, "broken", one_line(error), f"pip install --force-reinstall {package}")
        else:
            versions.append(f"{package} {version_of(package)}")
    yield Finding("libraries", "ok", ", ".join(versions))


def paddle_itself() -> Iterator[Finding]:
    from ppdet.utils.process.paddle_setup import load_paddle

    try:
        load_paddle(announce=False)
        import paddle

        x = paddle.ones([2, 2])
        x.stop_gradient = False
        (x @ x).sum().backward()
    except ImportError as error:
        yield Finding("paddle", "broken", one_line(error), PADDLE_ADVICE)
        return
    if x.grad is None or float(x.grad.sum()) != 16:
        yield Finding("paddle", "broken", f"{paddle.__version__}: wrong gradients of a product", "install it again")
    elif paddle.__version__.startswith("2.") and version_of("numpy").startswith("2."):
        yield Finding("paddle", "broken", f"{paddle.__version__} needs numpy 1", 'pip install "numpy<2"')
    else:
        yield Finding("paddle", "ok", paddle.__version__)


def devices() -> Iterator[Finding]:
    if "paddle" not in sys.modules:
        return
    from ppdet.utils import device

    kinds = device.supported_types()[1:]
    found = ", ".join(f"{device.count(kind)} {kind}" for kind in kinds if device.count(kind))
    if not found and kinds:
        text = f"this Paddle is built for {' and '.join(kinds)}, but none is visible"
        advice = "check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES, then run ppdet check-device"
        yield Finding("devices", "missing", text, advice)
    elif not found and shutil.which("nvidia-smi"):
        advice = "pip uninstall paddlepaddle, and install paddlepaddle-gpu for your CUDA (docs/GPU.md)"
        yield Finding("devices", "slow", "there is an NVIDIA driver, but this Paddle computes on CPUs only", advice)
    else:
        yield Finding("devices", "ok", found or "CPU")


def processor() -> Iterator[Finding]:
    if "paddle" not in sys.modules:
        return
    from ppdet.modeling import cpu
    from ppdet.modeling.cpu import kept_checks
    from ppdet.utils.process.cpu import cpu_count

    cores, threads = cpu_count(), os.environ.get("OMP_NUM_THREADS", "")
    is_limited = threads.isdigit() and int(threads) < cores
    advice = f"OMP_NUM_THREADS is set to {threads}: unset it, or set it to {cores}" if is_limited else ""
    text = f"{cores} processors, {threads or 'all'} threads"
    yield Finding("threads", "slow" if is_limited else "ok", text, advice)
    kept_checks.forget()
    if cpu.ready():
        bfloat16 = "bfloat16 works" if cpu.has_bfloat16() else "float32 only: no AVX-512 BF16 or AMX for --amp"
        yield Finding("CPU layers", "ok", f"oneDNN {cpu.version()}; {bfloat16}")
    else:
        advice = "nothing to do: layers use Paddle's own operations; the log says what is missing for oneDNN"
        yield Finding("CPU layers", "slow", "without oneDNN, a training step takes up to twice as long", advice)


def memory_and_disk() -> Iterator[Finding]:
    from ppdet.utils.process.cpu import memory_gib

    total = memory_gib()
    if total is not None:
        advice = "lower TrainReader.batch_size, input_size and worker_num (-o)" if total < LEAST_MEMORY else ""
        yield Finding("memory", "slow" if advice else "ok", f"{total:.1f} GiB", advice)
    free = shutil.disk_usage(".").free / 2**30
    advice = "free some, or change to another disk: -o save_dir=DIR" if free < LEAST_DISK else ""
    yield Finding("disk", "missing" if advice else "ok", f"{free:.1f} GiB free in {Path.cwd()}", advice)
    if not os.access(".", os.W_OK):
        yield Finding("disk", "broken", f"{Path.cwd()} cannot be written", "change to a folder that you can write to")


def downloads_and_workers() -> Iterator[Finding]:
    from ppdet.utils.disk.download import WEIGHTS_HOME
    from ppdet.utils.process.start import process_context

    folder = Path(os.path.expanduser(os.environ.get("PPDET_WEIGHTS_HOME") or WEIGHTS_HOME))
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if os.access(existing, os.W_OK):
        count = sum(path.is_file() for path in folder.iterdir()) if folder.is_dir() else 0
        text = f"{count} files of weights in {folder} (PPDET_WEIGHTS_HOME chooses the folder)"
        yield Finding("downloads", "ok", text)
    else:
        advice = "set PPDET_WEIGHTS_HOME to a folder that you can write to"
        yield Finding("downloads", "missing", f"{existing} cannot be written", advice)
    yield Finding("data workers", "ok", f"start by {process_context().get_start_method()} (-o worker_start=)")


def extras() -> Iterator[Finding]:
    for extra, packages in EXTRAS.items():
        absent = absent_packages(extra)
        if absent:
            advice = f"pip install {' '.join(absent)}"
            if "paddle2onnx" in absent and sys.version_info >= (3, 13):
                advice += "; paddle2onnx has no wheel for Python 3.13: export to ONNX and OpenVINO with 3.10 to 3.12"
            yield Finding(extra, "note", f"not installed: {', '.join(absent)}", advice)
        else:
            yield Finding(extra, "ok", ", ".join(f"{package} {version_of(package)}" for package in packages))


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package.replace("_", "-").partition("[")[0])
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


CHECKS = (python, libraries, paddle_itself, devices, processor, memory_and_disk, downloads_and_workers, extras)


def examine(checks: Sequence[Callable[[], Iterator[Finding]]]) -> list[Finding]:
    """Return the findings of these checks. A check that fails is a finding, too."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(
                Finding(check.__name__.replace("_", " "), "missing", f"cannot be checked: {one_line(error)}")
            )
    return findings


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
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
                line = f"{topic:12} {text}" if level in ("ok", "note") else f"{topic:12} {level.upper()}: {text}"
                print(printable(line))
                if advice:
                    print(printable(f"{'':12} -> {advice}"))
    if any(finding.level == "broken" for finding in findings):
        sys.exit(1)
