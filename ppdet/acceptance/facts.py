"""What is known of the device before the first check runs: it decides which checks can be made."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What `find_facts` found out, in a process of its own.

    Args:
        device: as paddle.set_device takes it, without a number: cpu, gpu, xpu, …
        cards: of that kind that are visible.
        capability: CUDA's, (major, minor), or None.
        amp: types of mixed precision that the device computes in.
        paddle: its version. packages: versions of the other packages that matter, by name.
    """

    device: str
    cards: int = 1
    capability: tuple[int, int] | None = None
    amp: tuple[str, ...] = ()
    paddle: str = ""
    packages: dict | None = None

    @classmethod
    def from_json(cls, content: dict) -> "Facts":
        capability = content.get("capability")
        return cls(**{**content, "capability": capability and tuple(capability), "amp": tuple(content["amp"])})


@dataclass(frozen=True)
class Need:
    """Something that a check cannot be made without.

    text: what it is, for the list of checks. missing: says why these facts do not meet it, or None.
    """

    text: str
    missing: Callable[[Facts], str | None]


GPU = Need("an NVIDIA GPU", lambda facts: None if facts.device == "gpu" else f"needs a GPU, this is {facts.device}")
MIXED = Need("mixed precision", lambda facts: None if facts.amp else f"this {facts.device} has no mixed precision")
DEVICE = Need("a device other than the CPU", lambda facts: None if facts.device != "cpu" else "needs a device")


def cards(count: int) -> Need:
    """So many devices."""

    def missing(facts: Facts) -> str | None:
        if facts.device == "cpu":
            return f"needs {count} devices, this is the CPU"
        return None if facts.cards >= count else f"needs {count} cards, {facts.cards} visible"

    return Need(f"{count} cards", missing)


def amp(dtype: str, level: str = "O1") -> Need:
    """Mixed precision in this type and at this level."""

    def missing(facts: Facts) -> str | None:
        if facts.device == "cpu" and level != "O1":
            return f"{level} is for devices, on a CPU there is one level"
        if dtype in facts.amp:
            return None
        having = f"it has {', '.join(facts.amp)}" if facts.amp else "it has none"
        of = f" of capability {facts.capability[0]}.{facts.capability[1]}" if facts.capability else ""
        return f"no mixed precision in {dtype} on this {facts.device}{of}: {having}"

    return Need(f"{dtype} {level}", missing)


def package(name: str) -> Need:
    """A Python package that need not be installed, by the name it is imported by."""

    def missing(facts: Facts) -> str | None:
        return None if importlib.util.find_spec(name) else f"the package {name} is not installed"

    return Need(f"the package {name}", missing)
