"""Paddle Inference: model.json or model.pdmodel (Paddle 2), and model.pdiparams, on all devices of Paddle."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.deploy.backends import tensorrt
from ppdet.deploy.backends.base import Backend, Options, find_file, last_line
from ppdet.deploy.backends.operator_names import LEFT_IN_FLOAT32
from ppdet.deploy.precisions import PRECISIONS
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.utils import device
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.paddle_setup import load_paddle

if TYPE_CHECKING:
    from paddle import inference

logger = get_logger(__name__)
# Parts of a GPU's error for a graph whose NMS was not recorded for the GPU kernel, by an earlier version of this
# package or by PaddleDetection: that kernel refuses nms_top_k above the number of boxes, and fails on an image after
# one without detections.
CPU_ONLY_ERRORS = ("Expect nms_top_k", "Expect keep_top_k", "CUDA error(9)")
CPU_ONLY_ADVICE = (
    "the multiclass_nms3 of this graph needs nms_top_k locations and a detection on a GPU, as in graphs of earlier "
    "versions and of PaddleDetection: export the model again with this version, or use device cpu"
)
GPU_MEMORY_POOL = 200  # MiB at the start; the pool grows as needed


class PaddleInference(Backend):
    """Paddle Inference. On a CPU, bf16 needs oneDNN; TensorRT supports fp32 and fp16."""

    name = package = format = "paddle"
    distribution = "paddlepaddle"
    precisions = {"cpu": ("fp32", "bf16"), "xpu": ("fp32",), "other": PRECISIONS}

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        load_paddle(announce=False, threads=options.threads)
        self.onednn = options.onednn and options.kind == "cpu"
        self.load()

    @classmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        weights = find_file(folder, "model.pdiparams")
        return find_file(folder, "model.json", "model.pdmodel") if weights else None

    @classmethod
    def why_unavailable(cls, options: Options) -> str | None:
        problem = super().why_unavailable(options)
        if problem:
            return problem
        if options.kind == "cpu":
            return "bf16 needs oneDNN" if options.precision == "bf16" and not options.onednn else None
        load_paddle(announce=False, threads=options.threads)
        if options.kind not in device.supported_types():
            advice = device.what_to_install(options.kind)
            return f"this Paddle has no {options.kind} support: {advice}, or use device cpu"
        count = device.count(options.kind)
        if options.index >= count:
            return f"Paddle sees {count} devices of type {options.kind}, and no {options.device}: is its driver there?"
        return tensorrt.why_unavailable(options) if options.tensorrt else None

    def load(self) -> None:
        from paddle import inference

        graph = self.find(self.folder, self.options.precision)
        assert graph is not None  # load_backend has looked for it
        require_version(graph)
        try:
            with self.predictor_config(graph) as config:
                self.predictor = inference.create_predictor(config)
        except DeployError:
            raise
        except (RuntimeError, ValueError, OSError) as error:
            advice = "export it again; if that fails, the network does what a graph cannot (docs/EXTENDING.md)"
            if self.options.kind == "cpu" and self.options.precision == "bf16":
                advice = "use precision fp32 if the processor has no bfloat16 (AVX-512), otherwise export it again"
            elif self.options.tensorrt:
                advice = "try without TensorRT, or export it again"
            raise DeployError(
                f"{self.folder}: Paddle cannot load it in {self.options.precision}: {advice} ({last_line(error)})"
            ) from None
        self.inputs = self.predictor.get_input_names()
        self.outputs = self.predictor.get_output_names()

    def predictor_config(self, graph: Path) -> AbstractContextManager["inference.Config"]:
        if self.options.tensorrt:
            return tensorrt.compiled(graph, self.options, self.config)
        return nullcontext(self.config(graph))

    def config(self, graph: Path) -> "inference.Config":
        """Paddle's settings to run this graph with these options, without TensorRT."""
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
        """Use a GPU, an XPU, or a device that Paddle has a plugin for.

        With TensorRT, Paddle computes what is left to it in float32; TensorRT has its own setting.
        """
        from paddle.inference import PrecisionType

        types = {"fp16": PrecisionType.Half, "bf16": PrecisionType.Bfloat16}
        precision = types.get("fp32" if self.options.tensorrt else self.options.precision, PrecisionType.Float32)
        if self.options.kind == "gpu":
            config.enable_use_gpu(GPU_MEMORY_POOL, self.options.index, precision)
        elif self.options.kind == "xpu":
            config.enable_xpu()
            config.set_xpu_device_id(self.options.index)
        else:
            config.enable_custom_device(self.options.kind, self.options.index, precision)
        if precision != PrecisionType.Float32:
            config.exp_disable_mixed_precision_ops(set(LEFT_IN_FLOAT32))
        if not hasattr(config, "new_ir_enabled"):
            # Paddle 2 would keep the results of all layers. Paddle 3 frees them, and fails with this setting.
            config.enable_memory_optim()

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        if self.options.tensorrt:
            return self._run_in_parts(arrays, self.options.max_batch)
        try:
            return self.run_once(arrays)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            # Graphs of other exporters can have operators that oneDNN's executor refuses.
            if not self.onednn or self.options.precision != "fp32":
                raise
            logger.warning("oneDNN cannot run this graph, going on without oneDNN: %s", last_line(error))
            self.onednn = False
            self.load()
            return self.run_once(arrays)

    def _run_in_parts(self, arrays: dict[str, np.ndarray], count: int) -> list[np.ndarray]:
        """Run at most `count` images at a time, for which TensorRT has compiled its engine."""
        starts = range(0, len(arrays["image"]), count)
        parts = [self.run_once({k: v[start : start + count] for k, v in arrays.items()}) for start in starts]
        return [np.concatenate(outputs) for outputs in zip(*parts)]

    def run_once(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        for name, array in arrays.items():
            self.predictor.get_input_handle(name).copy_from_cpu(array)
        try:
            self.predictor.run()
        except (RuntimeError, ValueError, OSError) as error:
            if any(part in str(error) for part in CPU_ONLY_ERRORS):
                raise DeployError(CPU_ONLY_ADVICE) from None
            if self.options.kind == "cpu" and self.options.precision == "bf16":
                raise DeployError(advice_for_bf16(self.find(self.folder, "bf16"), error)) from None
            raise
        return [self.predictor.get_output_handle(name).copy_to_cpu() for name in self.outputs]


def advice_for_bf16(graph: Path | None, error: Exception) -> str:
    """Return what to do about an error of a graph in bf16 on a CPU, which may name nothing but an operator."""
    import paddle

    if graph is not None and graph.suffix == ".pdmodel" and not paddle.__version__.startswith("2."):
        return (
            f"Paddle {paddle.__version__} cannot compute this graph of Paddle 2 in bf16: export the model again with "
            f"Paddle {paddle.__version__[:1]}, or use precision fp32"
        )
    return f"Paddle {paddle.__version__} cannot compute this graph in bf16: use precision fp32 ({last_line(error)})"


def require_version(graph: Path) -> None:
    """Raise DeployError for a graph of Paddle 3 in Paddle 2, which would end the process with a segmentation fault.

    Args:
        graph: model.json, which only Paddle 3 writes and reads, or model.pdmodel, which both read.
    """
    import paddle

    if graph.suffix != ".json" or not paddle.__version__.startswith("2."):
        return
    has_settings = (graph.parent / "infer_cfg.yml").is_file()
    versions = read_infer_cfg(graph.parent).get("versions") if has_settings else None
    exporter = versions.get("paddle", 3) if isinstance(versions, dict) else 3
    raise DeployError(
        f"{graph}: exported with Paddle {exporter!s:.20}, and this is Paddle {paddle.__version__}, which cannot read "
        "it: install paddlepaddle 3, export again with this Paddle, or use onnxruntime or openvino (ppdet export "
        "--format)"
    )
