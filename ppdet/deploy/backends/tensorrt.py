"""TensorRT under Paddle Inference.

Paddle 3 converts the graph file before it is loaded (tensorrt_conversion.py); Paddle 2.6 compiles while it loads the
graph. Compiled engines are cached in the export's folder, in one subfolder per model, GPU, precision, range of sizes
and version. This was not run on a GPU yet.
"""

import atexit
import contextlib
import gc
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.deploy.backends.base import Options, is_installed
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


def why_unavailable(options: Options) -> str | None:
    """Why TensorRT cannot compile with these options on this machine; None if it can."""
    from paddle import inference

    if options.precision not in ("fp32", "fp16"):
        return f"no {options.precision} with TensorRT: it has fp32, fp16"
    if not converts() and inference.get_trt_compile_version() == (0, 0, 0):
        return "this Paddle was built without TensorRT: leave TensorRT out, or install a build that has it"
    if converts() and not is_installed("tensorrt"):
        return "TensorRT is not installed: pip install tensorrt, of the version that paddle.version.tensorrt() names"
    try:
        inference.get_trt_runtime_version()
    except RuntimeError:
        version = ".".join(map(str, inference.get_trt_compile_version()))
        return f"TensorRT's library is not found: install TensorRT {version} and name its folder in LD_LIBRARY_PATH"
    return None


def converts() -> bool:
    """Whether this Paddle converts graph files for TensorRT: a Paddle 3 that was built with TensorRT."""
    return is_installed("paddle.tensorrt")


@contextlib.contextmanager
def compiled(graph: Path, options: Options, make_config: MakeConfig) -> Iterator["inference.Config"]:
    """Settings for a predictor that runs the graph with TensorRT. Create the predictor within the block.

    Args:
        graph: the graph file in an export's folder.
        make_config: returns the settings to run a graph file without TensorRT.

    Raises:
        DeployError: infer_cfg.yml does not say which image sizes may come, or TensorRT cannot compile the graph.
    """
    arrays = warm_up(graph.parent, options.max_batch)
    with cache_folder(graph.parent, cache_name(graph, options, arrays)) as folder:
        if converts():
            yield config_of_paddle_3(graph, options, make_config, folder)
        else:
            yield config_of_paddle_2(graph, options, make_config, arrays, folder)


def cache_name(graph: Path, options: Options, arrays: list[dict[str, np.ndarray]]) -> str:
    """Name of the folder for a compiled graph; it differs between models, sizes, precisions, GPUs and versions."""
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
def cache_folder(export: Path, name: str) -> Iterator[Path]:
    """A folder for a compiled graph. It is complete (file DONE) when the block has ended without an exception.

    Only one process at a time fills it. If the export's folder cannot be written, the folder is a temporary one, which
    is removed when this process ends.
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
                shutil.rmtree(folder, ignore_errors=True)  # left by a process that failed
                folder.mkdir()
        except OSError as error:
            folder = Path(tempfile.mkdtemp(prefix="ppdet-tensorrt-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            logger.warning("TensorRT compiles at every start: %s cannot be written (%s)", export, error.strerror)
        if not (folder / DONE).is_file():
            logger.info("TensorRT compiles, which takes minutes: %s", folder)
        yield folder
        (folder / DONE).touch()


def config_of_paddle_3(graph: Path, options: Options, make_config: MakeConfig, folder: Path) -> "inference.Config":
    """Convert the graph in the folder, if that is not done yet; settings to run the converted graph.

    Raises:
        DeployError: TensorRT cannot compile it.
    """
    import paddle

    target = folder / "model"
    if not (folder / DONE).is_file():
        convert(graph, input_names(graph), options, target)
    # The graph has the paths at which its engines were written. If the export was moved, Paddle looks here instead.
    paddle.set_flags({"FLAGS_trt_engine_serialized_path": str(target)})
    return make_config(target.with_suffix(".json"))


def config_of_paddle_2(
    graph: Path, options: Options, make_config: MakeConfig, arrays: list[dict[str, np.ndarray]], folder: Path
) -> "inference.Config":
    """Settings with which a predictor compiles the graph when it is created, or finds the engine in the folder."""
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
    """Write the range of shapes of every tensor in the graph, which Paddle 2.6 needs for the inputs of its engines.

    The graph runs on the CPU for this, which gives the same shapes and needs no GPU memory.
    """
    from paddle import inference

    config = cpu_config(graph)
    config.collect_shape_range_info(str(path))
    predictor = inference.create_predictor(config)
    for sample in arrays:
        for name in predictor.get_input_names():
            predictor.get_input_handle(name).copy_from_cpu(sample[name])
        predictor.run()
    # The predictor writes the file when it is destroyed.
    del predictor
    gc.collect()


def input_names(graph: Path) -> list[str]:
    """Names of the graph's inputs, in the graph's order."""
    from paddle import inference

    return inference.create_predictor(cpu_config(graph)).get_input_names()


def cpu_config(graph: Path) -> "inference.Config":
    from paddle import inference

    config = inference.Config(str(graph), str(graph.with_name("model.pdiparams")))
    config.disable_glog_info()
    config.disable_gpu()
    return config
