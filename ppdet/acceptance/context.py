"""What a check is given: the device, a folder to work in, and what several checks have in common."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from ppdet.acceptance.facts import Facts
from ppdet.utils.disk.files import write_json

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]  # the folder that ppdet is imported from


@dataclass(frozen=True)
class Context:
    """What a check is given.

    Args:
        facts: of the device.
        quick: fewer steps and smaller inputs, so that a CPU is through in minutes.
        work: a folder that all checks of this run share; `folder` gives a check's own in it.
        deadline: when the whole run ends, as time.time() counts.
        events: a file of the process that runs the check, which takes what `progress` says; None for nowhere.
        seed: of what is drawn.
    """

    facts: Facts
    quick: bool
    work: Path
    deadline: float = float("inf")
    events: "Path | None" = None
    seed: int = 0
    made: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def device(self) -> str:
        """As paddle.set_device takes it."""
        return self.facts.device

    def pick(self, full: T, quick: T) -> T:
        """`quick` where the kit is to be quick, else `full`."""
        return quick if self.quick else full

    def folder(self, name: str) -> Path:
        """An empty folder of this name to work in; what an earlier call left there goes."""
        import shutil

        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def shared(self, name: str, make: Callable[[Path], None]) -> Path:
        """A folder that several checks, also of other processes, use: `make` fills it the first time."""
        path, done = self.work / name, self.work / f"{name}.json"
        if not done.exists():
            make(self.folder(name))
            write_json(done, {"made": True})
        return path

    def is_made(self, name: str) -> bool:
        """Whether `shared` or `shared_numbers` has made what has this name."""
        return (self.work / f"{name}.json").exists()

    def shared_numbers(self, name: str, make: Callable[[], object]) -> object:
        """Something that JSON can hold, which several checks use; made the first time."""
        path = self.work / f"{name}.json"
        if not path.exists():
            write_json(path, make())
        return json.loads(path.read_text(encoding="utf-8"))

    @contextlib.contextmanager
    def on(self, device: str) -> Iterator[None]:
        """Compute on this device within the block: the kit's own, or "cpu"."""
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
        """Compute on the CPU by Paddle's own operators within the block: what all devices are compared with.

        Also on a CPU, where the layers otherwise compute by oneDNN: so there is something to compare there, too.
        """
        from ppdet.modeling import cpu

        cpu.set_enabled(False)
        try:
            with self.on("cpu"):
                yield
        finally:
            cpu.set_enabled(True)

    def progress(self, text: str) -> None:
        """Say how far the check is, for the line that a terminal shows meanwhile."""
        if self.events is not None:
            with open(self.events, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"progress": text}) + "\n")

    def seconds_left(self) -> float:
        """Of the whole run."""
        return self.deadline - time.time()

    def to_json(self) -> dict:
        """All but `events`, for another process."""
        facts = asdict(self.facts)
        return {
            "facts": facts,
            "quick": self.quick,
            "work": str(self.work),
            "deadline": self.deadline,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, content: dict, events: Path) -> "Context":
        facts, work = Facts.from_json(content["facts"]), Path(content["work"])
        return cls(**{**content, "facts": facts, "work": work}, events=events)
