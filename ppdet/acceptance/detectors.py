"""The trained detector as the commands take it, its export, and its AP beside the CPU's."""

import argparse
import importlib.util
from pathlib import Path

from ppdet.acceptance.context import Context
from ppdet.acceptance.made import trained
from ppdet.acceptance.outcomes import Failed, Outcome

# Of AP in percent, that a device or a type may change. TF32 and float16 round to 10 bits, bfloat16 to 7: where the
# detector has AP 55.9 on a CPU, float16 changes it by 0.02 there, and bfloat16 by 0.11 to 0.20, as the engine may be.
POINTS = {"fp32": 0.1, "fp16": 0.1, "bf16": 0.5}
BATCH = 8  # images that an engine is given at a time
LEAST_AP, QUICK_LEAST_AP = 30.0, 5.0  # of the CPU: with less than that nothing is shown by a difference


def command_config(context: Context, reader: str, *options: str) -> object:
    """The configuration that `tools/eval.py RUN -o …` and the like take for the trained detector's folder."""
    from ppdet.engine.runs.trained import trained_config

    arguments = argparse.Namespace(run=str(trained(context)), config=None, opt=list(options))
    return trained_config(arguments, reader)


def reference_ap(context: Context) -> float:
    """AP, 0 to 1, of the trained detector on the CPU, by Paddle's own operators."""

    def evaluate() -> float:
        from ppdet.acceptance.checks.detect_checks import evaluated

        with context.on_reference():
            return evaluated(context, "use_onednn=false")

    return context.shared_numbers("reference_ap", evaluate)


def beside_cpu(context: Context, ap: float, precision: str) -> Outcome:
    """Compare an AP, 0 to 1, in fp32, fp16 or bf16 with the CPU's in float32; see `judge_ap`."""
    least = context.pick(LEAST_AP, QUICK_LEAST_AP)
    return judge_ap(ap, reference_ap(context), POINTS[precision], least)


def judge_ap(ap: float, reference: float, points: float, least: float) -> Outcome:
    """Compare two APs, 0 to 1.

    Raises:
        Failed: they are more than `points` percent apart, or the CPU's is below `least`, where this shows nothing.
    """
    ap, reference = 100 * ap, 100 * reference
    numbers = {"ap": ap, "ap_of_cpu": reference}
    detail = f"AP {ap:.2f}, the CPU's {reference:.2f}: {abs(ap - reference):.2f} apart (limit {points})"
    if not reference >= least:
        raise Failed(f"{detail}; below {least} of the CPU nothing is shown: training did not work", **numbers)
    if not abs(ap - reference) <= points:
        raise Failed(detail, **numbers)
    return Outcome(detail, numbers)


def formats() -> list[str]:
    """Formats besides Paddle's own whose packages are installed."""
    needed = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
    return [name for name, packages in needed.items() if all(map(importlib.util.find_spec, packages))]


def exported(context: Context) -> Path:
    """Folder of the trained detector's export, in all formats, in 16 bits as well where there are files for that."""

    def make(folder: Path) -> None:
        from ppdet.engine.export.graph import export_model

        cfg = command_config(context, "TestReader")
        export_model(cfg, str(folder), formats=formats(), precision="fp16" if formats() else "fp32")

    return next(path for path in context.shared("exported", make).iterdir() if path.is_dir())


def engine_ap(context: Context, detector: object) -> float:
    """AP, 0 to 1, of an exported detector in an engine, on the images that `reference_ap` is of."""
    from ppdet.engine.evaluator import Evaluator

    evaluator = Evaluator(command_config(context, "EvalReader"))
    metric, records = evaluator.metric, evaluator.dataset.records
    metric.reset()
    for position, rows in detector.detect([record["im_file"] for record in records], batch_size=BATCH):
        record = records[position]
        metric.update(rows, [len(rows)], [record["im_id"].item()], [(record["h"], record["w"])])
    return metric.compute()["AP"]
