"""TensorRT under Paddle Inference: Paddle 3 converts a graph's file beforehand, in conversion.py; Paddle 2.6 compiles
when it loads one.

What was compiled is kept in the folder of the export, in one folder for each model, GPU, precision, range of sizes and
version. None of this was run on a GPU yet.
"""

import atexit
import contextlib
import gc
import hashlib
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.operator_names import NOT_FOR_TENSORRT
from ppdet.deploy.backends.tensorrt_conversion import LEAST_OPERATORS, WORKSPACE, convert
from ppdet.deploy.backends.warm_up import warm_up
from ppdet.utils import device
from ppdet.utils.disk.lock import one_process
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from paddle import inference

logger = get_logger(__name__)
FOLDER, DONE, SHAPES = "tensorrt", "complete", "shapes.pbtxt"
MakeConfig = Callable[[Path], "inference.Config"]


def refusal(options: Options) -> str | None:
    """Why TensorRT cannot compile with these options here, None where it can."""
    from paddle import inference

    if options.precision not in ("fp32", "fp16"):
        return f"TensorRT has no {options.precision} here; fp32 and fp16 it has"
    if not converts() and inference.get_trt_compile_version() == (0, 0, 0):
        return "this Paddle was built without TensorRT: leave TensorRT out, or install a build that has it"
    if converts() and importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed: pip install tensorrt, of the version that paddle.version.tensorrt() names"
    try:
        inference.get_trt_runtime_version()
    except RuntimeError:
        version = ".".join(map(str, inference.get_trt_compile_version()))
        return f"TensorRT's library is not found: install TensorRT {version} and name its folder in LD_LIBRARY_PATH"
    return None


def converts() -> bool:
    """Whether this Paddle converts files for TensorRT, as Paddle 3 does where it was built with it."""
    return importlib.util.find_spec("paddle.tensorrt") is not None


@contextlib.contextmanager
def compiled(graph: Path, options: Options, make_config: MakeConfig) -> Iterator["inference.Config"]:
    """The settings with which a predictor runs the graph by TensorRT; it is to be created within the block.

    Args:
        graph: in an export's folder. make_config: the settings for a graph without TensorRT.

    Raises:
        DeployError: infer_cfg.yml does not say what sizes may come, or TensorRT cannot compile the graph.
    """
    arrays = warm_up(graph.parent, options.max_batch)
    with kept(graph.parent, key(graph, options, arrays)) as folder:
        yield (converted if converts() else built)(graph, options, make_config, arrays, folder)


def key(graph: Path, options: Options, arrays: list[dict[str, np.ndarray]]) -> str:
    """The name of a folder for what TensorRT makes of a graph: other versions, GPUs, sizes and models have others."""
    import paddle
    from paddle import inference

    digest = hashlib.blake2b(digest_size=6)
    for path in (graph, graph.with_name("model.pdiparams")):
        digest.update(path.read_bytes())
    shapes = ["x".join(map(str, arrays[place]["image"].shape)) for place in (0, 1, 3)]
    versions = [paddle.__version__, ".".join(map(str, inference.get_trt_runtime_version()))]
    parts = [device.gpu_description(options.index), *versions, options.precision, *shapes, digest.hexdigest()]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))


@contextlib.contextmanager
def kept(export: Path, name: str) -> Iterator[Path]:
    """A folder for what is compiled, which others see when the block has ended well, and one process at a time fills.

    Where the export's folder cannot be written, one that is gone when this process ends.
    """
    folder = export / FOLDER / name
    if (folder / DONE).is_file():
        yield folder
        return
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(exist_ok=True)
            stack.enter_context(one_process(folder, "compiles"))
            if not (folder / DONE).is_file():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that did not end well
                folder.mkdir()
        except OSError as error:
            folder = Path(tempfile.mkdtemp(prefix="ppdet-tensorrt-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            logger.warning("TensorRT compiles at every start: %s cannot be written (%s)", export, error.strerror)
        if not (folder / DONE).is_file():
            logger.info("TensorRT compiles, which takes minutes: %s", folder)
        yield folder
        (folder / DONE).touch()


def converted(
    graph: Path, options: Options, make_config: MakeConfig, arrays: list[dict[str, np.ndarray]], folder: Path
) -> "inference.Config":
    """By Paddle 3: the settings of a graph whose network is a TensorRT engine, in the folder.

    Raises:
        DeployError: TensorRT cannot compile it.
    """
    import paddle

    target = folder / "model"
    if not (folder / DONE).is_file():
        convert(graph, input_names(graph), options, target)
    # The graph names its engines with the folder that they were made in; if that was moved, they are looked for here.
    paddle.set_flags({"FLAGS_trt_engine_serialized_path": str(target)})
    return make_config(target.with_suffix(".json"))


def built(
    graph: Path, options: Options, make_config: MakeConfig, arrays: list[dict[str, np.ndarray]], folder: Path
) -> "inference.Config":
    """By Paddle 2.6: settings with which a predictor compiles when it is created, or finds its engine in the folder."""
    from paddle.inference import PrecisionType

    shapes = folder / SHAPES
    if not shapes.is_file():
        collect_shapes(graph, arrays, shapes)
    config = make_config(graph)
    config.enable_tensorrt_engine(
        workspace_size=WORKSPACE,
        max_batch_size=options.max_batch,
        min_subgraph_size=LEAST_OPERATORS,
        precision_mode=PrecisionType.Half if options.precision == "fp16" else PrecisionType.Float32,
        use_static=True,
        use_calib_mode=False,
    )
    config.enable_tuned_tensorrt_dynamic_shape(str(shapes), True)
    config.exp_disable_tensorrt_ops(sorted(NOT_FOR_TENSORRT))
    config.set_optim_cache_dir(str(folder))
    return config


def collect_shapes(graph: Path, arrays: list[dict[str, np.ndarray]], path: Path) -> None:
    """Write the range of the shape of every tensor in the graph, which Paddle 2.6 has to know of an engine's inputs.

    On the CPU: shapes are the same, and a GPU's memory is left alone.
    """
    from paddle import inference

    config = cpu_config(graph)
    config.collect_shape_range_info(str(path))
    predictor = inference.create_predictor(config)
    for sample in arrays:
        for name in predictor.get_input_names():
            predictor.get_input_handle(name).copy_from_cpu(sample[name])
        predictor.run()
    # It writes the file when it goes.
    del predictor
    gc.collect()


def input_names(graph: Path) -> list[str]:
    """Names of the graph's inputs, in its order."""
    from paddle import inference

    return inference.create_predictor(cpu_config(graph)).get_input_names()


def cpu_config(graph: Path) -> "inference.Config":
    from paddle import inference

    config = inference.Config(str(graph), str(graph.with_name("model.pdiparams")))
    config.disable_glog_info()
    config.disable_gpu()
    return config
