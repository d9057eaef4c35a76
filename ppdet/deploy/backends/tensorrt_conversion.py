"""Paddle 3's conversion of a graph for TensorRT, in a separate process.

`paddle.tensorrt.convert` loads the weights into the global scope of its process, on the first GPU. There they would
stay beside the predictor's weights, and the conversion of another model with equal layer names would find them. This
was not run on a GPU yet.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppdet.core.extensions import import_extensions, imported
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.operator_names import NOT_FOR_TENSORRT
from ppdet.deploy.backends.warm_up import warm_up
from ppdet.utils.errors import DeployError
from ppdet.utils.process.child import ChildError, call_in_child

# TensorRT takes subgraphs of at least this many operators: the network has far more, and the parts of decoding, whose
# boxes TensorRT's float16 would move, always have fewer.
LEAST_OPERATORS = 24
WORKSPACE = 1 << 30  # bytes that TensorRT may use in addition to a layer's input and output


def convert(graph: Path, inputs: Sequence[str], options: Options, target: Path) -> None:
    """Convert a graph so that its network is a TensorRT engine; write TARGET.json and the files that belong to it.

    Args:
        graph: the graph file in an export's folder.
        inputs: names of its inputs, in the graph's order.

    Raises:
        DeployError: the conversion failed.
    """
    work = {"graph": str(graph), "inputs": list(inputs), "options": asdict(options), "target": str(target)}
    imports = imported()  # infer_cfg.yml may name transforms of the user's own
    try:
        call_in_child(convert_here, {**work, "imports": imports}, environment=environment(options.index))
    except ChildError as error:
        raise DeployError(
            f"{graph.parent}: TensorRT cannot compile it in {options.precision}: try without TensorRT, or export it "
            f"again (the conversion {error})"
        ) from None


def environment(index: int) -> dict[str, str]:
    """Environment variables of a process that sees only one GPU, the one with this index in this process."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) else str(index)}
    variables.pop("FLAGS_selected_gpus", None)  # set by a launcher; it is an index among the GPUs of this process
    return variables


def convert_here(
    graph: str, inputs: Sequence[str], options: Mapping[str, Any], target: str, imports: Sequence[str]
) -> None:
    """Convert in this process, which `convert` has started for it; the arguments are those of `convert`, as JSON."""
    from paddle.tensorrt import convert
    from paddle.tensorrt.export import Input, PrecisionMode, TensorRTConfig

    for name in ("converter", "export", "util"):
        logging.getLogger(f"paddle.tensorrt.{name}").setLevel(logging.WARNING)
    import_extensions(imports)
    chosen = Options(**options)
    arrays = warm_up(Path(graph).parent, chosen.max_batch)
    settings = TensorRTConfig(
        # In the order of the graph's inputs. Paddle warns if a data type is given in addition to data.
        inputs=[Input(warmup_data=tuple(sample[name] for sample in arrays), input_data_type=None) for name in inputs],
        min_subgraph_size=LEAST_OPERATORS,
        save_model_dir=target,
        disable_ops=[f"pd_op.{name}" for name in sorted(NOT_FOR_TENSORRT)],
        precision_mode=PrecisionMode.FP16 if chosen.precision == "fp16" else PrecisionMode.FP32,
        workspace_size=WORKSPACE,
    )
    convert(str(Path(graph).with_suffix("")), settings)
