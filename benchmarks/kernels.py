"""Number of kernels that Paddle launches in one training step, by part of the step. No GPU is needed.

The step is the trainer's own, on a CPU, with the code paths of a GPU and with Paddle's layers instead of oneDNN's.
Paddle's profiler records the calls of kernels. It does not see gradients that `clear_grad` fills with zeros; these are
added. Each call is at least one launch on a GPU. SEVERAL lists the kernels of the guard, the loss scale and the average
of weights that launch more, according to their sources.
"""

import collections
import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/kernels.py                                       # FCOS R50, 1 image of 128x160
  python benchmarks/kernels.py --of "forward: network"               # kernel by kernel
  python benchmarks/kernels.py --loss-scale                          # with the scale that float16 needs
  python benchmarks/kernels.py -o OptimizerBuilder.clip_grad_by_norm=35.0
  python benchmarks/kernels.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml \\
    -o OptimizerBuilder.optimizer.type=AdamW OptimizerBuilder.optimizer.momentum=null
"""
# Kernels with more than one launch on a GPU, according to paddle/phi/kernels/gpu. amp_kernel.cu inverts the scale in a
# separate launch, and fills gradients with zeros in another one before it changes the scale. adam_kernel.cu and
# adamw_kernel.cu update the powers of beta in a separate launch if these are on the device. A sum of squares is CUB's
# reduction, which is one launch for small tensors and two for large ones.
SEVERAL = {"check_finite_and_unscale": 2, "update_loss_scaling": 2, "adam": 2, "adamw": 2, "squared_l2_norm": 2}
# Parts of the update, which the guard may roll back.
UPDATE = ("unscale and finite check", "loss scale", "guard: keep and roll back", "optimizer")
PREFIX = "part: "
BACKWARD = "Gradient Backward"  # Paddle's name of the event
ENDS = (" kernel launch", " compute")  # ends of the names of the profiler's events for kernels, in Paddle 3 and 2.6


class Kernels:
    """A context manager that counts kernels.

    Attributes:
        counts: for each part of the step, the number of calls by kernel; calls outside all parts are in the part "".
    """

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)

    def __enter__(self) -> "Kernels":
        from paddle import profiler

        self.profiler = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda finished: None)
        self.profiler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.profiler.stop()
        for root in self.profiler.profiler_result.get_data().values():
            self.collect(root, "", "")
        del self.profiler  # Paddle allows one profiler at a time

    def collect(self, event: object, part: str, operator: str) -> None:
        """Count the kernels of an event of the profiler's tree, and of the events inside it.

        Args:
            part: the part of the step that the event is in.
            operator: name of the event that this one is inside.
        """
        if event.name.startswith(PREFIX):
            part = event.name[len(PREFIX) :]
        elif event.name == BACKWARD:
            part = "backward"
        if event.name == "compute":  # an operator of the old kind
            self.counts[part][operator] += 1
        for end in ENDS:
            if event.name.endswith(end):
                self.counts[part][event.name[: -len(end)].rstrip("_")] += 1  # Paddle 2.6 marks in-place kernels by "_"
        for child in event.children_node:
            self.collect(child, part, event.name)

    def total(self, *parts: str) -> int:
        """Return the number of calls in these parts, or in all parts if none is given."""
        return sum(sum(self.counts[part].values()) for part in parts or list(self.counts))


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Assign kernels that are called inside the block to this part, unless they are in another part inside it."""
    from paddle import profiler

    with profiler.RecordEvent(PREFIX + name):
        yield


def as_part(name: str, function: Callable) -> Callable:
    """Return the function, with all its kernels assigned to the part `name`."""

    @functools.wraps(function)
    def run(*values: object, **options: object) -> object:
        with part(name):
            return function(*values, **options)

    return run


def make_data(folder: Path, classes: int) -> list[str]:
    """Write a data set of two images; return the overrides that name it. The counted batch is not read from it."""
    import cv2
    import numpy as np

    images = [{"id": n, "file_name": f"{n}.jpg", "width": 160, "height": 128} for n in (1, 2)]
    for image in images:
        cv2.imwrite(str(folder / image["file_name"]), np.full((128, 160, 3), 90, dtype="uint8"))
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 60, 60], "area": 3600, "iscrowd": 0} for n in (1, 2)
    ]
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, classes + 1)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    return [f"TrainDataset.dataset_dir={folder}", "TrainDataset.image_dir=.", "TrainDataset.anno_path=truth.json"]


def count_step(config: str, options: list[str], shape: tuple[int, int, int], *, scaled: bool = False) -> Kernels:
    """Count the kernels of the third step of a run. The first two steps also create state, such as the optimizer's.

    Args:
        config: a YAML file.
        options: overrides, as after -o.
        shape: number of images, height and width of the batch.
        scaled: scale the loss, as in float16.
    """
    import paddle
    from train_step import random_batch

    from ppdet.core.workspace import load_config
    from ppdet.engine import trainer as module
    from ppdet.engine.training.loss_scale import LossScale

    with tempfile.TemporaryDirectory() as folder, behind_host():
        data = make_data(Path(folder), load_config(config, options)["num_classes"])
        own = ["pretrain_weights=null", "worker_num=0", f"save_dir={folder}/output"]
        cfg = load_config(config, [*own, "TrainReader.batch_size=1", "use_onednn=false", *data, *options])
        trainer = module.Trainer(cfg)
        trainer.model.train()
        if scaled:
            trainer.precision.loss_scale = LossScale()
        (make_targets,) = (t for t in trainer.reader.batch_transforms if hasattr(t, "distances_in_strides"))
        batch = random_batch(cfg, *shape, boxes=8, make_targets=make_targets)
        trainer.batches = [{**batch, "im_id": paddle.to_tensor([[1]] * shape[0])}]
        name_parts(trainer)
        for _ in range(2):
            trainer.train_step()
            trainer.iteration += 1
        with Kernels() as kernels:
            trainer.train_step()
        trainer.guard.read_pending_checks()
        if trainer.guard.total:
            raise SystemExit("the gradients of this step are not finite")
        filled = [p for p in trainer.model.parameters() if p.trainable and p.grad is not None]
        kernels.counts["clear_grad"]["fill with zeros"] += len(filled)
    return kernels


def behind_host() -> contextlib.AbstractContextManager:
    """Return a context in which the code takes the paths of a device that computes asynchronously, such as a GPU."""
    from ppdet.utils import device

    return mock.patch.object(device, "runs_behind_host", lambda: True)


def name_parts(trainer: object) -> None:
    """Wrap the methods that a training step calls, so that each one is a part of the count."""
    trainer.model.predict_maps = as_part("forward: network", trainer.model.predict_maps)
    trainer.model.loss = as_part("forward: loss", trainer.model.loss)
    trainer.guard.before_forward = as_part("guard: before the forward pass", trainer.guard.before_forward)
    for name in ("check", "update"):
        setattr(trainer.guard, name, as_part("guard: keep and roll back", getattr(trainer.guard, name)))
    trainer.precision.unscale = as_part("unscale and finite check", trainer.precision.unscale)
    trainer.precision.adjust = as_part("loss scale", trainer.precision.adjust)
    trainer.optimizer.step = as_part("optimizer", trainer.optimizer.step)
    trainer.optimizer.clear_grad = as_part("clear_grad", trainer.optimizer.clear_grad)
    if trainer.ema:
        trainer.ema.update = as_part("average of weights", trainer.ema.update)


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "-c", "--config", default=str(ROOT / "configs" / "fcos" / "fcos_r50_fpn_1x_coco.yml"), metavar="FILE"
    )
    parser.add_argument("--batch", type=int, default=1, help="images per step (default: 1)")
    parser.add_argument("--height", type=int, default=128, help="height of the images (default: 128)")
    parser.add_argument("--width", type=int, default=160, help="width of the images (default: 160)")
    parser.add_argument("--of", metavar="PART", help="list the kernels of one part of the table by name")
    parser.add_argument("--loss-scale", action="store_true", help="scale the loss, as float16 needs it")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    options, shape = ["use_ema=true", *arguments.opt], (arguments.batch, arguments.height, arguments.width)
    kernels = count_step(arguments.config, options, shape, scaled=arguments.loss_scale)
    name = Path(arguments.config).name
    if arguments.of:
        rows = kernels.counts[arguments.of].most_common()
        report(f"Kernels of {arguments.of}, {name}", ["kernel", "calls"], rows, arguments.json)
        return
    rows = [row(part, counter) for part, counter in kernels.counts.items()]
    update = sum((kernels.counts[part] for part in UPDATE), collections.Counter())
    total = sum(kernels.counts.values(), collections.Counter())
    rows += [row("whole update", update), row("whole step", total)]
    report(f"Kernels of a step, {name}", ["part", "kernels", "launches", "most frequent"], rows, arguments.json)


def row(name: str, counter: collections.Counter) -> list:
    """Return a row of the table: the part, its kernels and launches, and its most frequent kernels."""
    most = ", ".join(f"{number} {kernel}" for kernel, number in counter.most_common(4))
    return [name or "between the parts", sum(counter.values()), launches(counter), most]


def launches(counter: collections.Counter) -> int:
    """Return how many launches these calls are on a GPU, at most."""
    return sum(number * SEVERAL.get(kernel, 1) for kernel, number in counter.items())


if __name__ == "__main__":
    main()
