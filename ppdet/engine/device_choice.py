"""Which device a process computes on: one place decides, for one device and for several alike."""

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
OTHER_NAMES = {"cuda": "gpu", "dcu": "gpu"}  # of types
# PaddleDetection's settings besides use_gpu; each is true for the type that it names.
USE = ("xpu", "npu", "mlu", "gcu")
SETTINGS = ("device", "use_gpu", *(f"use_{kind}" for kind in USE))
# What is to be installed for a type of device. Plugins come from github.com/PaddlePaddle/PaddleCustomDevice.
BUILDS = {"gpu": "paddlepaddle-gpu, the build for your CUDA", "xpu": "paddlepaddle-xpu"}
PLUGINS = ("npu", "mlu", "gcu", "iluvatar_gpu", "metax_gpu", "intel_gpu", "intel_hpu", "sdaa", "mps")
WHY_NONE = {
    "gpu": "is there a driver (nvidia-smi), and does CUDA_VISIBLE_DEVICES name cards that exist?",
    "xpu": "is there a driver (xpu-smi), and does XPU_VISIBLE_DEVICES name cards that exist?",
}
# How the processes of a run talk; Paddle takes the place of each from it again.
BACKENDS = {"cpu": "gloo", "gpu": "nccl", "xpu": "bkcl"}


class Wanted(NamedTuple):
    """A type of device, or auto, and which of that type, if that was said."""

    kind: str
    index: int | None = None


def set_device(cfg: Config) -> str:
    """Choose the device that a configuration asks for by `device`, or by PaddleDetection's `use_gpu`, `use_xpu`, ...

    Returns:
        What paddle.set_device was given, such as "cpu" or "gpu:0".

    Raises:
        ConfigError: it cannot be had, or the settings contradict each other.
    """
    key, value = asked(cfg)
    try:
        return choose(value)
    except ConfigError as error:
        if not cfg.is_set(key):  # the machine or the environment, not a setting, is at fault
            raise
        raise config_error(cfg.origin(key), key, str(error)) from None


def check_device(cfg: Config) -> None:
    """Check how `device` is written, for what computes on the CPU whatever it says.

    Raises:
        ConfigError: that is no device.
    """
    try:
        parse(cfg["device"])
    except ConfigError as error:
        raise config_error(cfg.origin("device"), "device", str(error)) from None


def asked(cfg: Config) -> tuple[str, str | int | list]:
    """The setting that decides, and the value of `device` that it stands for.

    What -o, --device or merge_config says comes before what files say. Of a true `use_npu` there, a file's `npu:3`
    still says which.

    Raises:
        ConfigError: several of PaddleDetection's settings are true.
    """
    above = [key for key in SETTINGS if cfg.layer(key) > cfg.files]
    key, value = decided(cfg, above) or decided(cfg, SETTINGS)
    if key != "device" and "device" not in above and value != CPU:
        in_file = str(cfg["device"]).strip().lower().partition(":")[0]
        kind = key.partition("_")[2]
        if OTHER_NAMES.get(in_file, in_file) == kind or (kind == "gpu" and not in_file[:1].isalpha()):
            return "device", cfg["device"]
    return key, value


def decided(cfg: Config, keys: Sequence[str]) -> tuple[str, str | int | list] | None:
    """As `asked`, by these settings alone: `device` unless it is auto, else what PaddleDetection's say.

    None where they leave the device to others.
    """
    used = [f"use_{kind}" for kind in USE if f"use_{kind}" in keys and cfg[f"use_{kind}"]]
    if "device" in keys and str(cfg["device"]).strip().lower() != AUTO:
        warn_of_others(cfg, keys, used)
        return "device", cfg["device"]
    if len(used) > 1:
        raise config_error(cfg.origin(used[1]), used[1], f"{used[0]} is true as well: leave one of them, or set device")
    if used:
        return used[0], used[0].partition("_")[2]
    if "use_gpu" in keys and not cfg["use_gpu"]:
        return "use_gpu", CPU
    given = [key for key in ("device", "use_gpu") if key in keys]
    return (given[0], AUTO) if given else None


def warn_of_others(cfg: Config, keys: Sequence[str], used: Sequence[str]) -> None:
    """Tell of PaddleDetection's settings among `keys` that say something else than `device`, if it is one at all.

    A true use_gpu is the default. `used`: those of the others that are true.
    """
    check_device(cfg)
    kind = parse(cfg["device"]).kind
    others = [f"{key}: true" for key in used if key != f"use_{kind}"]
    others += ["use_gpu: false"] if kind == "gpu" and "use_gpu" in keys and not cfg["use_gpu"] else []
    if others:
        logger.warning("device: %s counts, not %s", cfg["device"], ", ".join(others))


def choose(value: str | int | list = AUTO, *, announce: bool = True) -> str:
    """Make a device the current one of this process, and log which if `announce`.

    Under paddle.distributed.launch a type of device is the one of that type that this process was given.

    Args:
        value: auto (a GPU if there is one, else an XPU, else a device that Paddle has a plugin for, else the CPU);
            the name of a type, such as cpu, gpu, xpu or npu, or one device of a type, such as gpu:1.

    Returns:
        What paddle.set_device was given.

    Raises:
        ConfigError: this device cannot be had.
    """
    import paddle

    wanted = parse(value)
    kind = best() if wanted.kind == AUTO else own_name(wanted.kind)
    if kind == CPU and wanted.index is not None:
        raise ConfigError(f"{value!r} names a card, and there is none; device=cpu computes on the CPU")
    name = kind if kind == CPU else f"{kind}:{index_of(wanted, kind)}"
    paddle.set_device(name)
    if announce:
        logger.info("device: %s", name)
    return name


def parse(value: str | int | list) -> Wanted:
    """Understand a value of `device`, other tools' ways of writing it among them.

    Raises:
        ConfigError: it is none, or names several devices.
    """
    text = (",".join(map(str, value)) if isinstance(value, list) else str(value)).strip().lower()
    is_index = re.fullmatch(r"[0-9]+(\s*,\s*[0-9]+)*", text)
    kind, colon, index = (AUTO, ":", text) if is_index else text.partition(":")
    if "," in index:
        raise ConfigError(
            f"expected one device, got {value!r}: each process has one; for several, start several processes: "
            f"python -m paddle.distributed.launch --devices {index.replace(' ', '')} tools/train.py ..."
        )
    is_number = re.fullmatch("[0-9]{1,6}", index) and (is_index or kind not in (CPU, AUTO))
    if not re.fullmatch(r"[a-z]\w*", kind) or (colon and not is_number):
        raise ConfigError(f"expected auto, cpu, a type of device, or one of that type, such as gpu:0, got {value!r}")
    return Wanted(OTHER_NAMES.get(kind, kind), int(index) if colon else None)


def best() -> str:
    """The type of device that auto means here."""
    kinds = device.kinds()[1:]
    if launched() and os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo":
        there = [kind for kind in kinds if device.count(kind)]
        if there:
            logger.warning("running on the CPU, although there is %s: %s", " and ".join(map(shown, there)), gloo(there))
        return CPU
    kinds = [kind for kind in kinds if launched() and given_index(kind) is not None] or kinds
    found = next((kind for kind in kinds if device.count(kind)), None)
    if kinds and not found:
        logger.warning(
            "this Paddle is built for %s, but none is visible: running on the CPU", " and ".join(map(shown, kinds))
        )
    return found or CPU


def own_name(kind: str) -> str:
    """The type as this Paddle writes it, where it has such a device.

    Raises:
        ConfigError: it has none.
    """
    import paddle

    own = next((own for own in device.kinds() if own.lower() == kind), None)
    if own is None:
        known = {AUTO, *device.kinds(), *BUILDS, *PLUGINS}
        advice = nearest(kind, known)
        if kind in known:
            advice = f": install {BUILDS.get(kind) or f'the plugin of PaddleCustomDevice for {kind}'} (docs/GPU.md)"
        has = ", ".join(device.kinds())
        raise ConfigError(f"this Paddle ({paddle.__version__}) has no device of type {kind}, it has {has}{advice}")
    if not device.count(own):
        why = WHY_NONE.get(own, "is its driver there, and are its cards visible?")
        raise ConfigError(f"no {shown(own)} is visible: {why} Otherwise device=cpu computes on the CPU")
    if launched() and own != CPU:
        require_given(own)
    return own


def require_given(kind: str) -> None:
    """Raise ConfigError unless the launcher gave each of several processes a device of this type."""
    if os.environ.get("PADDLE_DISTRI_BACKEND") == "gloo":
        raise ConfigError(f"no {shown(kind)} was given to this process: {gloo([kind])}")
    if given_index(kind) is None:
        raise ConfigError(f"paddle.distributed.launch gave this process no {shown(kind)}: leave device out")


def gloo(kinds: list[str]) -> str:
    """Why processes are on CPUs that could be on devices of these types."""
    plugins = [kind for kind in kinds if kind not in BUILDS]
    why = "PADDLE_DISTRI_BACKEND=gloo, by the launcher or the user, is for processes on CPUs"
    if plugins:
        why += f"; the launcher of Paddle 2.6 gives out {plugins[0]} where PADDLE_XCCL_BACKEND={plugins[0]}"
    return why


def index_of(wanted: Wanted, kind: str) -> int:
    """Which device of a type this process takes.

    Raises:
        ConfigError: there is none with the index that is wanted, or the launcher decides.
    """
    count, given = device.count(kind), given_index(kind)
    has = f"{kind}:0" if count == 1 else f"{kind}:0 to {kind}:{count - 1}"
    if wanted.index is None:
        if given is not None and given >= count:
            raise ConfigError(
                f"FLAGS_selected_{kind}s, which paddle.distributed.launch sets, gives this process {kind}:{given}, and "
                f"there is only {has} here: all processes have to see the same cards, of which --devices of the "
                "launcher chooses; without the launcher, unset that variable"
            )
        return given or 0
    if launched():
        raise ConfigError(
            f"{kind}:{wanted.index} is one device, and paddle.distributed.launch gives each process its own: "
            f"leave the index out; --devices of the launcher chooses"
        )
    if wanted.index >= count:
        raise ConfigError(f"there is no {kind}:{wanted.index} here, only {has}")
    if given is not None and wanted.index not in given_indices(kind):
        raise ConfigError(
            f"Paddle was told to use no {kind}:{wanted.index}, but {kind}:{given}: unset FLAGS_selected_{kind}s, or "
            "leave the index out"
        )
    return wanted.index


def launched() -> bool:
    """Whether this is one of several processes.

    Raises:
        ConfigError: the launcher's variable is no number.
    """
    count = os.environ.get("PADDLE_TRAINERS_NUM", "1").strip()
    if not re.fullmatch("[0-9]{1,6}", count):
        raise ConfigError(
            f"PADDLE_TRAINERS_NUM is {count!r}; paddle.distributed.launch sets it to the number of processes: unset it"
        )
    return int(count) > 1


def given_indices(kind: str) -> list[int]:
    """The indices, among the devices that are visible, to which Paddle is confined in this process.

    The launcher sets that for each process, also for a single one. Whoever sets it, Paddle obeys: it cannot compute on
    any other device of the type.
    """
    words = os.environ.get(f"FLAGS_selected_{kind}s", "").split(",")
    return [int(word) for word in map(str.strip, words) if re.fullmatch("[0-9]{1,6}", word)]


def given_index(kind: str) -> int | None:
    """The first of `given_indices`, which is the device of this process; None where there are none."""
    return next(iter(given_indices(kind)), None)


def shown(kind: str) -> str:
    return kind.upper() if kind in ("gpu", "xpu") else kind


def communicate_by_device() -> None:
    """Tell Paddle by which library processes on the current device talk, before it starts that.

    Paddle takes the place of a process from the library: a GPU for every one that its build has a GPU's for, unless
    told otherwise, whatever the place was before.
    """
    kind = device.kind()
    if kind == CPU:
        os.environ["PADDLE_DISTRI_BACKEND"] = BACKENDS[CPU]
        return
    os.environ.setdefault("PADDLE_DISTRI_BACKEND", BACKENDS.get(kind, "xccl"))
    if kind not in BACKENDS:
        os.environ.setdefault("PADDLE_XCCL_BACKEND", kind)
