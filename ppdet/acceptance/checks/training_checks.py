"""Checks that 50 training steps of a small FCOS on the device have the losses of the CPU.

Both sides start from the same weights and see the same batches. Their losses drift apart because rounding differs, with
AdamW faster than with Momentum. Between two implementations on a CPU, in float32 and in bfloat16, single losses of the
first 50 steps differ by up to 3 %, the mean of 10 by 0.07 % and the mean of 50 by 0.5 %. So the limit is 0.1 % for the
first loss, which does not depend on any update, and 1 % for means.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import amp
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.small_detector import run_config, shapes_dataset, trained_run
from ppdet.core.config import Config

FIRST, MEAN = 1e-3, 1e-2  # allowed relative differences of the first loss and of means
STEPS, QUICK_STEPS = 50, 20
SEMI_BATCH = 4  # labelled images in a batch, and unlabelled ones
Losses = list[dict[str, float]]  # the losses of every step by name
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "momentum": {
        "OptimizerBuilder.optimizer.type": "Momentum",
        "OptimizerBuilder.optimizer.momentum": 0.9,
        "OptimizerBuilder.optimizer.weight_decay": None,
        "OptimizerBuilder.regularizer": {"type": "L2", "factor": 0.0001},
        "LearningRate.base_lr": 0.01,
    },
    "adamw": {"LearningRate.base_lr": 0.001},
}
ADVICE = """Training on this device does not follow the CPU, although it starts from the same weights and sees the same
images. If checks of operators failed as well, look at those first. If only float16 fails, gradients overflow or
underflow (the report has the losses of every step). If only the first loss is right, an update by the optimizer or of
running statistics is wrong. Please send the report. Until this is fixed, train without --amp if only mixed precision
fails."""


class Variant(NamedTuple):
    """A way of training.

    name: name of the check. optimizer: name in OPTIMIZERS. dtype: "float32", or the type of mixed precision at `level`.
    dense_teacher: whether training is semi-supervised, with DenseTeacher.
    """

    name: str
    optimizer: str = "adamw"
    dtype: str = "float32"
    level: str = "O1"
    dense_teacher: bool = False


AMP = [(level, dtype) for level in ("O1", "O2") for dtype in ("float16", "bfloat16")]
VARIANTS = [
    Variant("float32_momentum", "momentum"),
    Variant("float32_adamw", "adamw"),
    Variant("float32_dense_teacher", dense_teacher=True),
    *(Variant(f"{level.lower()}_{dtype}_{name}", name, dtype, level) for level, dtype in AMP for name in OPTIMIZERS),
    *(Variant(f"{level.lower()}_{dtype}_dense_teacher", "adamw", dtype, level, True) for level, dtype in AMP),
]


def add_check(variant: Variant) -> None:
    """Register the check of a variant."""
    kind = "DenseTeacher" if variant.dense_teacher else variant.optimizer
    mixed = variant.dtype != "float32"
    precision = f"{variant.level}, {variant.dtype}" if mixed else variant.dtype

    @check(
        f"training/{variant.name}",
        title=f"Losses with {kind}, {precision}, compared with the CPU in float32",
        advice=ADVICE,
        needs=[amp(variant.dtype, variant.level)] if mixed else [],
        uses=["trained", "cpu_dense_teacher"] if variant.dense_teacher else [f"cpu_{variant.optimizer}"],
        seconds=4,
        limit=120,
    )
    def compare_losses(context: Context) -> Outcome:
        expected = cpu_losses(context, variant)
        with context.on(context.device):
            actual = train_losses(context, variant, variant.name)
        return judge_losses(actual, expected)


for _variant in VARIANTS:
    add_check(_variant)


def judge_losses(actual: Losses, expected: Losses) -> Outcome:
    """Compare the losses of the device with those of the CPU.

    Raises:
        Failed: they differ by more than is allowed, or changed so little that equal losses prove nothing.
    """
    totals, cpu_totals = ([step["loss"] for step in losses] for losses in (actual, expected))
    steps, early = len(cpu_totals), max(1, len(cpu_totals) // 5)
    numbers: dict[str, Any] = {"losses": actual, "losses_of_cpu": expected}
    if len(totals) != steps:
        raise Failed(f"{len(totals)} of {steps} steps were made", **numbers)
    differences = {
        "the first loss": (difference_of_means(totals[:1], cpu_totals[:1]), FIRST),
        f"the mean of the first {early}": (difference_of_means(totals[:early], cpu_totals[:early]), MEAN),
        f"the mean of all {steps}": (difference_of_means(totals, cpu_totals), MEAN),
    }
    wrong = [
        f"{name} differs by {difference:.2%} (limit {allowed:.1%})"
        for name, (difference, allowed) in differences.items()
        if not difference <= allowed
    ]
    numbers["differences"] = {name: difference for name, (difference, _) in differences.items()}
    if wrong:
        raise Failed("; ".join(wrong), **numbers)
    if difference_of_means(cpu_totals[: steps // 2], cpu_totals[steps // 2 :]) < 3 * MEAN:
        raise Failed("the losses of the CPU changed too little in these steps to prove anything", **numbers)
    return Outcome(", ".join(f"{name}: {value:.2%}" for name, value in numbers["differences"].items()), numbers)


def difference_of_means(actual: list[float], expected: list[float]) -> float:
    """Return the difference of two means, relative to the second one."""
    mean = sum(expected) / len(expected)
    return abs(sum(actual) / len(actual) - mean) / abs(mean)


def cpu_losses(context: Context, variant: Variant) -> Losses:
    """Return the losses of a variant on the CPU in float32. They are computed once."""
    name = "cpu_dense_teacher" if variant.dense_teacher else f"cpu_{variant.optimizer}"

    def train() -> Losses:
        overrides = {"device": "cpu", "use_onednn": False}
        with context.on_reference():
            return train_losses(context, variant._replace(dtype="float32"), name, overrides)

    return context.shared_value(name, train)


def train_losses(context: Context, variant: Variant, name: str, overrides: Mapping[str, Any] = {}) -> Losses:
    """Train a variant in a run called `name` on the current device, with `overrides` by dotted key."""
    from ppdet.acceptance.training_hooks import LossRecorder
    from ppdet.engine.trainer import Trainer

    steps = context.pick(full=STEPS, quick=QUICK_STEPS)
    recorder = LossRecorder()
    cfg = variant_config(context, variant, name, {"max_iters": steps, **overrides})
    Trainer(cfg, overwrite=True, hooks=[recorder]).train()
    return recorder.losses


def variant_config(context: Context, variant: Variant, name: str, overrides: Mapping[str, Any]) -> Config:
    """Return the configuration of a variant in a run called `name`, with `overrides` by dotted key."""
    settings = {**OPTIMIZERS[variant.optimizer], "epoch": None}
    if variant.dtype != "float32":
        settings.update(amp=True, amp_level=variant.level, amp_dtype=variant.dtype)
    if variant.dense_teacher:
        settings.update(dense_teacher_settings(context))
    else:
        settings["pretrain_weights"] = str(start_weights(context))
    return run_config(context, name, {**settings, **overrides})


def dense_teacher_settings(context: Context) -> dict[str, Any]:
    """Return the settings of DenseTeacher, which starts from the trained detector; validation images are unlabelled."""
    supervised = run_config(context, "supervised")
    normalize = supervised.value("TrainReader.sample_transforms")[1]
    batch_transforms = supervised.value("TrainReader.batch_transforms")
    return {
        "ssod_method": "DenseTeacher",
        "use_simple_ema": True,
        "ema_decay": 0.99,
        "semi_start_iters": 0,
        "ema_start_iters": 0,
        "DenseTeacher": {"train_cfg": {"suppress": "linear", "ratio": 0.05}},
        "UnsupTrainDataset": {
            "name": "SemiCOCODataSet",
            "dataset_dir": str(shapes_dataset(context)),
            "image_dir": "images/val",
            "anno_path": "annotations/val.json",
            "data_fields": ["image"],
            "supervised": False,
        },
        "SemiTrainReader": {
            "sample_transforms": [{"Decode": {}}, {"RandomFlip": {}}],
            "weak_aug": [normalize],
            "strong_aug": [{"RandomDistort": {}}, normalize],
            "sup_batch_transforms": batch_transforms,
            "unsup_batch_transforms": batch_transforms[:2],  # without the targets
            "sup_batch_size": SEMI_BATCH,
            "unsup_batch_size": SEMI_BATCH,
        },
        "pretrain_weights": str(trained_run(context) / "model_final.pdparams"),
    }


def start_weights(context: Context) -> Path:
    """Return a file of random weights, drawn on the CPU, because random generators differ between devices."""

    def write(folder: Path) -> None:
        import paddle

        from ppdet.engine.build import build_model

        with context.on_reference():
            paddle.seed(context.seed)
            paddle.save(build_model(run_config(context, "start")).state_dict(), str(folder / "start.pdparams"))

    return context.shared_folder("start", write) / "start.pdparams"
