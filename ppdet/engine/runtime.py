"""Set-up that has to happen before paddle loads, and the choice of the device."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Optional

from ppdet.core.config import Config
from ppdet.core.errors import ConfigError
from ppdet.utils.cpu import cpu_count
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# What Paddle says of itself in every ordinary run, and users can do nothing about.
PADDLE_WARNINGS = (
    "No ccache found",
    "When training, we now always track global mean",
    r"The Attr\(force_cpu\) of Op",
)


def load_paddle(*, announce: bool = True) -> None:
    """Import paddle with the fastest CPU settings, and log what was set if `announce`.

    As shipped, Paddle computes on one thread, and its MKL takes a slow generic path on AMD processors. A variable that
    the user has set already is left alone.
    """
    if "paddle" in sys.modules:
        return
    if is_launchers_own("OMP_NUM_THREADS"):
        del os.environ["OMP_NUM_THREADS"]
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // local_processes())))
    settings = [f"{threads} thread{'s' if threads != '1' else ''} (OMP_NUM_THREADS)"]
    if is_amd():
        settings.append(f"MKL_DEBUG_CPU_TYPE={os.environ.setdefault('MKL_DEBUG_CPU_TYPE', '5')} (AMD processor)")
    # Paddle's C++ side otherwise logs its internals on stderr.
    os.environ.setdefault("GLOG_minloglevel", "2")
    for message in PADDLE_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        import paddle
    for line in printed.getvalue().splitlines():
        # The advice against several threads is meant for builds without MKL.
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)
    if announce:
        logger.info("paddle %s, CPU: %s", paddle.__version__, ", ".join(settings))


def set_device(use_gpu: bool) -> str:
    """Choose the GPU when asked for and usable, otherwise the CPU; return its name in Paddle."""
    import paddle

    usable = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if use_gpu and paddle.is_compiled_with_cuda() and not usable:
        logger.warning("use_gpu is true, but no GPU is visible: running on the CPU")
    # Under paddle.distributed.launch "gpu" is the one that this process was given.
    device = "gpu" if use_gpu and usable else "cpu"
    paddle.set_device(device)
    if device == "gpu":
        logger.info("device: %s", paddle.get_device())
    return device


def training_type(cfg: Config) -> str:
    """The type layers compute in while training: float32, bfloat16 or, on a GPU, float16; the log says it.

    Raises:
        ConfigError: mixed precision, or amp_dtype, on a GPU that does not have it.
    """
    import paddle

    from ppdet.modeling import cpu

    if not paddle.get_device().startswith("cpu"):
        if not cfg["amp"]:
            return "float32"
        dtype = gpu_type(cfg["amp_dtype"], paddle.device.cuda.get_device_capability())
        logger.info("mixed precision: %s, %s", dtype, cfg["amp_level"])
        return dtype
    onednn = cfg["use_onednn"] and cpu.ready()
    dtype = "bfloat16" if cfg["amp"] and onednn and cpu.has_bfloat16() else "float32"
    if cfg["amp"] and dtype == "float32":
        logger.warning("amp: training in float32: bfloat16 needs oneDNN and a processor with AVX-512 BF16 or AMX")
    if cfg["amp"]:
        ours = {"amp_dtype": (None, "bfloat16"), "amp_level": ("O1",)}
        for_gpus = [key for key, values in ours.items() if cfg[key] not in values]
        for_gpus += [key for key in ("custom_white_list", "custom_black_list") if cfg[key]]
        if for_gpus:
            logger.warning("%s: for GPUs only; on this CPU oneDNN's layers compute in %s", ", ".join(for_gpus), dtype)
    if onednn:
        logger.info("CPU layers: oneDNN %s, %s", cpu.version(), dtype)
    return dtype


def gpu_type(wanted: Optional[str], capability: tuple[int, int]) -> str:
    """The type of mixed precision on a GPU of this compute capability: the wanted one, else the better one it has.

    Raises:
        ConfigError: the GPU does not have it.
    """
    needed = {"float16": 7, "bfloat16": 8}
    dtype = wanted or ("bfloat16" if capability[0] >= needed["bfloat16"] else "float16")
    if capability[0] < needed[dtype]:
        instead = "set amp_dtype to float16" if capability[0] >= needed["float16"] else "leave amp out"
        raise ConfigError(
            f"amp: {dtype} needs a GPU of compute capability {needed[dtype]}.0, this one has "
            f"{capability[0]}.{capability[1]}: {instead}"
        )
    return dtype


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


def is_amd() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    try:
        return "AuthenticAMD" in cpuinfo.read_text()
    except OSError:
        return False
