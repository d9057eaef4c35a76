"""Stands for `paddle.tensorrt` of Paddle 3's builds with TensorRT, in the process that converts.

It has the signatures of its source, and a conversion that writes the files which it writes there, with the graph as it
was. In the folder that FAKE_TENSORRT names it leaves a line for each conversion, and runs `before.py` if that is there.
"""

import json
import os
import sys
import types
from pathlib import Path

FOLDER = "FAKE_TENSORRT"
PASSED_ON = ("CUDA_VISIBLE_DEVICES", "FLAGS_selected_gpus")


class Input:
    def __init__(
        self,
        warmup_data=None,
        min_input_shape=None,
        max_input_shape=None,
        optim_input_shape=None,
        input_data_type="float32",
        input_range=None,
        name=None,
    ):
        assert warmup_data is not None and input_data_type is None
        self.warmup_data = warmup_data


class TensorRTConfig:
    def __init__(
        self,
        inputs,
        min_subgraph_size=3,
        save_model_dir=None,
        disable_ops=None,
        precision_mode=None,
        ops_run_float=None,
        optimization_level=3,
        disable_passes=(),
        workspace_size=1 << 30,
        refit_params_path=None,
    ):
        vars(self).update({name: value for name, value in locals().items() if name not in ("self", "inputs")})
        self.inputs = [[array.shape for array in one.warmup_data] for one in inputs]


def convert(model_path, config):
    folder = Path(os.environ[FOLDER])
    variables = {name: os.environ.get(name) for name in PASSED_ON}
    with open(folder / "conversions", "a") as stream:
        stream.write(json.dumps({**vars(config), "process": os.getpid(), **variables}) + "\n")
    if (folder / "before.py").is_file():
        exec((folder / "before.py").read_text())
    for suffix in (".json", ".pdmodel", ".pdiparams"):
        source = Path(model_path + suffix)
        if source.exists():
            Path(config.save_model_dir + suffix).write_bytes(source.read_bytes())
    Path(config.save_model_dir).mkdir()
    (Path(config.save_model_dir) / "engine_1_1.trt").write_bytes(b"engine")


def install():
    """Take the place of paddle.tensorrt, which is not imported."""
    package, export = types.ModuleType("paddle.tensorrt"), types.ModuleType("paddle.tensorrt.export")
    package.convert = convert
    export.Input, export.TensorRTConfig = Input, TensorRTConfig
    export.PrecisionMode = types.SimpleNamespace(FP32="FP32", FP16="FP16", BF16="BF16", INT8="INT8")
    sys.modules.update({"paddle": types.ModuleType("paddle"), package.__name__: package, export.__name__: export})
