"""The device that Paddle computes on, and the type that layers compute in."""

from typing import Optional

from ppdet.core.config import Config
from ppdet.core.errors import ConfigError
from ppdet.utils import device
from ppdet.utils.logger import get_logger
from ppdet.utils.paddle_setup import load_paddle

__all__ = ["gpu_type", "load_paddle", "set_device", "training_type"]

logger = get_logger(__name__)


def set_device(use_gpu: bool) -> str:
    """Choose the GPU when asked for and usable, otherwise the CPU; return its name in Paddle."""
    import paddle

    usable = device.count("gpu") > 0
    if use_gpu and "gpu" in device.kinds() and not usable:
        logger.warning("use_gpu is true, but no GPU is visible: running on the CPU")
    # Under paddle.distributed.launch "gpu" is the one that this process was given.
    kind = "gpu" if use_gpu and usable else "cpu"
    paddle.set_device(kind)
    if kind == "gpu":
        logger.info("device: %s", device.name())
    return kind


def training_type(cfg: Config) -> str:
    """The type layers compute in while training: float32, bfloat16 or, on a GPU, float16; the log says it.

    Raises:
        ConfigError: mixed precision, or amp_dtype, on a GPU that does not have it.
    """

    from ppdet.modeling import cpu

    if not device.is_cpu():
        if not cfg["amp"]:
            return "float32"
        dtype = gpu_type(cfg["amp_dtype"], device.capability() or (0, 0))
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
