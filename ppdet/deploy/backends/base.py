"""The contract of an engine that runs exported graphs, and the options that all engines share."""

import importlib.util
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ppdet.deploy.precisions import PRECISIONS
from ppdet.utils.errors import DeployError
from ppdet.utils.process.cpu import cpu_count

DEVICE = re.compile(r"cpu|(?!cpu)[a-z][a-z0-9_]*(:[0-9]+)?")
OUTPUTS = ["bbox", "bbox_num"]  # names of an exported graph's outputs: rows of all images, and rows per image


@dataclass(frozen=True)
class Options:
    """Options for running a graph in an engine.

    Args:
        device: cpu, gpu, or another type of device by its name in Paddle, such as xpu; gpu:1 is the second GPU.
        precision: fp32, bf16, fp16 or int8.
        threads: processors that the engine may use; None for all that this process may use.
        tensorrt: let TensorRT compile the graph, on a GPU.
        onednn: let Paddle Inference compute with oneDNN, on a CPU.
        max_batch: largest number of images in a batch; TensorRT reserves memory for it.

    Raises:
        DeployError: a value is not one of these, or two contradict each other.
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
        if self.precision not in PRECISIONS:
            raise DeployError(f"precision is {self.precision!r}; it must be {', '.join(PRECISIONS)}")
        if self.tensorrt and self.kind != "gpu":
            raise DeployError("TensorRT needs device gpu")
        for name, value in (("threads", self.threads), ("max_batch", self.max_batch)):
            if value is not None and value < 1:
                raise DeployError(f"{name} is {value}; it must be at least 1")

    @property
    def kind(self) -> str:
        """The type of the device: cpu, gpu, xpu, npu, ..."""
        return self.device.partition(":")[0]

    @property
    def index(self) -> int:
        """The index of the device among the devices of its type, from 0."""
        return int(self.device.partition(":")[2] or 0)

    @property
    def cpu_threads(self) -> int:
        return self.threads or cpu_count()


class Backend(ABC):
    """An exported graph, loaded in one engine.

    Calls from several threads wait for each other, because an engine uses all its threads for one call. An engine of
    your own becomes a choice of `Detector` by `ppdet.deploy.backends.BACKENDS["myengine"] = MyEngine`.

    Class attributes:
        name: the engine's name, as for `Detector` and --backend.
        package: the Python package that the engine is imported from.
        distribution: what to install with pip for it.
        format: what `ppdet export --format` calls the engine's file.
        precisions: the precisions that the engine has, by type of device; "other" means all types that are not
            listed.

    Attributes:
        folder: the exported model.
        options: how the graph is run.
        inputs: names of the graph's inputs, some of the arrays that `Preprocess.join` makes.

    Raises:
        DeployError: the engine cannot load the graph.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    distribution: ClassVar[str]
    format: ClassVar[str]
    precisions: ClassVar[Mapping[str, Sequence[str]]]
    inputs: list[str]

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self._lock = threading.Lock()

    @classmethod
    @abstractmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        """The graph file in the folder that this engine loads for this precision; None if it does not exist."""

    @classmethod
    def why_unavailable(cls, options: Options) -> str | None:
        """Why this engine cannot run with these options on this machine; None if it can.

        It is asked only if the engine is installed. The message follows "backend NAME: ".
        """
        return cls.why_unsupported(options)

    @classmethod
    def why_unsupported(cls, options: Options) -> str | None:
        """Why this engine can run with these options on no machine, by `precisions`; None if it may."""
        precisions = cls.precisions.get(options.kind, cls.precisions.get("other"))
        if precisions is None:
            return f"no device of type {options.kind}: it has {', '.join(cls.precisions)}"
        if options.precision not in precisions:
            return f"no {options.precision} on {options.kind}: it has {', '.join(precisions)}"
        return None

    @abstractmethod
    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph on a batch.

        Args:
            arrays: an array for each name in `inputs`.

        Returns:
            The outputs of the graph, first rows (M, 6) of [class, score, x1, y1, x2, y2] of all images, and the number
            of rows of each image (N,).
        """

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph on the arrays of `Preprocess.join`, of which it uses the ones in `inputs`.

        Raises:
            DeployError: the engine failed.
        """
        unknown = [name for name in self.inputs if name not in arrays]
        if unknown:
            raise DeployError(
                f"{self.folder}: its graph needs an input {unknown[0]!r:.100}; a detector's inputs are "
                f"{', '.join(arrays)}"
            )
        batch = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        with self._lock:
            try:
                return self.run(batch)
            except Exception as error:  # engines have classes of their own
                sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
                raise DeployError(f"{self.name} cannot run {self.folder} on {sizes}: {last_line(error)}") from error


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def last_line(error: BaseException) -> str:
    """The last line of an error's message, in which engines say what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
