"""Checks that the exported detector has the same AP in every inference engine as the trained one on the CPU."""

import functools

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Outcome, Skipped
from ppdet.acceptance.small_detector import BATCH, compare_ap, engine_ap, exported_detector, installed_formats

# Backend, precision, whether with TensorRT, and expected seconds on a GPU. TensorRT tries kernels when it starts.
ENGINES: tuple[tuple[str, str, bool, int], ...] = (
    ("paddle", "fp32", False, 6),
    ("paddle", "fp16", False, 8),
    ("paddle", "bf16", False, 8),
    ("paddle", "fp32", True, 45),
    ("paddle", "fp16", True, 60),
    ("onnxruntime", "fp32", False, 8),
    ("onnxruntime", "fp16", False, 8),
    ("openvino", "fp32", False, 5),
    ("openvino", "bf16", False, 5),
)
# For each optional backend: its export format, and the packages to install for a CPU and for a GPU.
PACKAGES = {
    "onnxruntime": ("onnx", "onnx onnxruntime", "onnx onnxruntime-gpu"),
    "openvino": ("openvino", "openvino", "openvino"),
}
ADVICE = """
    This engine loads the export, but detects something else with it or ends with an error. Engines that passed can be
    used meanwhile: `Detector(folder, backend=…, precision=…)`, `ppdet detect --backend …`. The backend "auto" does not
    choose an engine that fails the self-check of the export. Please send the report.
"""


def run_engine(context: Context, *, backend: str, precision: str, tensorrt: bool) -> Outcome:
    """Compare the AP in this engine on the kit's device with the CPU. OpenVINO always computes on the CPU."""
    from ppdet.deploy.backends import BACKENDS, find_problem
    from ppdet.deploy.backends.base import Options
    from ppdet.deploy.detector import Detector

    device = "cpu" if backend == "openvino" else context.device
    if tensorrt and device != "gpu":
        raise Skipped("TensorRT needs a GPU")
    if backend in PACKAGES:
        format_, for_cpu, for_gpu = PACKAGES[backend]
        if format_ not in installed_formats():
            raise Skipped(f"not installed: pip install {for_gpu if context.device == 'gpu' else for_cpu}")
    folder = exported_detector(context)
    options = Options(device=device, precision=precision, tensorrt=tensorrt, max_batch=BATCH)
    if problem := find_problem(BACKENDS[backend], folder, options):
        raise Skipped(problem)
    detector = Detector(folder, backend, device=device, precision=precision, tensorrt=tensorrt, max_batch=BATCH)
    return compare_ap(context, engine_ap(context, detector), precision)


for _backend, _precision, _tensorrt, _seconds in ENGINES:
    _engine = f"{_backend}_tensorrt" if _tensorrt else _backend
    check(
        f"engines/{_engine}_{_precision}",
        title=f"AP of the export in {_engine.replace('_', ' with ')}, {_precision}, compared with the CPU",
        advice=ADVICE,
        uses=["trained", "reference_ap", "exported"],
        seconds=_seconds,
    )(functools.partial(run_engine, backend=_backend, precision=_precision, tensorrt=_tensorrt))
