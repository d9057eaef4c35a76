"""The device that Paddle computes on, and the type that layers compute in."""

from typing import Literal

from ppdet.core.config import Config
from ppdet.engine.device_choice import choose, set_device
from ppdet.utils import device
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.paddle_setup import load_paddle

__all__ = ["choose", "computing_type", "gpu_type", "load_paddle", "set_device", "smaller_type"]

logger = get_logger(__name__)


def computing_type(cfg: Config, setting: Literal["amp", "eval_amp"]) -> str:
    """The type layers compute in: float32, bfloat16 or, on a GPU, float16; the log says it.

    Args:
        setting: what asks for a smaller type: `amp` for training, `eval_amp` for evaluation and inference.

    Raises:
        ConfigError: mixed precision, or amp_dtype, on a GPU that does not have it.
    """
    from ppdet.modeling import cpu

    wanted, doing = cfg[setting], {"amp": "training", "eval_amp": "evaluation"}[setting]
    if not wanted and (setting == "eval_amp" or not device.is_cpu()):
        return "float32"
    if not device.is_cpu():
        dtype = smaller_type(cfg["amp_dtype"])
        logger.info("%s in mixed precision: %s, %s", doing, dtype, cfg["amp_level"])
        return dtype
    onednn = cfg["use_onednn"] and cpu.ready()
    dtype = "bfloat16" if wanted and onednn and cpu.has_bfloat16() else "float32"
    if wanted and dtype == "float32":
        logger.warning(
            "%s: %s in float32: bfloat16 needs oneDNN and a processor with AVX-512 BF16 or AMX", setting, doing
        )
    if wanted:
        ours = {"amp_dtype": (None, "bfloat16"), "amp_level": ("O1",)}
        for_gpus = [key for key, values in ours.items() if cfg[key] not in values]
        for_gpus += [key for key in ("custom_white_list", "custom_black_list") if cfg[key]]
        if for_gpus:
            logger.warning("%s: for GPUs only; on this CPU oneDNN's layers compute in %s", ", ".join(for_gpus), dtype)
    if onednn:
        logger.info("CPU layers: oneDNN %s, %s", cpu.version(), dtype)
    return dtype


def smaller_type(wanted: str | None) -> str:
    """The type of mixed precision on the current device, which is not the CPU: the wanted one, else the better one.

    Raises:
        ConfigError: the device does not have it.
    """
    capability = device.capability()
    if capability is not None:
        return gpu_type(wanted, capability)
    has = [dtype for dtype in ("bfloat16", "float16") if device.casts_to(dtype)]
    if (wanted or "float16") in has or (has and not wanted):
        return wanted or has[0]
    instead = f"set amp_dtype to {has[0]}" if has else "leave amp out"
    raise ConfigError(f"amp: Paddle has no mixed precision in {wanted or 'any type'} on {device.name()}: {instead}")


def gpu_type(wanted: str | None, capability: tuple[int, int]) -> str:
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
