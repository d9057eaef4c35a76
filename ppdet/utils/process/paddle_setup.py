"""Importing paddle with the settings that must be in place before: threads, MKL's code path, and less output."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path

from ppdet.utils.logger import get_logger
from ppdet.utils.printable import printable
from ppdet.utils.process.cpu import cpu_count
from ppdet.utils.process.importing import without_garbage_collection
from ppdet.utils.process.stop import loading

logger = get_logger(__name__)

# What Paddle prints in every ordinary run, and users can do nothing about.
PADDLE_WARNINGS = (
    "No ccache found",
    "When training, we now always track global mean",
    r"The Attr\(force_cpu\) of Op",
    r"You are using \w+ version Paddle, but your",  # no device was chosen: the code that chooses one reports it
)


def load_paddle(*, announce: bool = True, threads: int | None = None) -> None:
    """Import paddle with the fastest settings for CPUs.

    By default Paddle computes on one thread, and its MKL takes a slow generic path on AMD processors. Environment
    variables that the user has set stay as they are.

    Args:
        announce: log what was set.
        threads: CPU threads; None for this process's share of the processors that it may use.

    Raises:
        ImportError: paddle, OpenCV, or a library that they need, is missing or broken.
    """
    if "paddle" in sys.modules:
        return
    if is_set_by_launcher("OMP_NUM_THREADS"):
        del os.environ["OMP_NUM_THREADS"]
    count = os.environ.setdefault("OMP_NUM_THREADS", str(threads or max(1, cpu_count() // local_processes())))
    settings = [f"{count} thread{'s' if count != '1' else ''} (OMP_NUM_THREADS)"]
    if is_amd_with_avx2():
        settings.append(f"MKL_DEBUG_CPU_TYPE={os.environ.setdefault('MKL_DEBUG_CPU_TYPE', '5')} (AMD processor)")
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side otherwise logs its internals
    for message in PADDLE_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    printed = io.StringIO()
    # Paddle installs a handler of SIGTERM that prints a C++ stack; `loading` restores ours.
    with contextlib.redirect_stderr(printed), loading(), without_garbage_collection():
        try:
            # OpenCV comes first. Paddle 2.6 has a zlib of its own, which a later OpenCV would call: writing a PNG file
            # then ends the process with a segmentation fault or a failed assertion in deflateReset.
            import cv2  # noqa: F401
            import paddle
        except ImportError:
            raise
        except Exception as error:  # an OSError of the system's loader, or any of Paddle's own checks
            raise ImportError(f"paddle cannot be loaded: {error}", name="paddle") from error
    for line in printed.getvalue().splitlines():
        # Paddle's advice against several threads is meant for builds without MKL.
        if "OMP_NUM_THREADS" not in line:
            print(printable(line), file=sys.stderr)
    if announce:
        logger.info("paddle %s, CPU: %s", paddle.__version__, ", ".join(settings))


def local_processes() -> int:
    """The number of training processes that `paddle.distributed.launch` started on this machine."""
    if "PADDLE_LOCAL_SIZE" in os.environ:
        return int(os.environ["PADDLE_LOCAL_SIZE"])
    # With --backend, Paddle uses an older launcher, which passes on the addresses only.
    hosts = [address.rpartition(":")[0] for address in os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")]
    return max(1, hosts.count(os.environ.get("PADDLE_CURRENT_ENDPOINT", ":").rpartition(":")[0]))


def is_set_by_launcher(name: str) -> bool:
    """Whether an environment variable was set by Paddle's launcher, and not by the user who called the launcher.

    The launcher imports paddle, which sets OMP_NUM_THREADS to 1 for itself and for all processes that it starts. Where
    there is no /proc, the variable counts as the user's.
    """
    if "PADDLE_TRAINERS_NUM" not in os.environ or name not in os.environ:
        return False
    try:
        launcher_environment = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return False
    return not any(entry.startswith(name.encode() + b"=") for entry in launcher_environment.split(b"\0"))


def is_amd_with_avx2() -> bool:
    """Whether this is an AMD processor with AVX2, on which MKL may be told to use its AVX2 code.

    MKL does not check that, and would crash without AVX2. Where there is no /proc, the answer is no.
    """
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "AuthenticAMD" in cpuinfo and "avx2" in cpuinfo.split()
