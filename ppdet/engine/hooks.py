"""Everything optional about training. A hook's methods are called by the trainer with itself as the argument."""

import contextlib
import datetime
import math
import time
from collections.abc import Iterator
from pathlib import Path

import paddle

from ppdet.core.config import Config
from ppdet.data.transform.color import NormalizeImage
from ppdet.engine import distributed
from ppdet.engine.checkpoint import save_state, save_training
from ppdet.utils.logger import get_logger
from ppdet.visualize import draw_batch

logger = get_logger(__name__)


class DivergedError(RuntimeError):
    """Training that cannot recover; the message says where it happened and what to change."""

    user_error = True


class Hook:
    """Base of all hooks; override what you need."""

    def before_train(self, trainer: object) -> None: ...

    def before_step(self, trainer: object) -> None: ...

    def after_step(self, trainer: object) -> None: ...

    def after_epoch(self, trainer: object) -> None: ...

    def after_train(self, trainer: object) -> None: ...


def default_hooks(cfg: Config, *, evaluate: bool) -> list[Hook]:
    """The hooks of an ordinary run, in the order in which they have to be called."""
    return [
        LogHook(cfg["log_iter"]),
        BatchPictureHook(),
        DeadSideHook(interval=cfg["log_iter"]),
        CheckpointHook(cfg["snapshot_epoch"], evaluate=evaluate),
    ]


def at_log_line(trainer: object, interval: int) -> bool:
    """Whether the log has a line after this step: the first of an epoch, every `interval` steps, and the last."""
    return interval == 1 or trainer.step % interval == 0 or trainer.step + 1 == trainer.steps_per_epoch


class LogHook(Hook):
    """A line every `interval` steps: rate, losses averaged since the last line, speed, time left."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.reset()

    def reset(self) -> None:
        self.sums: dict = {}
        self.steps = 0
        self.data_seconds = 0.0

    def before_train(self, trainer: object) -> None:
        self.start = time.perf_counter()
        self.first_iteration = trainer.iteration
        parameters = sum(p.size for p in trainer.model.parameters())
        trained = sum(p.size for p in trainer.model.parameters() if p.trainable)
        logger.info("model: %.2f M parameters, %.2f M of them trained", parameters / 1e6, trained / 1e6)
        logger.info(
            "training: %d epochs of %d steps, %d images per step on %d device(s); output: %s",
            trainer.epochs,
            trainer.steps_per_epoch,
            trainer.reader.batch_size * distributed.world_size(),
            distributed.world_size(),
            trainer.output,
        )

    def before_step(self, trainer: object) -> None:
        if self.steps == 0:
            self.mark = time.perf_counter() - trainer.data_seconds

    def after_step(self, trainer: object) -> None:
        # Sums stay on the device: reading them waits for it, so that happens at log lines only.
        for name, value in trainer.losses.items():
            if name.startswith("loss"):
                value = value.detach()
                self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1
        self.data_seconds += trainer.data_seconds
        if at_log_line(trainer, self.interval):
            self.write(trainer)
            self.reset()

    def write(self, trainer: object) -> None:
        # Reading the losses waits for the device, so that the time measured after it includes all of its work.
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        losses = " ".join(f"{name}: {value:.4f}" for name, value in means.items())
        seconds = time.perf_counter() - self.mark
        if not all(math.isfinite(value) for value in means.values()):
            raise DivergedError(
                f"the loss is not finite any more in epoch {trainer.epoch + 1}, at step {trainer.step + 1} or up to "
                f"{self.steps - 1} steps before ({losses}): lower LearningRate.base_lr, lengthen the warm-up or set "
                "OptimizerBuilder.clip_grad_by_norm; checkpoints that were written are good"
            )
        done = trainer.iteration - self.first_iteration
        left = trainer.epochs * trainer.steps_per_epoch - trainer.iteration
        eta = left * (time.perf_counter() - self.start) / done
        images = trainer.reader.batch_size * distributed.world_size() * self.steps
        width = len(str(trainer.steps_per_epoch))
        logger.info(
            "Epoch: [%d/%d] [%*d/%d] learning_rate: %.6f %s eta: %s "
            "batch_cost: %.3f data_cost: %.3f ips: %.2f images/s",
            trainer.epoch + 1,
            trainer.epochs,
            width,
            trainer.step + 1,
            trainer.steps_per_epoch,
            trainer.learning_rate,
            losses,
            datetime.timedelta(seconds=round(eta)),
            seconds / self.steps,
            self.data_seconds / self.steps,
            images / max(seconds, 1e-9),
        )

    def after_train(self, trainer: object) -> None:
        seconds = datetime.timedelta(seconds=round(time.perf_counter() - self.start))
        skipped = sum(distributed.gather(len(trainer.reader.skipped)))
        logger.info("trained %d steps in %s", trainer.iteration - self.first_iteration, seconds)
        if skipped:
            logger.warning("%d training images could not be read and were replaced by others", skipped)


class BatchPictureHook(Hook):
    """A picture of the first batch, with its boxes and positive locations: look at it before you trust a loss."""

    def after_step(self, trainer: object) -> None:
        if trainer.step or trainer.epoch or distributed.rank() != 0:
            return
        path = trainer.output / "train_batch.jpg"
        batch = {k: v.numpy() for k, v in trainer.batch.items() if isinstance(v, paddle.Tensor)}
        mean, std = normalization(trainer.reader)
        names = trainer.reader.dataset.class_names
        model = trainer.model
        draw_batch(batch, path, mean, std, model.strides, num_shift=model.num_shift, class_names=names)
        logger.info("picture of the first batch: %s", path)


def normalization(reader: object) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, of pixel values in 0..1, that a reader's images were normalised with."""
    transforms = [*reader.sample_transforms, *reader.batch_transforms]
    normalize = next((t for t in transforms if isinstance(t, NormalizeImage)), None)
    mean, std = normalize.pixel_mean_std() if normalize else ([0.0] * 3, [1.0] * 3)
    return [m / 255 for m in mean], [s / 255 for s in std]


class DeadSideHook(Hook):
    """Warns when a side is predicted as zero at nearly all positives of a level.

    Distances that pass through ReLU get no gradient where they are zero: such a side stays dead, and the loss alone
    does not show it.

    Args:
        window: steps, at least, over which positives are counted. share: of zeros that raises the warning.
        least: positives that a level must have had in a window to be judged.
        interval: of the log's lines; judging reads from the device, and waits for one of them.
    """

    SIDES = ("left", "top", "right", "bottom")

    def __init__(self, window: int = 50, share: float = 0.95, least: int = 50, interval: int = 1) -> None:
        self.window = window
        self.interval = interval
        self.share = share
        self.least = least
        self.steps = 0
        self.positives = self.zeros = 0
        self.warned: set[tuple[int, int]] = set()

    def after_step(self, trainer: object) -> None:
        if "zero_sides" not in trainer.losses:
            return
        self.positives = self.positives + trainer.losses["positives"]
        self.zeros = self.zeros + trainer.losses["zero_sides"]
        self.steps += 1
        if self.steps >= self.window and at_log_line(trainer, self.interval):
            self.judge(trainer.model.strides)
            self.steps = 0
            self.positives = self.zeros = 0

    def judge(self, strides: list[int]) -> None:
        positives, zeros = self.positives.numpy(), self.zeros.numpy()
        for level, stride in enumerate(strides):
            for side, name in enumerate(self.SIDES):
                dead = positives[level] >= self.least and zeros[level, side] > self.share * positives[level]
                if dead and (level, side) not in self.warned:
                    self.warned.add((level, side))
                    logger.warning(
                        "dead side: the %s distance of level P%d (stride %d) is zero at %d of %d positives in the last "
                        "%d steps, so it learns nothing any more. Boxes will miss that side. Start again with a lower "
                        "base_lr or a longer warm-up, or from trained weights",
                        name,
                        stride.bit_length() - 1,
                        stride,
                        zeros[level, side],
                        positives[level],
                        self.steps,
                    )


class CheckpointHook(Hook):
    """Writes a checkpoint every `interval` epochs and at the end; with `evaluate`, evaluates it and keeps the best."""

    def __init__(self, interval: int, *, evaluate: bool) -> None:
        self.interval = interval
        self.evaluate = evaluate
        self.history: list[tuple[int, float]] = []

    def after_epoch(self, trainer: object) -> None:
        last = trainer.epoch + 1 == trainer.epochs
        if (trainer.epoch + 1) % self.interval and not last:
            return
        distributed.average_statistics(trainer.model.state_dict())
        if trainer.ema:
            distributed.average_statistics(trainer.ema.state_dict())
        name = "model_final" if last else str(trainer.epoch)
        # Saved before it is evaluated: whatever goes wrong there does not cost the epoch.
        if distributed.rank() == 0:
            self.save(trainer, name)
        if self.evaluate and self.is_best(trainer) and distributed.rank() == 0:
            self.save(trainer, "best_model")
        if self.evaluate and distributed.rank() == 0:
            save_state(trainer.output / name, trainer.state())

    def is_best(self, trainer: object) -> bool:
        with averaged_weights(trainer):
            numbers = trainer.evaluator(trainer.model)
        if numbers is None:
            return False
        ap = numbers["AP"]
        self.history.append((trainer.epoch + 1, ap))
        best = trainer.best_ap is None or ap > trainer.best_ap
        trainer.best_ap = ap if best else trainer.best_ap
        logger.info("AP after epoch %d: %.3f, best: %.3f", trainer.epoch + 1, ap, trainer.best_ap)
        return best

    def save(self, trainer: object, name: str) -> None:
        prefix = Path(trainer.output) / name
        save_training(prefix, trainer.model, trainer.optimizer, trainer.ema, trainer.state())
        logger.info("checkpoint: %s.pdparams", prefix)

    def after_train(self, trainer: object) -> None:
        if self.history:
            logger.info("AP by epoch: %s", ", ".join(f"{epoch}: {ap:.3f}" for epoch, ap in self.history))
        final = trainer.output / "model_final.pdparams"
        if distributed.rank() == 0 and final.exists():
            logger.info("weights: %s", final)


@contextlib.contextmanager
def averaged_weights(trainer: object) -> Iterator[None]:
    """Within the block the trainer's model holds the averaged weights, if there are any."""
    if trainer.ema is None:
        yield
        return
    trained = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.set_state_dict(trainer.ema.state_dict())
    try:
        yield
    finally:
        trainer.model.set_state_dict(trained)
