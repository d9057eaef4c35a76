"""The schedule of a run in steps, and warnings about parts of it that do not fit into the run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ppdet.core.compose.scaling import scheduler_key
from ppdet.core.config import Config
from ppdet.engine.training.run_length import steps_before
from ppdet.optimizer.learning_rate import CosineDecay, LearningRate, Length, PiecewiseDecay
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
SHARE = 0.01  # tolerated difference between the cosine's end and the run's end, as a share of the run
LEFT = 0.01  # tolerated share of the weights from which an average starts


@dataclass
class RunSchedule:
    """The events of a run at their steps. Steps are counted from 1, as in the log."""

    cfg: Config
    schedule: LearningRate
    total: int  # steps of the run
    steps_per_epoch: int
    steps_per_iteration: float  # steps for which one iteration of a milestone stands, see run_length.py
    closing: Mapping[str, float] = field(
        default_factory=dict
    )  # transform of several images -> steps in which it is used
    growing: Mapping[str, int] = field(default_factory=dict)  # transform -> step until which its probability grows

    @property
    def length(self) -> Length:
        """Number of steps in an epoch, an iteration and the run."""
        return Length(self.steps_per_epoch, self.steps_per_iteration, self.total)

    @property
    def warmup(self) -> int:
        """Number of steps of the warm-up."""
        return self.schedule.warmup.length(self.length) if self.schedule.warmup else 0

    @property
    def milestones(self) -> list[float]:
        """Steps after which the learning rate changes."""
        return self.schedule.decay.steps(self.length) if isinstance(self.schedule.decay, PiecewiseDecay) else []

    @property
    def cosine_end(self) -> float | None:
        """Step at which the cosine reaches its end, None for another decay."""
        decay = self.schedule.decay
        return decay.end(self.length) if isinstance(decay, CosineDecay) else None

    @property
    def semi_start(self) -> int | None:
        """Number of steps before unlabeled images count, None in supervised training."""
        return steps_before(self.cfg, "semi_start_iters", self.total) if self.cfg["ssod_method"] else None

    @property
    def average_start(self) -> int | None:
        """Number of steps before averaging starts, None without an average of weights."""
        averages = self.cfg["use_ema"] or self.cfg["use_simple_ema"]
        return steps_before(self.cfg, "ema_start_iters", self.total) if averages else None

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.schedule.rate(step - 1, self.steps_per_epoch, self.steps_per_iteration, self.total)

    def text(self) -> str:
        """Return the schedule in one line."""
        epochs = self.total / self.steps_per_epoch
        parts = [f"{self.total} steps ({epochs:g} epoch{'s' * (epochs != 1)} of {self.steps_per_epoch})"]
        if self.warmup:
            parts.append(f"warm-up until step {self.warmup}")
        parts.append(f"learning rate {self.schedule.base_lr:g}" + (" after it" if self.warmup else ""))
        if self.milestones:
            parts.append("changed after step " + join_steps(self.milestones))
        if self.cosine_end is not None:
            parts.append(f"a cosine down to step {self.cosine_end:.0f}")
        parts.append(f"{self.rate(self.total):.3g} at the end")
        if self.average_start:
            parts.append(f"weights averaged after step {self.average_start}")
        if self.semi_start is not None:
            parts.append(f"unlabeled images count after step {self.semi_start + 1}")
        return "schedule: " + ", ".join(parts + self.closing_texts())

    def closing_texts(self) -> list[str]:
        """Return until when each transform of several images is used, such as "Mosaic until step 170"."""
        texts = []
        for name, steps in self.closing.items():
            last = math.ceil(min(steps, self.total))
            texts.append(
                f"{name} until step {last}" if 0 < last < self.total else f"{name} {'always' if last else 'never'}"
            )
        return texts

    def misfits(self) -> list[str]:
        """Return a sentence for each part that does not fit, with the setting to change."""
        return [
            *self._length_misfits(),
            *self._warmup_misfits(),
            *self._decay_misfits(),
            *self._start_misfits(),
            *self._average_misfits(),
            *self._growth_misfits(),
            *self._snapshot_misfits(),
        ]

    def _length_misfits(self) -> list[str]:
        epochs = self.cfg["epoch"]
        is_cut = self.cfg["max_iters"] and epochs and self.total < epochs * self.steps_per_epoch
        if is_cut and self.cfg.layer("epoch") > self.cfg.layer("max_iters"):
            return [f"max_iters {self.cfg['max_iters']} ends the run before epoch {epochs}: set max_iters=null"]
        return []

    def _warmup_misfits(self) -> list[str]:
        warmup = self.schedule.warmup
        if warmup is None or self.warmup * 2 <= self.total:
            return []
        key = self._key("epochs" if warmup.epochs is not None else "steps")
        return [f"the warm-up takes {self.warmup} of {self.total} steps: lower {key}"]

    def _decay_misfits(self) -> list[str]:
        found, key = [], self._key("milestones")
        late = [step for step in self.milestones if step > self.total]
        if late:
            found.append(f"the rate is to change after step {join_steps(late)}, the run has {self.total}: lower {key}")
        early = [step for step in self.milestones if step < min(self.warmup, self.total)]
        if early:
            found.append(f"the rate is to change after step {join_steps(early)}, within the warm-up: raise {key}")
        end = self.cosine_end
        if end is not None and abs(end - self.total) > SHARE * self.total:
            much = (
                "the rate stays at its minimum" if end < self.total else f"the run stops at {self.rate(self.total):.3g}"
            )
            fitting = f"set {self._key('max_epochs')}={max(1, round(self.total / self.steps_per_epoch))}"
            found.append(f"the cosine ends at step {end:.0f} of {self.total}, {much}: {fitting}")
        return found

    def _start_misfits(self) -> list[str]:
        found, semi, average = [], self.semi_start, self.average_start
        if semi and semi + 1 >= self.total:
            found.append(
                f"unlabeled images never count: the run has {self.total} steps, they count after semi_start_iters "
                f"{semi}: lower it (and ema_start_iters), or train longer"
            )
        if average and average >= self.total:
            found.append(f"the average of weights stays a copy until ema_start_iters {average}: lower it")
        elif semi is not None and average and average > semi + 1:
            found.append(
                f"the teacher is a copy of the student until ema_start_iters {average}, but teaches from "
                f"semi_start_iters {semi} on: set ema_start_iters below semi_start_iters"
            )
        return found

    def _average_misfits(self) -> list[str]:
        """An average with a constant decay d starts from weights whose share after n more steps is d ** n."""
        start, decay = self.average_start, self.cfg["ema_decay"]
        is_constant = self.cfg["use_simple_ema"] or self.cfg["ema_decay_type"] == "normal"
        averaged = self.total - (start or 0) - 1  # the first step is a copy
        if start is None or not is_constant or averaged < 1:
            return []
        left = decay**averaged
        if left <= LEFT:
            return []
        most = math.floor(LEFT ** (1 / averaged) * 10_000) / 10_000
        return [
            f"{left:.0%} of the averaged weights will be those of step {start + 1}: lower ema_decay {decay:g} to "
            f"{most:g}, or train longer"
        ]

    def _growth_misfits(self) -> list[str]:
        return [
            f"the probability of {name} grows until step {last}: lower its upper_iter, or set it to 0"
            for name, last in self.growing.items()
            if last > self.total
        ]

    def _snapshot_misfits(self) -> list[str]:
        every, epochs = self.cfg["snapshot_epoch"], self.total / self.steps_per_epoch
        if every > epochs > 1:
            return [f"the only checkpoint (and evaluation) is at the end of the run: lower snapshot_epoch {every}"]
        return []

    def _key(self, parameter: str) -> str:
        """Return the dotted key of a scheduler's parameter, such as LearningRate.schedulers.0.milestones."""
        return f"{scheduler_key(self.cfg, parameter) or 'LearningRate.schedulers'}.{parameter}"


def join_steps(steps: list[float]) -> str:
    """Return steps as text, such as "60000, 80000"."""
    return ", ".join(str(round(step)) for step in steps)


def plan_of(trainer: "Trainer") -> RunSchedule:
    """Return the plan of a trainer's run."""
    return RunSchedule(
        trainer.cfg,
        trainer.schedule,
        trainer.total_steps,
        trainer.steps_per_epoch,
        trainer.steps_per_iteration,
        {name: epochs * trainer.steps_per_epoch for name, epochs in trainer.reader.closing.by_transform().items()},
        trainer.reader.growing,
    )


def warn_of_misfits(plan: RunSchedule) -> None:
    """Log one warning with the schedule and everything that does not fit into the run, if anything does not."""
    misfits = plan.misfits()
    if misfits:
        logger.warning("%s. It does not fit: %s", plan.text(), "; ".join(misfits))
