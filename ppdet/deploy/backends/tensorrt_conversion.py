"""Paddle 3's conversion of a graph for TensorRT, in a process that ends.

`paddle.tensorrt.convert` loads the weights into the process's global scope, on its first GPU, where they would stay
beside those of the predictor, and be found by the conversion of another model with layers of the same names. None of
this was run on a GPU yet.
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

from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.operator_names import NOT_FOR_TENSORRT
from ppdet.deploy.backends.warm_up import warm_up
from ppdet.utils.errors import DeployError, paddle_summary

# Fewer than these that hang together are left to Paddle: the network is far more, and there is always less of decoding,
# where TensorRT's float16 would move boxes.
LEAST_OPERATORS = 24
WORKSPACE = 1 << 30  # bytes that TensorRT may use beside a layer's input and output
# A process that imports this package, and nothing of the folder where the command runs.
START = "import sys; sys.path[0] = {root!r}; from ppdet.deploy.backends.tensorrt_conversion import main; main()"


def convert(graph: Path, inputs: Sequence[str], options: Options, target: Path) -> None:
    """Write the graph whose network is a TensorRT engine, target (.json) and what belongs to it.

    Args:
        graph: in an export's folder. inputs: names of its inputs, in its order.

    Raises:
        DeployError: the process ended without it.
    """
    work = {"graph": str(graph), "inputs": list(inputs), "options": asdict(options), "target": str(target)}
    root = str(Path(__file__).resolve().parents[3])
    # A new interpreter: what a fork inherits of CUDA does not work. Its input ends when this process does.
    with subprocess.Popen(
        [sys.executable, "-c", START.format(root=root), json.dumps(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(options.index),
        text=True,
        errors="replace",
    ) as process:
        try:
            output = process.stdout.read()
            code = process.wait()
        except BaseException:  # the user's interrupt, of which the process may know nothing
            process.kill()
            raise
    if code or not target.with_suffix(".json").is_file():
        raise DeployError(
            f"{graph.parent}: TensorRT cannot compile it in {options.precision}: try without TensorRT, or export it "
            f"again (the conversion {last_words(output, code)})"
        )


def environment(index: int) -> dict[str, str]:
    """Variables of a process whose first and only GPU is the one that is number `index` in this process."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": visible[index] if index < len(visible) else str(index)}
    variables.pop("FLAGS_selected_gpus", None)  # a launcher's; it counts the GPUs of this process
    return variables


def last_words(output: str, code: int) -> str:
    """How a process ended, and the line of its output that says why."""
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    summary = paddle_summary(output)
    if summary is None:
        summary = next((line.strip() for line in reversed(output.splitlines()) if re.search(r"\w", line)), "")
    return f"{ended}: {summary}" if summary else ended


def main() -> None:
    """In the process: the conversion that the first argument describes."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    work = json.loads(sys.argv[1])
    graph, options = Path(work["graph"]), Options(**work["options"])
    from paddle.tensorrt import convert
    from paddle.tensorrt.export import Input, PrecisionMode, TensorRTConfig

    for name in ("converter", "export", "util"):
        logging.getLogger(f"paddle.tensorrt.{name}").setLevel(logging.WARNING)
    arrays = warm_up(graph.parent, options.max_batch)
    settings = TensorRTConfig(
        # In the order of the graph's inputs; Paddle warns of a type beside data.
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
    """End this process when the one that started it has ended, whose lock on the folder is then free."""
    sys.stdin.read()
    os._exit(1)
