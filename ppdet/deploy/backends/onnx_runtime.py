"""ONNX Runtime."""

from pathlib import Path

import numpy as np

from ppdet.deploy.backends.base import Backend, Options, reason
from ppdet.utils.errors import DeployError

OUTPUTS = ["bbox", "bbox_num"]


class ONNXRuntime(Backend):
    """model.onnx, or model_fp16.onnx in float16: on a CPU, on a GPU by CUDA or TensorRT.

    Raises:
        DeployError: ONNX Runtime cannot load the file.
    """

    name = package = distribution = "onnxruntime"
    format = "onnx"

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = options.cpu_threads
        session.log_severity_level = 3
        path = self.find(folder, options.precision)
        try:
            self.session = onnxruntime.InferenceSession(str(path), session, providers=providers(options))
        except Exception as error:  # of classes that ONNX Runtime keeps to itself
            raise DeployError(f"{path}: ONNX Runtime cannot load it, export it again ({reason(error)})") from None
        missing = [name for name in provider_names(options) if name not in self.session.get_providers()]
        if missing:  # it goes on without, on the CPU
            raise DeployError(
                f"{path}: ONNX Runtime cannot start {missing[0]} on {options.device}: is there such a device, and the "
                "CUDA, cuDNN and TensorRT that this onnxruntime-gpu was built for?"
            )
        self.inputs = [value.name for value in self.session.get_inputs()]
        names = [value.name for value in self.session.get_outputs()]
        self.outputs = OUTPUTS if set(OUTPUTS) <= set(names) else names

    @classmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        path = folder / ("model_fp16.onnx" if precision == "fp16" else "model.onnx")
        return path if path.is_file() else None

    @classmethod
    def refusal(cls, options: Options) -> str | None:
        if options.precision not in ("fp32", "fp16"):
            return f"it has no {options.precision} here; fp32 and fp16 it has"
        if options.kind not in ("cpu", "gpu"):
            return f"it has no {options.kind} here; cpu and gpu it has"
        import onnxruntime

        there = onnxruntime.get_available_providers()
        missing = [name for name in provider_names(options) if name not in there]
        return f"this ONNX Runtime has no {missing[0]}: install onnxruntime-gpu, or use device cpu" if missing else None

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(self.outputs, arrays)


def providers(options: Options) -> list[tuple[str, dict]]:
    """ONNX Runtime's execution providers and their options, first choice first."""
    chosen: list[tuple[str, dict]] = [("CPUExecutionProvider", {})]
    if options.kind == "gpu":
        # By default it times all algorithms of each convolution for each new size of image, which takes seconds.
        cuda = {"device_id": options.index, "cudnn_conv_algo_search": "HEURISTIC"}
        chosen.insert(0, ("CUDAExecutionProvider", cuda))
    if options.tensorrt:
        tensorrt = {"device_id": options.index, "trt_fp16_enable": options.precision == "fp16"}
        chosen.insert(0, ("TensorrtExecutionProvider", tensorrt))
    return chosen


def provider_names(options: Options) -> list[str]:
    return [name for name, _ in providers(options)]
