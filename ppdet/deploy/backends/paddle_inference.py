"""Paddle Inference."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.deploy.backends import tensorrt
from ppdet.deploy.backends.base import Backend, Options, reason
from ppdet.deploy.backends.operator_names import LEFT_IN_FLOAT32
from ppdet.utils import device
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.paddle_setup import load_paddle

if TYPE_CHECKING:
    from paddle import inference

logger = get_logger(__name__)
GRAPHS = ("model.json", "model.pdmodel")
BUILDS = {"gpu": "paddlepaddle-gpu", "xpu": "paddlepaddle-xpu"}
# What a GPU says of a graph whose suppression was recorded without a look at its kernel's conditions: by an earlier
# version, or by PaddleDetection. There are fewer boxes than nms_top_k, or there was an image without detections before.
FOR_CPU_ALONE = ("Expect nms_top_k", "Expect keep_top_k", "CUDA error(9)")
FOR_CPU_ALONE_ADVICE = (
    "this graph's multiclass_nms3 needs nms_top_k locations and a detection on a GPU, as those of earlier versions and "
    "of PaddleDetection do: export the model again with this version, or use device cpu"
)
# What a pool of a GPU's memory begins with, in MiB; it grows as is needed.
POOL = 200


class PaddleInference(Backend):
    """model.json or model.pdmodel, and model.pdiparams.

    On a CPU in float32 or, with oneDNN, bfloat16; on a GPU in float32, float16 or bfloat16, and with TensorRT in
    float32 or float16; on an XPU in float32; on a device of another type, for which Paddle has a plugin, in float32,
    float16 or bfloat16.

    Raises:
        DeployError: Paddle cannot load the files.
    """

    name = package = format = "paddle"
    distribution = "paddlepaddle"

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        load_paddle(announce=False, threads=options.threads)
        self.onednn = options.onednn and options.kind == "cpu"
        self.load()

    @classmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
        return graph if (folder / "model.pdiparams").is_file() else None

    @classmethod
    def refusal(cls, options: Options) -> str | None:
        if options.kind == "cpu":
            if options.precision not in ("fp32", "bf16"):
                return f"it has no {options.precision} on a CPU; fp32 and bf16 it has"
            return "bf16 needs oneDNN" if options.precision == "bf16" and not options.onednn else None
        load_paddle(announce=False, threads=options.threads)
        if options.kind not in device.kinds():
            build = f"install {BUILDS[options.kind]}" if options.kind in BUILDS else "install its plugin for Paddle"
            return f"this Paddle has no {options.kind} support: {build}, or use device cpu"
        count = device.count(options.kind)
        if options.index >= count:
            return f"Paddle sees {count} devices of type {options.kind}, and no {options.device}: is its driver there?"
        if options.kind == "xpu" and options.precision != "fp32":
            return f"it has no {options.precision} on an XPU; fp32 it has"
        return tensorrt.refusal(options) if options.tensorrt else None

    def load(self) -> None:
        from paddle import inference

        graph = self.find(self.folder, self.options.precision)
        try:
            with self.settings(graph) as config:
                self.predictor = inference.create_predictor(config)
        except DeployError:
            raise
        except (RuntimeError, ValueError, OSError) as error:
            raise DeployError(
                f"{self.folder}: Paddle cannot load it in {self.options.precision}: {self.advice()} ({reason(error)})"
            ) from None
        self.inputs = self.predictor.get_input_names()
        self.outputs = self.predictor.get_output_names()

    def settings(self, graph: Path) -> AbstractContextManager["inference.Config"]:
        if self.options.tensorrt:
            return tensorrt.compiled(graph, self.options, self.config)
        return nullcontext(self.config(graph))

    def advice(self) -> str:
        """What to do where Paddle cannot load the graph."""
        if self.options.kind == "cpu" and self.options.precision == "bf16":
            return "take precision fp32 where the processor has no bfloat16 (AVX-512), otherwise export it again"
        return "try without TensorRT, or export it again" if self.options.tensorrt else "export it again"

    def config(self, graph: Path) -> "inference.Config":
        """Paddle's settings for this graph with these options, without TensorRT."""
        from paddle import inference

        config = inference.Config(str(graph), str(graph.with_name("model.pdiparams")))
        config.disable_glog_info()
        if self.options.kind == "cpu":
            self.use_cpu(config)
        else:
            self.use_device(config)
        return config

    def use_cpu(self, config: "inference.Config") -> None:
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(self.options.cpu_threads)
        if self.onednn:
            config.enable_mkldnn()
            if self.options.precision == "bf16":
                config.enable_mkldnn_bfloat16()
        elif hasattr(config, "disable_mkldnn"):
            config.disable_mkldnn()

    def use_device(self, config: "inference.Config") -> None:
        """On a GPU, an XPU, or a device that Paddle has a plugin for.

        With TensorRT what it leaves to Paddle is in float32, and what it computes in is its own matter.
        """
        from paddle.inference import PrecisionType

        types = {"fp16": PrecisionType.Half, "bf16": PrecisionType.Bfloat16}
        precision = types.get("fp32" if self.options.tensorrt else self.options.precision, PrecisionType.Float32)
        if self.options.kind == "gpu":
            config.enable_use_gpu(POOL, self.options.index, precision)
        elif self.options.kind == "xpu":
            config.enable_xpu()
            config.set_xpu_device_id(self.options.index)
        else:
            config.enable_custom_device(self.options.kind, self.options.index, precision)
        if precision != PrecisionType.Float32:
            config.exp_disable_mixed_precision_ops(set(LEFT_IN_FLOAT32))
        if not hasattr(config, "new_ir_enabled"):
            # Paddle 2 keeps all layers' results otherwise. Paddle 3 frees them, and fails where it is asked to.
            config.enable_memory_optim()

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self.options.tensorrt:
            return self.run_parts(arrays, self.options.max_batch)
        try:
            return self.run_once(arrays)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            # Graphs of other exporters can hold operators that oneDNN's executor does not take.
            if not self.onednn or self.options.precision != "fp32":
                raise
            logger.warning("oneDNN cannot run this graph, going on without: %s", reason(error))
            self.onednn = False
            self.load()
            return self.run_once(arrays)

    def run_parts(self, arrays: dict[str, np.ndarray], count: int) -> list[np.ndarray]:
        """`count` images at a time: an engine of TensorRT is compiled for no more."""
        starts = range(0, len(arrays["image"]), count)
        parts = [self.run_once({k: v[start : start + count] for k, v in arrays.items()}) for start in starts]
        return [np.concatenate(outputs) for outputs in zip(*parts)]

    def run_once(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        for name, array in arrays.items():
            self.predictor.get_input_handle(name).copy_from_cpu(array)
        try:
            self.predictor.run()
        except (RuntimeError, ValueError, OSError) as error:
            if any(sign in str(error) for sign in FOR_CPU_ALONE):
                raise DeployError(FOR_CPU_ALONE_ADVICE) from None
            raise
        return [self.predictor.get_output_handle(name).copy_to_cpu() for name in self.outputs]
