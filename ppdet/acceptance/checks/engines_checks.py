"""Every engine that can run an export: is its AP that of the CPU?"""

import functools

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.detectors import BATCH, beside_cpu, engine_ap, exported, formats
from ppdet.acceptance.outcomes import Outcome, Skipped

# backend, precision, by TensorRT, and the seconds that it takes on a GPU, about: TensorRT tries kernels at its start.
ENGINES = (
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
# What to install for a backend, on a CPU and on a GPU. Its format needs these to be exported, too.
PACKAGES = {"onnxruntime": ("onnx onnxruntime", "onnx onnxruntime-gpu"), "openvino": ("openvino", "openvino")}
FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}
ADVICE = """
    This engine loads the export and detects something else with it, or ends in an error. Others that passed can be used
    meanwhile: `Detector(folder, backend=…, precision=…)`, `deploy/python/infer.py --backend …`. With "auto" such an
    engine is left out by itself, since it fails the export's self-check. Please send the report.
"""


def run_engine(context: Context, *, backend: str, precision: str, tensorrt: bool) -> Outcome:
    """AP in this engine on the kit's device; OpenVINO, which has none of these, computes on the CPU."""
    from ppdet.deploy.backends import BACKENDS, find_problem
    from ppdet.deploy.backends.base import Options
    from ppdet.deploy.detector import Detector

    device = "cpu" if backend == "openvino" else context.device
    if tensorrt and device != "gpu":
        raise Skipped("TensorRT needs a GPU")
    if backend in PACKAGES and FORMATS[backend] not in formats():
        raise Skipped(f"not installed: pip install {PACKAGES[backend][context.device == 'gpu']}")
    folder = exported(context)
    options = Options(device=device, precision=precision, tensorrt=tensorrt, max_batch=BATCH)
    problem = find_problem(BACKENDS[backend], folder, options)
    if problem:
        raise Skipped(problem)
    context.progress(f"loading on the {device}")
    detector = Detector(folder, backend, device=device, precision=precision, tensorrt=tensorrt, max_batch=BATCH)
    context.progress(f"evaluating on the {device}")
    return beside_cpu(context, engine_ap(context, detector), precision)


for _backend, _precision, _tensorrt, _seconds in ENGINES:
    _engine = f"{_backend}_tensorrt" if _tensorrt else _backend
    check(
        f"engines/{_engine}_{_precision}",
        title=f"AP of the export in {_engine.replace('_', ' with ')}, {_precision}, beside the CPU's",
        advice=ADVICE,
        uses=["trained", "reference_ap", "exported"],
        limit=240 if _tensorrt else 90,
        seconds=_seconds,
    )(functools.partial(run_engine, backend=_backend, precision=_precision, tensorrt=_tensorrt))
