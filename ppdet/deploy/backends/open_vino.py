"""OpenVINO: model.xml (model_fp16.xml, model_int8.xml) or model.onnx, on Intel and AMD processors or Intel GPUs."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.deploy.backends.base import OUTPUTS, Backend, Options, find_file, last_line
from ppdet.deploy.precisions import PRECISIONS, graph_name
from ppdet.utils.errors import DeployError
from ppdet.utils.process.cpu import cpu_count

if TYPE_CHECKING:
    import openvino

TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # of what the graph itself does not quantize


class OpenVINO(Backend):
    name = package = distribution = format = "openvino"
    precisions = {"other": PRECISIONS}

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        import openvino

        path = self.find(folder, options.precision)
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": TYPES[options.precision]}
        if options.kind == "cpu":
            settings["INFERENCE_NUM_THREADS"] = options.cpu_threads
            # Several processes, each with a part of the processors, would all be pinned to the same ones.
            settings["ENABLE_CPU_PINNING"] = options.cpu_threads >= cpu_count()
        try:
            core = openvino.Core()
            model = core.read_model(str(path))
            if TYPES[options.precision] != "f32":
                make_input_integer(model, "im_shape")
            with all_instructions():
                compiled = core.compile_model(model, device_name(options), settings)
        except Exception as error:  # OpenVINO has classes of its own
            raise DeployError(f"{path}: OpenVINO cannot load it, export it again ({last_line(error)})") from None
        self.request = compiled.create_infer_request()
        self.types = {value.get_any_name(): value.get_element_type().to_dtype() for value in compiled.inputs}
        self.inputs = list(self.types)
        names = {name: value for value in compiled.outputs for name in value.get_names()}
        self.outputs = [names[name] for name in OUTPUTS] if set(OUTPUTS) <= set(names) else list(compiled.outputs)

    @classmethod
    def find(cls, folder: Path, precision: str) -> Path | None:
        name = graph_name(precision)
        return find_file(folder, f"{name}.xml", *(["model.onnx"] if name == "model" else []))

    @classmethod
    def why_unavailable(cls, options: Options) -> str | None:
        if options.tensorrt:
            return "it has no TensorRT"
        import openvino

        # Two GPUs are called GPU.0 and GPU.1, and a single one GPU.
        seen, device = openvino.Core().available_devices, device_name(options)
        if device in seen or f"{device}.0" in seen or (device.endswith(".0") and device[:-2] in seen):
            return super().why_unavailable(options)
        return f"it sees no {device}; it sees {', '.join(seen)}"

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        arrays = {name: array.astype(self.types[name], copy=False) for name, array in arrays.items()}
        self.request.infer(arrays, share_inputs=True)
        # Copies, because the request writes its next outputs to the same memory.
        return [self.request.get_tensor(output).data.copy() for output in self.outputs]


def device_name(options: Options) -> str:
    """The device as OpenVINO calls it: CPU, GPU, GPU.1."""
    return options.device.upper().replace(":", ".")


@contextlib.contextmanager
def all_instructions() -> Iterator[None]:
    """Within the block oneDNN uses all instructions of the processor, whatever ONEDNN_MAX_CPU_ISA says.

    OpenVINO compiles kernels of its own for all instructions. If its oneDNN is limited to fewer, the two do not fit
    together, and OpenVINO fails or crashes.
    """
    limits = {name: os.environ.pop(name) for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(limits)


def make_input_integer(model: "openvino.Model", name: str) -> None:
    """Make an input of the graph int32: in 16 bits the engine would round a float input, such as 427 to 428."""
    from openvino import Type, opset13

    for parameter in model.get_parameters():
        if name in parameter.output(0).get_names():
            users = parameter.output(0).get_target_inputs()
            as_float = opset13.convert(parameter, "f32")
            for user in users:
                if user.get_node().get_type_name() != "Convert":
                    user.replace_source_output(as_float.output(0))
            parameter.set_element_type(Type.i32)
    model.validate_nodes_and_infer_types()
