"""What the engines that run exported graphs have in common."""

import importlib.util
import re
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppdet.utils.errors import DeployError
from ppdet.utils.process.cpu import cpu_count

DEVICE = re.compile(r"cpu|(?!cpu)[a-z][a-z0-9_]*(:[0-9]+)?")


@dataclass(frozen=True)
class Options:
    """How to run a graph.

    device: cpu, gpu, xpu or another type of device by its name in Paddle, and which of them: gpu:1. precision: fp32,
    bf16 or fp16. threads: of the CPU, None for all that this process may use. tensorrt: on a GPU, let TensorRT
    compile the graph. onednn: Paddle Inference computes with oneDNN on a CPU. max_batch: the most images in one batch,
    which TensorRT has to know.
    """

    device: str = "cpu"
    precision: str = "fp32"
    threads: int | None = None
    tensorrt: bool = False
    onednn: bool = True
    max_batch: int = 1

    def __post_init__(self) -> None:
        if not DEVICE.fullmatch(self.device) or self.kind == "auto":
            raise DeployError(f"device is {self.device!r}; it must be cpu, gpu, xpu, ... or, for one of several, gpu:1")
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise DeployError(f"precision is {self.precision!r}; it must be fp32, bf16 or fp16")
        if self.tensorrt and self.kind != "gpu":
            raise DeployError("TensorRT needs device gpu")
        if self.threads is not None and self.threads < 1:
            raise DeployError(f"threads is {self.threads}; it must be at least 1")
        if self.max_batch < 1:
            raise DeployError(f"max_batch is {self.max_batch}; it must be at least 1")

    @property
    def kind(self) -> str:
        """The type of the device: cpu, gpu, xpu, npu, ..."""
        return self.device.partition(":")[0]

    @property
    def index(self) -> int:
        """Which of the devices of that type."""
        return int(self.device.partition(":")[2] or 0)

    @property
    def cpu_threads(self) -> int:
        return self.threads or cpu_count()


class Backend(ABC):
    """An exported graph in one engine. Calls from several threads wait for each other: an engine uses all its threads
    for each of them.

    Attributes:
        name: of the engine. package: that it is imported from. distribution: what to install for it.
        format: of its file, as tools/export_model.py calls it.
        inputs: names of the arrays that the graph takes.
    """

    name: str
    package: str
    distribution: str
    format: str
    inputs: list[str]

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self._lock = threading.Lock()

    @classmethod
    def is_installed(cls) -> bool:
        return importlib.util.find_spec(cls.package) is not None

    @classmethod
    @abstractmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        """The file of the folder that this engine loads for this precision, None where there is none."""

    @classmethod
    @abstractmethod
    def refusal(cls, options: Options) -> str | None:
        """Why this engine cannot run with these options, None where it can."""

    @abstractmethod
    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of the graph for the arrays that `inputs` names."""

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph on the arrays that `Preprocess.join` makes; it takes those that it has inputs for.

        Raises:
            DeployError: the engine failed.
        """
        taken = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        with self._lock:
            try:
                return self.run(taken)
            except Exception as error:  # of classes that engines keep to themselves
                sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in taken.items())
                raise DeployError(f"{self.name} cannot run {self.folder} on {sizes}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The one line of an engine's error that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
