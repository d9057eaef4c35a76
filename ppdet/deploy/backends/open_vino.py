"""OpenVINO."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppdet.deploy.backends.base import Backend, Options, reason
from ppdet.utils.errors import DeployError
from ppdet.utils.process.cpu import cpu_count

if TYPE_CHECKING:
    import openvino

TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
OUTPUTS = ["bbox", "bbox_num"]


class OpenVINO(Backend):
    """model.xml and model.bin (model_fp16.* in float16), or model.onnx, on Intel and AMD processors, or Intel's GPUs.

    Raises:
        DeployError: OpenVINO cannot load the file.
    """

    name = package = distribution = format = "openvino"

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        import openvino

        path = self.find(folder, options.precision)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": TYPES[options.precision]}
        if options.kind == "cpu":
            settings["INFERENCE_NUM_THREADS"] = options.cpu_threads
            # Processes that each take a share of the processors would all be pinned to the same ones.
            settings["ENABLE_CPU_PINNING"] = options.cpu_threads >= cpu_count()
        try:
            core = openvino.Core()
            model = core.read_model(str(path))
            if options.precision != "fp32":
                keep_whole(model, "im_shape")
            with all_instructions():
                compiled = core.compile_model(model, device_name(options), settings)
        except Exception as error:  # of classes that OpenVINO keeps to itself
            raise DeployError(f"{path}: OpenVINO cannot load it, export it again ({reason(error)})") from None
        self.request = compiled.create_infer_request()
        self.types = {value.get_any_name(): value.get_element_type().to_dtype() for value in compiled.inputs}
        self.inputs = list(self.types)
        names = {name: value for value in compiled.outputs for name in value.get_names()}
        self.outputs = [names[name] for name in OUTPUTS] if set(OUTPUTS) <= set(names) else list(compiled.outputs)

    @classmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        names = ("model_fp16.xml",) if precision == "fp16" else ("model.xml", "model.onnx")
        return next((folder / name for name in names if (folder / name).is_file()), None)

    @classmethod
    def refusal(cls, options: Options) -> str | None:
        if options.tensorrt:
            return "it has no TensorRT"
        if options.precision not in TYPES:
            return f"it has no {options.precision} here; fp32, bf16 and fp16 it has"
        import openvino

        # Where there are two GPUs, they are GPU.0 and GPU.1; one alone is GPU.
        seen, device = openvino.Core().available_devices, device_name(options)
        if device not in seen and f"{device}.0" not in seen and not (device.endswith(".0") and device[:-2] in seen):
            return f"it sees no {device}; it sees {', '.join(seen)}"
        return None

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        arrays = {name: array.astype(self.types[name], copy=False) for name, array in arrays.items()}
        self.request.infer(arrays, share_inputs=True)
        # Copies: the request writes its next results where these are.
        return [self.request.get_tensor(output).data.copy() for output in self.outputs]


def device_name(options: Options) -> str:
    """The device as OpenVINO writes it: CPU, GPU, GPU.1."""
    return options.device.upper().replace(":", ".")


@contextlib.contextmanager
def all_instructions() -> Iterator[None]:
    """Within, oneDNN takes all instructions that the processor has, whatever ONEDNN_MAX_CPU_ISA says.

    OpenVINO compiles kernels of its own for these; where its oneDNN is held to fewer, the two do not fit together, and
    it fails or crashes.
    """
    limits = {name: os.environ.pop(name) for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(limits)


def keep_whole(model: "openvino.Model", name: str) -> None:
    """Let an input be of whole numbers: the engine rounds inputs that are not, 427 to 428 in bfloat16."""
    from openvino import Type, opset13

    for parameter in model.get_parameters():
        if name in parameter.output(0).get_names():
            users = parameter.output(0).get_target_inputs()
            real = opset13.convert(parameter, "f32")
            for user in users:
                if user.get_node().get_type_name() != "Convert":
                    user.replace_source_output(real.output(0))
            parameter.set_element_type(Type.i32)
    model.validate_nodes_and_infer_types()
