"""Training steps without a run around them: to be timed, traced and counted."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.acceptance.context import Context

if TYPE_CHECKING:
    from ppdet.engine.training.precision import Precision

# FCOS R50's convolutions, forward and backward, for an image of 896x1152 (docs/PERFORMANCE.md): GFLOP in a megapixel.
R50_GFLOP_PER_MEGAPIXEL = 1163 / (896 * 1152 / 1e6)
# So that random weights on random images stay finite for as many steps as wanted, and nothing is downloaded.
CALM = ["pretrain_weights=null", "auto_lr=null", "LearningRate.base_lr=1e-6", "use_ema=false", "log_iter=1000000"]
WARM_UP = 3  # steps in which libraries choose their kernels


def photographs(context: Context) -> Path:
    """Annotations of JPEG files that a training reader scales to 800x1333; of small ones where the kit is quick."""

    def write(folder: Path) -> None:
        from ppdet.acceptance.photographs import write_photographs

        size = context.pick((384, 640), (96, 160))
        write_photographs(folder, count=context.pick(160, 12), size=size, seed=context.seed)

    return context.shared("photographs", write) / "train.json"


def dataset_options(slot: str, annotations: Path) -> list[str]:
    """Overrides that make this the data set of a slot, such as TrainDataset."""
    fields = ", data_fields: [image, gt_bbox, gt_class, is_crowd]" if slot == "TrainDataset" else ""
    folder = json.dumps(str(annotations.parent))
    names = f"image_dir: images, anno_path: {annotations.name}"
    return [f"{slot}={{name: COCODataSet, dataset_dir: {folder}, {names}{fields}}}"]


def r50_config(context: Context, options: Sequence[str] = ()) -> object:
    """FCOS R50 on batches of 2 x 800x1333, padded to 896x1408; R18 on small ones where the kit is quick."""
    from ppdet.core.workspace import load_config

    small = ["ResNet.depth=18", "TrainReader.sample_transforms.1.Resize.target_size=[96,160]"]
    output = json.dumps(str(context.work / "runs"))
    data = dataset_options("TrainDataset", photographs(context))
    options = [*CALM, *data, f"save_dir={output}", "worker_num=0", *context.pick([], small), *options]
    return load_config("fcos_r50_fpn_1x_coco", options)


def trainer_of(cfg: object, hooks: Sequence[object] = ()) -> object:
    """A trainer that is ready for `step`, or to `train`.

    Float16 begins with a loss scale of 1: with the usual first one, which is too large, the first updates would not be
    made, and where nothing guards them they would be infinite.
    """
    from ppdet.engine.trainer import Trainer

    trainer = Trainer(cfg, hooks=list(hooks))
    trainer.precision.load_state({"scale": 1.0, "good_steps": 0})
    trainer.model.train()
    return trainer


def first_batch(trainer: object) -> dict:
    """The reader's first batch, on the device."""
    batches = iter(trainer.reader)
    with contextlib.closing(batches):
        return next(batches)


def step(trainer: object, batch: dict) -> None:
    """One update from this batch, as the training loop makes it, without hooks."""
    trainer.batches = [batch]
    trainer.train_step()
    trainer.iteration += 1


class NoGuard:
    """What a training step would be without StepGuard: the update is made, whatever the gradients are."""

    def __init__(self, trainer: object) -> None:
        self.parameters = [p for p in trainer.model.parameters() if p.trainable]
        self.optimizer = trainer.optimizer

    def before_forward(self) -> None: ...

    def check(self, precision: "Precision") -> None:
        if precision.loss_scale is not None:
            precision.unscale([p.grad for p in self.parameters if p.grad is not None])

    def update(self, checked: None, record: Callable[[], dict]) -> None:
        self.optimizer.step()


@contextlib.contextmanager
def guarded_by(trainer: object, guard: object) -> Iterator[None]:
    """Within the block the trainer's steps go through this guard."""
    own, trainer.guard = trainer.guard, guard
    try:
        yield
    finally:
        trainer.guard = own


def seconds_of(run: Callable[[], None], times: int) -> float:
    """Seconds of one of so many calls, until the device is done; it is waited for once, at the end."""
    from ppdet.utils import device

    device.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        run()
    device.synchronize()
    return (time.perf_counter() - start) / times


def in_turns(runs: dict[str, Callable[[], None]], *, turns: int, seconds: float) -> dict[str, float]:
    """Median seconds of a call of each, measured in turns, so that a slow moment meets all of them.

    Args:
        turns: measurements of each. seconds: that one of them may take, about; it has at least two calls.
    """
    one = {}
    for name, run in runs.items():
        seconds_of(run, WARM_UP)
        one[name] = seconds_of(run, 1)
    times = {name: max(2, min(30, round(seconds / value))) for name, value in one.items()}
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            measured[name].append(seconds_of(run, times[name]))
    return {name: statistics.median(values) for name, values in measured.items()}


def padded_size(batch: dict) -> str:
    """ "2 x 896x1408" """
    count, _, height, width = batch["image"].shape
    return f"{count} x {height}x{width}"


def tera_flops(batch: dict, seconds: float) -> float:
    """Of R50's convolutions, 10^12 a second."""
    count, _, height, width = batch["image"].shape
    return count * height * width / 1e6 * R50_GFLOP_PER_MEGAPIXEL / 1e3 / seconds


def mib(count: int | None) -> int | None:
    return None if count is None else count >> 20
