"""What the kit knows about the device before the first check, and what a check may need of a device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Facts about the device, as `find_facts` finds them in a process of its own.

    Args:
        device: type of the device as paddle.set_device takes it, without a number: cpu, gpu, xpu, …
        cards: number of visible devices of this type.
        capability: compute capability of an NVIDIA GPU, such as (8, 0); None for other devices.
        amp: types in which the device supports mixed precision, such as ("float16", "bfloat16").
        paddle: version of Paddle.
        packages: versions of other relevant packages, by name.
    """

    device: str
    cards: int = 1
    capability: tuple[int, int] | None = None
    amp: tuple[str, ...] = ()
    paddle: str = ""
    packages: dict[str, str] | None = None

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Facts":
        capability = content["capability"]
        return cls(**{**content, "capability": capability and tuple(capability), "amp": tuple(content["amp"])})


@dataclass(frozen=True)
class Need:
    """A requirement of a check. The check is skipped on devices that do not meet it.

    Args:
        text: the requirement in words, for the list of checks.
        missing: returns why a device does not meet the requirement, or None if it does.
    """

    text: str
    missing: Callable[[Facts], str | None]


GPU = Need("an NVIDIA GPU", lambda facts: None if facts.device == "gpu" else f"needs a GPU, this is {facts.device}")
DEVICE = Need("a device other than the CPU", lambda facts: None if facts.device != "cpu" else "needs a device")
MIXED = Need("mixed precision", lambda facts: None if facts.amp else f"this {facts.device} has no mixed precision")
LEVEL_2 = Need("amp_level O2", lambda facts: "O2 is for devices; CPUs only have O1" if facts.device == "cpu" else None)


def cards(count: int) -> Need:
    """Return the need for `count` visible devices; a CPU does not meet it."""

    def missing(facts: Facts) -> str | None:
        if facts.device == "cpu":
            return f"needs {count} devices, this is the CPU"
        return None if facts.cards >= count else f"needs {count} cards, {facts.cards} visible"

    return Need(f"{count} cards", missing)


def amp(dtype: str, level: str = "O1") -> Need:
    """Return the need for mixed precision in "float16" or "bfloat16", at level "O1" or "O2"."""

    def missing(facts: Facts) -> str | None:
        if level != "O1" and (reason := LEVEL_2.missing(facts)):
            return reason
        if dtype in facts.amp:
            return None
        version = f" of capability {facts.capability[0]}.{facts.capability[1]}" if facts.capability else ""
        supported = f"it supports {', '.join(facts.amp)}" if facts.amp else "it supports none"
        return f"no mixed precision in {dtype} on this {facts.device}{version}: {supported}"

    return Need(f"{dtype} {level}", missing)
