"""ONNX Runtime."""

from pathlib import Path
from typing import Optional

import numpy as np

from ppdet.deploy.backends.base import Backend, Options, reason
from ppdet.deploy.errors import DeployError

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
        self.inputs = [value.name for value in self.session.get_inputs()]
        names = [value.name for value in self.session.get_outputs()]
        self.outputs = OUTPUTS if set(OUTPUTS) <= set(names) else names

    @classmethod
    def find(cls, folder: Path, precision: str) -> Optional[Path]:
        path = folder / ("model_fp16.onnx" if precision == "fp16" else "model.onnx")
        return path if path.is_file() else None

    @classmethod
    def refusal(cls, options: Options) -> Optional[str]:
        if options.precision not in ("fp32", "fp16"):
            return f"it has no {options.precision} here; fp32 and fp16 it has"
        if options.device == "gpu":
            import onnxruntime

            wanted = providers(options)[0]
            wanted = wanted[0] if isinstance(wanted, tuple) else wanted
            if wanted not in onnxruntime.get_available_providers():
                return f"this ONNX Runtime has no {wanted}: install onnxruntime-gpu, or use device cpu"
        return None

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(self.outputs, arrays)


def providers(options: Options) -> list:
    """ONNX Runtime's execution providers, first choice first."""
    chosen: list = ["CPUExecutionProvider"]
    if options.device == "gpu":
        chosen.insert(0, "CUDAExecutionProvider")
    if options.tensorrt:
        chosen.insert(0, ("TensorrtExecutionProvider", {"trt_fp16_enable": options.precision == "fp16"}))
    return chosen
