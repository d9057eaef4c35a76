"""Reports of a run: lines of the log, and a progress bar on a terminal."""

import datetime
import math
import time
from typing import TYPE_CHECKING, Any

import paddle
from tqdm import tqdm

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook, Report
from ppdet.engine.training.losses import scalars
from ppdet.engine.training.schedule import plan_of, warn_of_misfits
from ppdet.utils.logger import get_logger, is_watched
from ppdet.utils.printable import counted
from ppdet.utils.process.memory import peak_memory

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)


class LogHook(Hook):
    """Reports learning rate, mean losses, speed, remaining time and memory every `log_iter` steps.

    A report is a line of the log, and an event `after_report` for all hooks. On a terminal each epoch has a progress
    bar, and only the last report of an epoch is a line of the log. A report may be about the steps of several epochs,
    where these have fewer than `log_iter`; it is then a line on a terminal too.
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.epoch_ended: float | None = None  # time, until the next step of a report
        self._start_report()

    def _start_report(self) -> None:
        # By name: the sum of a loss over the steps with a finite value, and their number.
        self.sums: dict[str, Any] = {}
        self.steps = 0
        self.data_seconds = 0.0

    def before_train(self, trainer: "Trainer") -> None:
        self.start = time.perf_counter()
        self.first_iteration = trainer.iteration
        parameters = sum(p.size for p in trainer.model.parameters())
        trained = sum(p.size for p in trainer.model.parameters() if p.trainable)
        logger.info("model: %.2f M parameters, %.2f M of them trained", parameters / 1e6, trained / 1e6)
        logger.info(
            "training: %s of %s%s, %s per step on %s; output: %s",
            counted(trainer.epochs, "epoch"),
            counted(trainer.steps_per_epoch, "step"),
            f", {counted(trainer.total_steps, 'step')} in all" if trainer.total_steps % trainer.steps_per_epoch else "",
            counted(trainer.images_per_step, "image"),
            counted(collectives.world_size(), "device"),
            trainer.output,
        )
        plan = plan_of(trainer)
        if plan.closing:
            logger.info("images are joined, in a run of %d steps: %s", plan.total, ", ".join(plan.closing_texts()))
        if trainer.iteration < trainer.total_steps:
            warn_of_misfits(plan)

    def before_step(self, trainer: "Trainer") -> None:
        begin = time.perf_counter() - trainer.data_seconds
        if self.steps == 0:
            self.report_start = begin
        elif self.epoch_ended is not None:  # checkpoints and evaluations between epochs are no time of steps
            self.report_start += begin - self.epoch_ended
        self.epoch_ended = None
        if self.bar is None and is_watched():
            self.bar = tqdm(
                desc=f"Epoch {trainer.epoch + 1}/{trainer.epochs}",
                initial=trainer.step,
                total=trainer.steps_of_epoch,
                bar_format="{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}",
                leave=False,
                dynamic_ncols=True,
            )

    def after_step(self, trainer: "Trainer") -> None:
        # The sums stay on the device: reading them would wait for it, so that is done only for reports.
        for name, value in scalars(trainer.losses).items():
            value = value.detach()
            finite = paddle.isfinite(value)
            # The loss of a skipped step would spoil the mean.
            total, count = self.sums.get(name, (0.0, 0.0))
            total = total + paddle.where(finite, value, paddle.zeros_like(value))
            self.sums[name] = total, count + finite.astype("float32")
        self.steps += 1
        self.data_seconds += trainer.data_seconds
        if self.bar is not None:
            self.bar.update()
        if trainer.is_log_step:
            self._report(trainer)
            self._start_report()
        elif trainer.ends_epoch:
            self.close(trainer)
            self.epoch_ended = time.perf_counter()

    def _report(self, trainer: "Trainer") -> None:
        # Reading the losses waits for the device, so that the time measured after it includes all of its work.
        losses = {
            name: float(total) / float(count) if float(count) else math.nan
            for name, (total, count) in self.sums.items()
        }
        seconds = max(time.perf_counter() - self.report_start, 1e-9)
        done = trainer.iteration - self.first_iteration
        left = trainer.total_steps - trainer.iteration
        report = Report(
            learning_rate=trainer.learning_rate,
            losses=losses,
            seconds_per_step=seconds / self.steps,
            images_per_second=trainer.images_per_step * self.steps / seconds,
            data_share=min(1.0, self.data_seconds / seconds),
            max_mem_mib=peak_memory(),
        )
        eta = datetime.timedelta(seconds=round(left * (time.perf_counter() - self.start) / done))
        self._show(trainer, report, eta)
        trainer.call_hooks("after_report", report)

    def _show(self, trainer: "Trainer", report: Report, eta: datetime.timedelta) -> None:
        losses = {name: f"{value:.4f}" for name, value in report["losses"].items()}
        speed = f"{report['images_per_second']:.2f} images/s"
        if self.bar is not None:
            if not trainer.ends_epoch and trainer.steps_per_epoch >= trainer.cfg["log_iter"]:
                short = " ".join(f"{name.replace('loss_', '')} {value}" for name, value in losses.items())
                # The most important figures come first, since the terminal may cut the line.
                self.bar.set_postfix_str(f"eta {eta}, {speed}, {short}, data {report['data_share']:.0%}")
                return
            if trainer.ends_epoch:
                self.close(trainer)
        seconds, share = report["seconds_per_step"], report["data_share"]
        memory = " ".join(f"{where} {mib} MiB" for where, mib in report["max_mem_mib"].items())
        step = str(trainer.step + 1).rjust(len(str(trainer.steps_of_epoch)))
        line = (
            f"Epoch: [{trainer.epoch + 1}/{trainer.epochs}] [{step}/{trainer.steps_of_epoch}] "
            f"learning_rate: {report['learning_rate']:.6f} "
            f"{' '.join(f'{name}: {value}' for name, value in losses.items())} eta: {eta} "
            f"batch_cost: {seconds:.3f} data_cost: {seconds * share:.3f} ({100 * share:.0f}%) ips: {speed} "
            f"max_mem: {memory}"
        )
        logger.info("%s", line)

    def close(self, trainer: "Trainer") -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def after_train(self, trainer: "Trainer") -> None:
        seconds = datetime.timedelta(seconds=round(time.perf_counter() - self.start))
        skipped = sum(collectives.gather(len(trainer.reader.skipped)))
        logger.info("trained %s in %s", counted(trainer.iteration - self.first_iteration, "step"), seconds)
        if skipped:
            logger.warning("%d training images could not be read and were replaced by others", skipped)
