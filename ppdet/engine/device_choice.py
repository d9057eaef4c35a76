"""Choosing this process's device from settings, the available devices, and Paddle's launcher."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from ppdet.core.config import Config
from ppdet.utils import device
from ppdet.utils.errors import ConfigError, config_error, nearest
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

AUTO, CPU = "auto", "cpu"
ALIASES = {"cuda": "gpu", "dcu": "gpu"}  # other names of types of device
# PaddleDetection's settings besides use_gpu; a true one asks for the type that it names.
USE = ("xpu", "npu", "mlu", "gcu")
SETTINGS = ("device", "use_gpu", *(f"use_{kind}" for kind in USE))
# Types of device that a plugin adds to Paddle.
PLUGINS = ("npu", "mlu", "gcu", "iluvatar_gpu", "metax_gpu", "intel_gpu", "intel_hpu", "sdaa", "mps")
WHY_NONE = {
    "gpu": "is there a driver (nvidia-smi), and does CUDA_VISIBLE_DEVICES name cards that exist?",
    "xpu": "is there a driver (xpu-smi), and does XPU_VISIBLE_DEVICES name cards that exist?",
}
# The library by which the ranks of a job communicate; other types of device use "xccl", the plugin's library.
BACKENDS = {"cpu": "gloo", "gpu": "nccl", "xpu": "bkcl"}

DeviceValue = str | int | list  # a value of the setting `device`


class Request(NamedTuple):
    """A parsed value of `device`: a type of device, or auto, and the number of one device of that type."""

    kind: str
    number: int | None = None


def set_device(cfg: Config) -> str:
    """Make the device current that `device`, or PaddleDetection's `use_gpu`, `use_xpu` and so on, ask for.

    Returns:
        The name that paddle.set_device got, such as "cpu" or "gpu:0".

    Raises:
        ConfigError: this device is not available, or the settings contradict each other.
    """
    key, value = deciding_setting(cfg)
    try:
        return choose(value)
    except ConfigError as error:
        if not cfg.is_set(key):  # the machine or the environment is at fault, not a setting
            raise
        raise config_error(cfg.origin(key), key, str(error)) from None


def check_device(cfg: Config) -> None:
    """Check the spelling of `device`, for commands that always compute on the CPU.

    Raises:
        ConfigError: the value is not a device.
    """
    try:
        parse(cfg["device"])
    except ConfigError as error:
        raise config_error(cfg.origin("device"), "device", str(error)) from None


def deciding_setting(cfg: Config) -> tuple[str, DeviceValue]:
    """Return the name of the setting that decides, and the value of `device` that it means.

    What -o, --device or merge_config sets takes precedence over files. If it only selects a type of device, such as
    `use_npu=true`, and a file names one device of this type, such as `device: npu:3`, the file's device is used.

    Raises:
        ConfigError: several of PaddleDetection's settings are true.
    """
    above_files = [key for key in SETTINGS if cfg.layer(key) > cfg.files]
    key, value = _decide(cfg, above_files) or _decide(cfg, SETTINGS) or ("device", AUTO)
    if key != "device" and "device" not in above_files and value != CPU:
        kind_in_file = str(cfg["device"]).strip().lower().partition(":")[0]
        kind = key.partition("_")[2]
        # A device without a type, such as 1 or [1], is a GPU.
        if ALIASES.get(kind_in_file, kind_in_file) == kind or (kind == "gpu" and not kind_in_file[:1].isalpha()):
            return "device", cfg["device"]
    return key, value


def _decide(cfg: Config, keys: Sequence[str]) -> tuple[str, DeviceValue] | None:
    """Like `deciding_setting`, but consider only the settings `keys`. None if they do not decide."""
    used = [f"use_{kind}" for kind in USE if f"use_{kind}" in keys and cfg[f"use_{kind}"]]
    if "device" in keys and str(cfg["device"]).strip().lower() != AUTO:
        _warn_of_ignored(cfg, keys, used)
        return "device", cfg["device"]
    if len(used) > 1:
        raise config_error(cfg.origin(used[1]), used[1], f"{used[0]} is true as well: leave one of them, or set device")
    if used:
        return used[0], used[0].partition("_")[2]
    if "use_gpu" in keys and not cfg["use_gpu"]:
        return "use_gpu", CPU
    given = [key for key in ("device", "use_gpu") if key in keys]
    return (given[0], AUTO) if given else None


def _warn_of_ignored(cfg: Config, keys: Sequence[str], used: Sequence[str]) -> None:
    """Warn of PaddleDetection's settings that contradict `device`. `used`: the settings in USE that are true.

    A true use_gpu is the default, and contradicts nothing.
    """
    check_device(cfg)
    kind = parse(cfg["device"]).kind
    ignored = [f"{key}: true" for key in used if key != f"use_{kind}"]
    ignored += ["use_gpu: false"] if kind == "gpu" and "use_gpu" in keys and not cfg["use_gpu"] else []
    if ignored:
        logger.warning("device: %s is used; %s is ignored", cfg["device"], ", ".join(ignored))


def choose(value: DeviceValue = AUTO, *, announce: bool = True) -> str:
    """Make a device the current one of this process.

    Under paddle.distributed.launch, a type of device means the one that the launcher assigned to this process.

    Args:
        value: "auto" (a GPU if there is one, else an XPU, else a device that Paddle has a plugin for, else the CPU), a
            type such as "cpu", "gpu", "xpu" or "npu", or one device of a type, such as "gpu:1".
        announce: log the device.

    Returns:
        The name that paddle.set_device got, such as "gpu:0".

    Raises:
        ConfigError: this device is not available.
    """
    import paddle

    request = parse(value)
    kind = _best_kind() if request.kind == AUTO else _available_kind(request.kind)
    if kind == CPU and request.number is not None:
        raise ConfigError(
            f"{value!r} names a GPU or another accelerator, but none was found; device=cpu computes on the CPU"
        )
    name = kind if kind == CPU else f"{kind}:{_device_number(request, kind)}"
    paddle.set_device(name)
    if announce:
        logger.info("device: %s", name)
    return name


def parse(value: DeviceValue) -> Request:
    """Parse a value of `device`. The spellings of other tools are understood too: 0, [1], "cuda:1".

    Raises:
        ConfigError: the value is not a device, or names several devices.
    """
    text = (",".join(map(str, value)) if isinstance(value, list) else str(value)).strip().lower()
    is_number = re.fullmatch(r"[0-9]+(\s*,\s*[0-9]+)*", text)
    kind, colon, number = (AUTO, ":", text) if is_number else text.partition(":")
    if "," in number:
        raise ConfigError(
            f"expected one device, got {value!r}: each process has one; for several, start several processes: "
            f"python -m paddle.distributed.launch --devices {number.replace(' ', '')} tools/train.py ..."
        )
    is_valid = re.fullmatch("[0-9]{1,6}", number) and (is_number or kind not in (CPU, AUTO))
    if not re.fullmatch(r"[a-z]\w*", kind) or (colon and not is_valid):
        raise ConfigError(f"expected auto, cpu, a type of device, or one of that type, such as gpu:0, got {value!r}")
    return Request(ALIASES.get(kind, kind), int(number) if colon else None)


def _best_kind() -> str:
    """Return the type of device that `auto` means on this machine."""
    kinds = device.supported_types()[1:]
    if launched() and os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo":
        available = [kind for kind in kinds if device.count(kind)]
        if available:
            names = " and ".join(map(_display_name, available))
            logger.warning("running on the CPU, although there is %s: %s", names, why_on_cpu(available))
        return CPU
    kinds = [kind for kind in kinds if launched() and assigned_number(kind) is not None] or kinds
    best = next((kind for kind in kinds if device.count(kind)), None)
    if kinds and not best:
        names = " and ".join(map(_display_name, kinds))
        logger.warning("this Paddle is built for %s, but none is visible: running on the CPU", names)
    return best or CPU


def _available_kind(kind: str) -> str:
    """Return a type of device as this Paddle spells it.

    Raises:
        ConfigError: this process cannot use a device of this type.
    """
    import paddle

    own = next((own for own in device.supported_types() if own.lower() == kind), None)
    if own is None:
        known = {AUTO, *device.supported_types(), *device.BUILDS, *PLUGINS}
        advice = nearest(kind, known)
        if kind in known:
            advice = f": {device.what_to_install(kind)}"
        has = ", ".join(device.supported_types())
        raise ConfigError(f"this Paddle ({paddle.__version__}) has no device of type {kind}, it has {has}{advice}")
    if not device.count(own):
        why = WHY_NONE.get(own, "is its driver there, and are its cards visible?")
        raise ConfigError(f"no {_display_name(own)} is visible: {why} Otherwise device=cpu computes on the CPU")
    if launched() and own != CPU:
        if os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo":
            raise ConfigError(f"no {_display_name(own)} was given to this process: {why_on_cpu([own])}")
        if assigned_number(own) is None:
            raise ConfigError(f"paddle.distributed.launch gave this process no {_display_name(own)}: leave device out")
    return own


def why_on_cpu(kinds: Sequence[str]) -> str:
    """Return why the processes of a job compute on CPUs although there are devices of the types `kinds`."""
    plugins = [kind for kind in kinds if kind not in device.BUILDS]
    why = "PADDLE_DISTRI_BACKEND=gloo, by the launcher or the user, is for processes on CPUs"
    if plugins:
        why += f"; the launcher of Paddle 2.6 assigns {plugins[0]} devices if PADDLE_XCCL_BACKEND={plugins[0]}"
    return why


def _device_number(request: Request, kind: str) -> int:
    """Return which device of a type this process uses, from 0.

    Raises:
        ConfigError: the requested device does not exist, or the launcher assigned another one.
    """
    count, assigned = device.count(kind), assigned_number(kind)
    has = f"{kind}:0" if count == 1 else f"{kind}:0 to {kind}:{count - 1}"
    if request.number is None:
        if assigned is not None and assigned >= count:
            raise ConfigError(
                f"FLAGS_selected_{kind}s, which paddle.distributed.launch sets, gives this process {kind}:{assigned}, "
                f"and there is only {has} here: all processes have to see the same cards; select cards with the "
                "launcher's --devices; without the launcher, unset that variable"
            )
        return assigned or 0
    if launched():
        raise ConfigError(
            f"{kind}:{request.number} is one device, and paddle.distributed.launch gives each process its own: "
            "leave the index out; --devices of the launcher chooses"
        )
    if request.number >= count:
        raise ConfigError(f"there is no {kind}:{request.number} here, only {has}")
    if assigned is not None and request.number not in assigned_numbers(kind):
        raise ConfigError(
            f"Paddle was told to use no {kind}:{request.number}, but {kind}:{assigned}: unset FLAGS_selected_{kind}s, "
            "or leave the index out"
        )
    return request.number


def launched() -> bool:
    """Whether this process is one of several that paddle.distributed.launch started.

    Raises:
        ConfigError: the launcher's environment variable is not a number.
    """
    count = os.environ.get("PADDLE_TRAINERS_NUM", "1").strip()
    if not re.fullmatch("[0-9]{1,6}", count):
        raise ConfigError(
            f"PADDLE_TRAINERS_NUM is {count!r}; paddle.distributed.launch sets it to the number of processes: unset it"
        )
    return int(count) > 1


def assigned_numbers(kind: str) -> list[int]:
    """Return the numbers of the devices of a type to which FLAGS_selected_<kind>s confines Paddle in this process.

    The launcher sets this variable for each process, even for a single one. Whoever sets it, Paddle cannot compute on
    any other device of the type.
    """
    words = os.environ.get(f"FLAGS_selected_{kind}s", "").split(",")
    return [int(word) for word in map(str.strip, words) if re.fullmatch("[0-9]{1,6}", word)]


def assigned_number(kind: str) -> int | None:
    """Return the first of `assigned_numbers`, which is this process's device; None if not assigned."""
    return next(iter(assigned_numbers(kind)), None)


def _display_name(kind: str) -> str:
    return kind.upper() if kind in ("gpu", "xpu") else kind


def select_backend() -> None:
    """Set the environment variables by which Paddle chooses its communication library, to fit the current device.

    Paddle takes the device of a process from the library: with a GPU build and no variable it would use GPUs, whatever
    device was current before.
    """
    kind = device.device_type()
    if kind == CPU:
        os.environ["PADDLE_DISTRI_BACKEND"] = BACKENDS[CPU]
        return
    os.environ.setdefault("PADDLE_DISTRI_BACKEND", BACKENDS.get(kind, "xccl"))
    if kind not in BACKENDS:
        os.environ.setdefault("PADDLE_XCCL_BACKEND", kind)
