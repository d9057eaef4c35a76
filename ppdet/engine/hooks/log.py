"""Lines of the log."""

import datetime
import time

import paddle

from ppdet.engine import distributed
from ppdet.engine.hooks.base import Hook, at_log_line
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


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
            trainer.images_per_step,
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
                finite = paddle.isfinite(value)
                # A skipped step's loss would spoil the mean.
                total, count = self.sums.get(name, (0.0, 0.0))
                self.sums[name] = (
                    total + paddle.where(finite, value, paddle.zeros_like(value)),
                    count + finite.astype("float32"),
                )
        self.steps += 1
        self.data_seconds += trainer.data_seconds
        if at_log_line(trainer, self.interval):
            self.write(trainer)
            self.reset()

    def write(self, trainer: object) -> None:
        # Reading the losses waits for the device, so that the time measured after it includes all of its work.
        means = {name: float(total) / max(1.0, float(count)) for name, (total, count) in self.sums.items()}
        losses = " ".join(f"{name}: {value:.4f}" for name, value in means.items())
        seconds = time.perf_counter() - self.mark
        done = trainer.iteration - self.first_iteration
        left = trainer.epochs * trainer.steps_per_epoch - trainer.iteration
        eta = left * (time.perf_counter() - self.start) / done
        images = trainer.images_per_step * self.steps
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
