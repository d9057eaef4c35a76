"""What has to be set before paddle loads: threads, the path that its MKL takes, and what it prints."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path

from ppdet.utils.logger import get_logger
from ppdet.utils.process.cpu import cpu_count
from ppdet.utils.process.stop import loading

logger = get_logger(__name__)

# What Paddle says of itself in every ordinary run, and users can do nothing about.
PADDLE_WARNINGS = (
    "No ccache found",
    "When training, we now always track global mean",
    r"The Attr\(force_cpu\) of Op",
    r"You are using \w+ version Paddle, but your",  # device is not set properly: who sets the device says that
)


def load_paddle(*, announce: bool = True, threads: int | None = None) -> None:
    """Import paddle with the fastest CPU settings, and log what was set if `announce`.

    threads: of the CPU; None for this process's share of those it may use.

    As shipped, Paddle computes on one thread, and its MKL takes a slow generic path on AMD processors. A variable that
    the user has set already is left alone.
    """
    if "paddle" in sys.modules:
        return
    if is_launchers_own("OMP_NUM_THREADS"):
        del os.environ["OMP_NUM_THREADS"]
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(threads or max(1, cpu_count() // local_processes())))
    settings = [f"{threads} thread{'s' if threads != '1' else ''} (OMP_NUM_THREADS)"]
    if is_amd_with_avx2():
        settings.append(f"MKL_DEBUG_CPU_TYPE={os.environ.setdefault('MKL_DEBUG_CPU_TYPE', '5')} (AMD processor)")
    # Paddle's C++ side otherwise logs its internals on stderr.
    os.environ.setdefault("GLOG_minloglevel", "2")
    for message in PADDLE_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    printed = io.StringIO()
    # Paddle's own handler of SIGTERM prints where in its C++ code that came.
    with contextlib.redirect_stderr(printed), loading():
        import paddle
    for line in printed.getvalue().splitlines():
        # The advice against several threads is meant for builds without MKL.
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)
    if announce:
        logger.info("paddle %s, CPU: %s", paddle.__version__, ", ".join(settings))


def local_processes() -> int:
    """Training processes that `paddle.distributed.launch` started on this machine."""
    if "PADDLE_LOCAL_SIZE" in os.environ:
        return int(os.environ["PADDLE_LOCAL_SIZE"])
    # With --backend, Paddle uses an older launcher, which tells the addresses only.
    hosts = [address.rpartition(":")[0] for address in os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")]
    return max(1, hosts.count(os.environ.get("PADDLE_CURRENT_ENDPOINT", ":").rpartition(":")[0]))


def is_launchers_own(name: str) -> bool:
    """Whether an environment variable comes from Paddle's launcher, and not from the user who called it.

    The launcher imports paddle, which sets OMP_NUM_THREADS to 1 for itself and all that it starts.
    """
    if "PADDLE_TRAINERS_NUM" not in os.environ or name not in os.environ:
        return False
    try:
        users = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return False
    return not any(entry.startswith(name.encode() + b"=") for entry in users.split(b"\0"))


def is_amd_with_avx2() -> bool:
    """Whether MKL can be told to take its AVX2 path on an AMD processor: it does not look, and crashes without AVX2."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "AuthenticAMD" in cpuinfo and "avx2" in cpuinfo.split()
