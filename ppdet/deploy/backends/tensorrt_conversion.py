"""Paddle 3's conversion of a graph for TensorRT, in a separate process.

`paddle.tensorrt.convert` loads the weights into the global scope of its process, on the first GPU. There they would
stay beside the predictor's weights, and the conversion of another model with equal layer names would find them. This
was not run on a GPU yet.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ppdet.core.extensions import import_extensions, imported
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.operator_names import NOT_FOR_TENSORRT
from ppdet.deploy.backends.warm_up import warm_up
from ppdet.utils.errors import DeployError, paddle_summary

# TensorRT takes subgraphs of at least this many operators: the network has far more, and the parts of decoding, whose
# boxes TensorRT's float16 would move, always have fewer.
LEAST_OPERATORS = 24
WORKSPACE = 1 << 30  # bytes that TensorRT may use in addition to a layer's input and output
# The process imports this package, and nothing from the working directory.
START = "import sys; sys.path[0] = {root!r}; from ppdet.deploy.backends.tensorrt_conversion import main; main()"


def convert(graph: Path, inputs: Sequence[str], options: Options, target: Path) -> None:
    """Convert a graph so that its network is a TensorRT engine; write TARGET.json and the files that belong to it.

    Args:
        graph: the graph file in an export's folder.
        inputs: names of its inputs, in the graph's order.

    Raises:
        DeployError: the conversion failed.
    """
    work = {"graph": str(graph), "inputs": list(inputs), "options": asdict(options), "target": str(target)}
    work["imports"] = imported()  # infer_cfg.yml may name transforms of the user's own
    root = str(Path(__file__).resolve().parents[3])
    # Not a fork, in which CUDA does not work. The end of this process closes the other one's standard input.
    with subprocess.Popen(  # nosec B603  # this Python and our own text; paths are arguments of their own
        [sys.executable, "-c", START.format(root=root), json.dumps(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(options.index),
        text=True,
        errors="replace",
    ) as process:
        try:
            assert process.stdout is not None
            output = process.stdout.read()  # not communicate(), which closes the standard input
            process.wait()
        except BaseException:  # such as Ctrl-C, which the process may not get
            process.kill()
            raise
    if process.returncode or not target.with_suffix(".json").is_file():
        raise DeployError(
            f"{graph.parent}: TensorRT cannot compile it in {options.precision}: try without TensorRT, or export it "
            f"again (the conversion {last_words(output, process.returncode)})"
        )


def environment(index: int) -> dict[str, str]:
    """Environment variables of a process that sees only one GPU, the one with this index in this process."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) else str(index)}
    variables.pop("FLAGS_selected_gpus", None)  # set by a launcher; it is an index among the GPUs of this process
    return variables


def last_words(output: str, code: int) -> str:
    """How a process ended (`code` is its return code), and the line of its output that says why."""
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    summary = paddle_summary(output)
    if summary is None:
        summary = next((line.strip() for line in reversed(output.splitlines()) if re.search(r"\w", line)), "")
    return f"{ended}: {summary}" if summary else ended


def main() -> None:
    """Convert as the first argument of the process says; this runs in the process that `convert` starts."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    work = json.loads(sys.argv[1])
    graph, options = Path(work["graph"]), Options(**work["options"])
    from paddle.tensorrt import convert
    from paddle.tensorrt.export import Input, PrecisionMode, TensorRTConfig

    for name in ("converter", "export", "util"):
        logging.getLogger(f"paddle.tensorrt.{name}").setLevel(logging.WARNING)
    import_extensions(work["imports"])
    arrays = warm_up(graph.parent, options.max_batch)
    settings = TensorRTConfig(
        # In the order of the graph's inputs. Paddle warns if a data type is given in addition to data.
        inputs=[
            Input(warmup_data=tuple(sample[name] for sample in arrays), input_data_type=None) for name in work["inputs"]
        ],
        min_subgraph_size=LEAST_OPERATORS,
        save_model_dir=work["target"],
        disable_ops=[f"pd_op.{name}" for name in sorted(NOT_FOR_TENSORRT)],
        precision_mode=PrecisionMode.FP16 if options.precision == "fp16" else PrecisionMode.FP32,
        workspace_size=WORKSPACE,
    )
    convert(str(graph.with_suffix("")), settings)


def end_with_parent() -> None:
    """End this process when its parent has ended, whose lock on the cache folder is free then.

    The parent holds the other end of this process's standard input, and never writes to it.
    """
    os.read(0, 1)  # sys.stdin.read() would hold a lock, for which a process that is forked from this one waits forever
    os._exit(1)
