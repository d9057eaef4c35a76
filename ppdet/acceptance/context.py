"""The argument of every check: the device, a working folder, and objects that several checks share."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ppdet.acceptance.device_facts import Facts
from ppdet.utils.disk.files import read_text, write_json

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]  # the folder that ppdet is imported from


@dataclass(frozen=True)
class Context:
    """The argument of every check.

    Args:
        facts: facts about the device.
        quick: use fewer steps and smaller inputs, so that a CPU finishes in minutes.
        work: folder that all checks of the run share; `folder` makes a subfolder for one check.
        deadline: when the whole run ends, in seconds as time.time() counts them.
        seed: seed of all random numbers.
    """

    facts: Facts
    quick: bool
    work: Path
    deadline: float = float("inf")
    seed: int = 0

    @property
    def device(self) -> str:
        """The device as paddle.set_device takes it, such as "gpu"."""
        return self.facts.device

    def pick(self, full: T, quick: T) -> T:
        """Return `quick` in a quick run, otherwise `full`."""
        return quick if self.quick else full

    def folder(self, name: str) -> Path:
        """Make an empty folder `name` in the working folder; an earlier folder of this name is removed."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def shared_folder(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Return a folder that several checks use, also in other processes. The first call lets `fill` fill it."""
        if not self.is_made(name):
            fill(self.folder(name))
            write_json(self._record(name), {"made": True})
        return self.work / name

    def shared_value(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a JSON value that several checks use, also in other processes. The first call computes it."""
        if not self.is_made(name):
            write_json(self._record(name), compute())
        return json.loads(read_text(self._record(name)))

    def is_made(self, name: str) -> bool:
        """Whether the shared folder or value of this name exists already."""
        return self._record(name).exists()

    def _record(self, name: str) -> Path:
        return self.work / f"{name}.json"

    @contextlib.contextmanager
    def on(self, device: str) -> Iterator[None]:
        """Compute on `device` within the block, such as `context.device` or "cpu"."""
        import paddle

        from ppdet.utils import device as devices

        before = devices.name()
        paddle.set_device(device)
        try:
            yield
        finally:
            paddle.set_device(before)

    @contextlib.contextmanager
    def on_reference(self) -> Iterator[None]:
        """Compute on the CPU with Paddle's own operators within the block: the reference for all devices.

        If the device is the CPU, its layers compute with oneDNN, so there is something to compare as well.
        """
        from ppdet.modeling import cpu

        cpu.set_enabled(False)
        try:
            with self.on("cpu"):
                yield
        finally:
            cpu.set_enabled(True)

    def seconds_left(self) -> float:
        """Seconds until the deadline of the whole run."""
        return self.deadline - time.time()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "work": str(self.work)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Context":
        return cls(**{**content, "facts": Facts.from_json(content["facts"]), "work": Path(content["work"])})
