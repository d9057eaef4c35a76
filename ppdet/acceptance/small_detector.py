"""The small FCOS that most checks train on generated images: data, configuration, weights, export and AP.

Data, weights, reference AP and export are made once per run of the kit and shared by all checks.
"""

import argparse
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome, outcome_if
from ppdet.core.config import Config
from ppdet.core.shipped_configs import CONFIGS

if TYPE_CHECKING:
    from ppdet.deploy.detector import Detector

CONFIG = CONFIGS / "fcos" / "fcos_r18_fpn_shapes.yml"
TRAIN_IMAGES, VAL_IMAGES = 400, 64
SIDE = 128  # height and width of an image in pixels
STEPS, QUICK_STEPS = 800, 200  # training steps of the detector
# Allowed difference of AP in percentage points, by precision. TF32 and float16 have 10 bits of mantissa, bfloat16 has
# 7. Measured on a CPU with a detector of AP 55.9: float16 changes AP by 0.02, bfloat16 by 0.11 to 0.20 in the engines.
POINTS = {"fp32": 0.1, "fp16": 0.1, "bf16": 0.5}
LEAST_AP, QUICK_LEAST_AP = 30.0, 5.0  # with a lower AP on the CPU, equal APs would prove nothing
BATCH = 8  # images per batch in engines


def shapes_dataset(context: Context) -> Path:
    """Return the folder of the generated COCO data set: square images with shapes of four classes."""

    def write(folder: Path) -> None:
        from ppdet.data.shapes import generate

        generate(folder, train=TRAIN_IMAGES, val=VAL_IMAGES, size=SIDE, seed=context.seed)

    return context.shared_folder("shapes", write)


def run_settings(context: Context, name: str) -> dict[str, Any]:
    """Return the settings, by dotted key, that a training run called `name` on the generated images has to change."""
    data = str(shapes_dataset(context))
    return {
        **{f"{slot}.dataset_dir": data for slot in ("TrainDataset", "EvalDataset", "TestDataset")},
        "save_dir": str(context.work / "runs"),
        "run_name": name,
        "device": context.device,
        "seed": context.seed,
        "worker_num": 0,
    }


def run_config(context: Context, name: str, overrides: Mapping[str, Any] = {}) -> Config:
    """Return CONFIG with the settings of a run called `name`, and then with `overrides` by dotted key."""
    from ppdet.core.workspace import load_config

    return load_config(CONFIG, {**run_settings(context, name), **overrides})


def trained_run(context: Context) -> Path:
    """Return the folder of a finished run of the detector, with config.yml and model_final, trained on the device."""

    def train(folder: Path) -> None:
        from ppdet.engine.trainer import Trainer

        steps = context.pick(STEPS, QUICK_STEPS)
        cfg = run_config(context, "detector", {"max_iters": steps, "epoch": None, "save_dir": str(folder)})
        with context.on(context.device):
            Trainer(cfg, overwrite=True).train()

    return context.shared_folder("trained", train) / "detector"


def command_config(context: Context, reader: Literal["EvalReader", "TestReader"], *options: str) -> Config:
    """Return the configuration that a command such as `ppdet eval RUN -o …` uses for the trained detector.

    Args:
        reader: the reader that the command uses.
        options: overrides as -o takes them, such as "eval_amp=true".
    """
    from ppdet.engine.runs.trained import trained_config

    arguments = argparse.Namespace(run=str(trained_run(context)), config=None, opt=list(options))
    return trained_config(arguments, reader)


def evaluate_trained(context: Context, *options: str) -> float:
    """Return the AP, 0 to 1, of the trained detector on the current device, as `ppdet eval` computes it."""
    from ppdet.engine.build import build_trained_model
    from ppdet.engine.evaluator import Evaluator

    cfg = command_config(context, "EvalReader", *options)
    numbers = Evaluator(cfg)(build_trained_model(cfg))
    assert numbers is not None  # only ranks above 0 get None, and the kit's processes have one rank
    return numbers["AP"]


def reference_ap(context: Context) -> float:
    """Return the AP, 0 to 1, of the trained detector on the CPU with Paddle's own operators."""

    def evaluate() -> float:
        with context.on_reference():
            return evaluate_trained(context, "use_onednn=false")

    return context.shared_value("reference_ap", evaluate)


def compare_ap(context: Context, ap: float, precision: str) -> Outcome:
    """Compare an AP, 0 to 1, that was computed in "fp32", "fp16" or "bf16" with the reference; see `judge_ap`."""
    return judge_ap(ap, reference_ap(context), POINTS[precision], context.pick(LEAST_AP, QUICK_LEAST_AP))


def judge_ap(ap: float, reference: float, points: float, least: float) -> Outcome:
    """Compare two APs, both 0 to 1.

    Args:
        points: allowed difference in percentage points.
        least: in percent; if the reference is lower, the comparison would prove nothing and fails.

    Raises:
        Failed: the APs differ too much, or the reference is too low.
    """
    ap, reference = 100 * ap, 100 * reference
    numbers = {"ap": ap, "ap_of_cpu": reference}
    detail = f"AP {ap:.2f}, on the CPU {reference:.2f}: difference {abs(ap - reference):.2f} (limit {points})"
    if not reference >= least:
        raise Failed(f"{detail}; an AP below {least} on the CPU proves nothing: training did not work", **numbers)
    return outcome_if(abs(ap - reference) <= points, detail, numbers)


def installed_formats() -> list[Literal["onnx", "openvino"]]:
    """Return the export formats besides Paddle's whose packages are installed."""
    needed: dict[Literal["onnx", "openvino"], tuple[str, ...]] = {
        "onnx": ("onnx", "onnxruntime"),
        "openvino": ("openvino",),
    }
    return [name for name, packages in needed.items() if all(map(importlib.util.find_spec, packages))]


def exported_detector(context: Context) -> Path:
    """Return the folder of the trained detector's export, in all formats, with 16-bit files where formats have them."""

    def write(folder: Path) -> None:
        from ppdet.engine.export.graph import export_model

        formats = installed_formats()
        cfg = command_config(context, "TestReader")
        export_model(cfg, folder, formats=formats, precision="fp16" if formats else "fp32")

    return next(path for path in context.shared_folder("exported", write).iterdir() if path.is_dir())


def engine_ap(context: Context, detector: "Detector") -> float:
    """Return the AP, 0 to 1, of an exported detector in an engine, on the images of `reference_ap`."""
    from ppdet.engine.evaluator import Evaluator

    evaluator = Evaluator(command_config(context, "EvalReader"))
    metric, records = evaluator.metric, evaluator.dataset.records
    metric.reset()
    for position, rows in detector.detect([record["im_file"] for record in records], batch_size=BATCH):
        record = records[position]
        metric.update(rows, [len(rows)], [record["im_id"].item()], [(record["h"], record["w"])])
    return metric.compute()["AP"]
