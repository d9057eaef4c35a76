"""ONNX Runtime: model.onnx (model_fp16.onnx, model_int8.onnx) on a CPU, or on a GPU with CUDA or TensorRT."""

from pathlib import Path

import numpy as np

from ppdet.deploy.backends.base import OUTPUTS, Backend, Options, find_file, last_line
from ppdet.deploy.precisions import graph_name
from ppdet.utils.errors import DeployError


class ONNXRuntime(Backend):
    name = package = distribution = "onnxruntime"
    format = "onnx"
    precisions = {"cpu": ("fp32", "fp16", "int8"), "gpu": ("fp32", "fp16")}

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = options.cpu_threads
        session.log_severity_level = 3
        path, wanted = self.find(folder, options.precision), providers(options)
        try:
            self.session = onnxruntime.InferenceSession(str(path), session, providers=list(wanted.items()))
        except Exception as error:  # ONNX Runtime has classes of its own
            raise DeployError(f"{path}: ONNX Runtime cannot load it, export it again ({last_line(error)})") from None
        missing = [name for name in wanted if name not in self.session.get_providers()]
        if missing:  # ONNX Runtime itself would silently use the CPU
            raise DeployError(
                f"{path}: ONNX Runtime cannot start {missing[0]} on {options.device}: is there such a device, and the "
                "CUDA, cuDNN and TensorRT that this onnxruntime-gpu was built for?"
            )
        self.inputs = [value.name for value in self.session.get_inputs()]
        names = [value.name for value in self.session.get_outputs()]
        self.outputs = OUTPUTS if set(OUTPUTS) <= set(names) else names

    @classmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        return find_file(folder, f"{graph_name(precision)}.onnx")

    @classmethod
    def why_unavailable(cls, options: Options) -> str | None:
        problem = super().why_unavailable(options)
        if problem:
            return problem
        import onnxruntime

        available = onnxruntime.get_available_providers()
        missing = [name for name in providers(options) if name not in available]
        return f"this ONNX Runtime has no {missing[0]}: install onnxruntime-gpu, or use device cpu" if missing else None

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(self.outputs, arrays)


def providers(options: Options) -> dict[str, dict]:
    """ONNX Runtime's execution providers for these options, with their settings, in the order of preference."""
    chosen: dict[str, dict] = {}
    if options.tensorrt:
        fp16 = options.precision == "fp16"
        chosen["TensorrtExecutionProvider"] = {"device_id": options.index, "trt_fp16_enable": fp16}
    if options.kind == "gpu":
        # The default measures all algorithms of each convolution for each new image size, which takes seconds.
        chosen["CUDAExecutionProvider"] = {"device_id": options.index, "cudnn_conv_algo_search": "HEURISTIC"}
    return {**chosen, "CPUExecutionProvider": {}}
