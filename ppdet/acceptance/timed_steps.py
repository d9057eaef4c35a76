"""Single training steps outside of a run, to be timed, traced or counted, on generated JPEG files."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdet.acceptance.context import Context
from ppdet.core.config import Config

if TYPE_CHECKING:
    from ppdet.engine.hooks import Hook
    from ppdet.engine.trainer import Trainer
    from ppdet.engine.training.precision import Precision

# With these settings, random weights stay finite on random images for any number of steps, and nothing is downloaded.
STABLE = ["pretrain_weights=null", "auto_lr=null", "LearningRate.base_lr=1e-6", "use_ema=false", "log_iter=1000000"]
WARM_UP = 3  # steps in which libraries choose their kernels


def r50_config(context: Context, options: Sequence[str] = ()) -> Config:
    """Return the configuration of FCOS R50 with batches of 2 x 800x1333 pixels, which padding makes 896x1408.

    A quick run uses ResNet-18 and small images.

    Args:
        options: further overrides as -o takes them.
    """
    from ppdet.core.workspace import load_config

    def write(folder: Path) -> None:
        from ppdet.acceptance.jpeg_dataset import write_jpeg_dataset

        size = context.pick((384, 640), (96, 160))
        write_jpeg_dataset(folder, count=context.pick(160, 12), size=size, seed=context.seed)

    folder = json.dumps(str(context.shared_folder("jpeg_dataset", write)))
    data = f"name: COCODataSet, dataset_dir: {folder}, image_dir: images, anno_path: train.json"
    small = ["ResNet.depth=18", "TrainReader.sample_transforms.1.Resize.target_size=[96,160]"]
    own = [
        f"TrainDataset={{{data}, data_fields: [image, gt_bbox, gt_class, is_crowd]}}",
        f"save_dir={json.dumps(str(context.work / 'runs'))}",
        "worker_num=0",
    ]
    return load_config("fcos_r50_fpn_1x_coco", [*STABLE, *own, *context.pick([], small), *options])


def ready_trainer(cfg: Config, hooks: "Sequence[Hook]" = ()) -> "Trainer":
    """Return a trainer for `run_step` or `train`, in training mode and, with float16, with a loss scale of 1.

    The usual initial loss scale is too large on purpose, and the first updates are skipped. Without a guard they would
    be infinite.
    """
    from ppdet.engine.trainer import Trainer

    trainer = Trainer(cfg, hooks=hooks)
    trainer.precision.load_state({"scale": 1.0, "good_steps": 0})
    trainer.model.train()
    return trainer


def first_batch(trainer: "Trainer") -> dict[str, Any]:
    """Return the first batch of the trainer's reader, on the device."""
    batches = iter(trainer.reader)
    with contextlib.closing(batches):
        return next(batches)


def run_step(trainer: "Trainer", batch: dict[str, Any]) -> None:
    """Make one update from this batch, as the training loop does, without hooks."""
    trainer.batches = [batch]
    trainer.train_step()
    trainer.iteration += 1


@contextlib.contextmanager
def without_guard(trainer: "Trainer") -> Iterator[None]:
    """Within the block, the trainer makes every update, whatever the gradients are."""
    import paddle

    from ppdet.engine.training.guard import Checked, StepGuard

    parameters, checked = [p for p in trainer.model.parameters() if p.trainable], Checked(paddle.ones([1]), None)

    class NoGuard(StepGuard):
        def __init__(self) -> None: ...

        def before_forward(self) -> None: ...

        def check(self, precision: "Precision") -> Checked:
            if precision.loss_scale is not None:
                precision.unscale([p.grad for p in parameters if p.grad is not None])
            return checked

        def update(self, checked: Checked, record: Callable[[], dict]) -> None:
            trainer.optimizer.step()

    guard, trainer.guard = trainer.guard, NoGuard()
    try:
        yield
    finally:
        trainer.guard = guard


def seconds_per_call(function: Callable[[], None], calls: int) -> float:
    """Call the function so many times, wait for the device, and return the seconds per call."""
    from ppdet.utils import device

    device.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    device.synchronize()
    return (time.perf_counter() - start) / calls


def median_seconds(functions: dict[str, Callable[[], None]], *, rounds: int, seconds: float) -> dict[str, float]:
    """Return the median seconds per call of each function, by name.

    Each round measures all functions, so that a slow moment of the machine affects them equally.

    Args:
        seconds: about how long one measurement of a function takes; it makes 2 to 30 calls.
    """
    calls = {}
    for name, function in functions.items():
        seconds_per_call(function, WARM_UP)
        calls[name] = max(2, min(30, round(seconds / seconds_per_call(function, 1))))
    measured: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            measured[name].append(seconds_per_call(function, calls[name]))
    return {name: statistics.median(values) for name, values in measured.items()}


def mib(count: int | None) -> int | None:
    """Return a number of bytes in whole MiB."""
    return None if count is None else count >> 20
