"""The schedule of a run as it will be, in steps, and what of it does not fit into the run."""

from dataclasses import dataclass

from ppdet.core.compose.scaling import scheduler_key
from ppdet.core.config import Config
from ppdet.optimizer.learning_rate import CosineDecay, Length, PiecewiseDecay
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
SHARE = 0.01  # of the run, by which a cosine may miss its end


@dataclass
class Plan:
    """What happens when, in a run of `total` steps. Steps are counted from 1, as the log counts them.

    schedule: the LearningRate. steps_per_iteration: of the milestones, see ppdet.engine.training.run_length.
    """

    cfg: Config
    schedule: object
    total: int
    steps_per_epoch: int
    steps_per_iteration: float

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return self.schedule.warmup.length(self.steps_per_epoch) if self.schedule.warmup else 0

    @property
    def milestones(self) -> list[float]:
        """Steps after which the rate changes."""
        length = Length(self.steps_per_epoch, self.steps_per_iteration)
        return self.schedule.decay.steps(length) if isinstance(self.schedule.decay, PiecewiseDecay) else []

    @property
    def cosine_end(self) -> int | None:
        """Step at which a cosine has reached its end."""
        decay = self.schedule.decay
        return decay.max_epochs * self.steps_per_epoch if isinstance(decay, CosineDecay) else None

    @property
    def semi_start(self) -> int | None:
        """Steps before unlabelled images count; None without any."""
        return self.cfg["semi_start_iters"] if self.cfg["ssod_method"] else None

    @property
    def average_start(self) -> int | None:
        """Steps before the average of weights is more than a copy; None without any."""
        return self.cfg["ema_start_iters"] if self.cfg["use_ema"] or self.cfg["use_simple_ema"] else None

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.schedule.rate(step - 1, self.steps_per_epoch, self.steps_per_iteration)

    def text(self) -> str:
        """The schedule in one line."""
        epochs = self.total / self.steps_per_epoch
        parts = [f"{self.total} steps ({epochs:g} epochs of {self.steps_per_epoch})"]
        if self.warmup:
            parts.append(f"warm-up until step {self.warmup}")
        parts.append(f"learning rate {self.schedule.base_lr:g}" + (" after it" if self.warmup else ""))
        if self.milestones:
            parts.append("changed after step " + listed(self.milestones))
        if self.cosine_end is not None:
            parts.append(f"a cosine down to step {self.cosine_end}")
        parts.append(f"{self.rate(self.total):.3g} at the end")
        if self.average_start:
            parts.append(f"weights averaged after step {self.average_start}")
        if self.semi_start is not None:
            parts.append(f"unlabelled images count after step {self.semi_start + 1}")
        return "schedule: " + ", ".join(parts)

    def misfits(self) -> list[str]:
        """What does not fit, each with what to set."""
        return [
            *self._length_misfits(),
            *self._warmup_misfits(),
            *self._decay_misfits(),
            *self._start_misfits(),
            *self._snapshot_misfits(),
        ]

    def _length_misfits(self) -> list[str]:
        epochs = self.cfg["epoch"]
        is_cut = self.cfg["max_iters"] and epochs and self.total < epochs * self.steps_per_epoch
        if is_cut and self.cfg.layer("epoch") > self.cfg.layer("max_iters"):
            return [f"max_iters {self.cfg['max_iters']} ends the run before epoch {epochs}: set max_iters=null"]
        return []

    def _warmup_misfits(self) -> list[str]:
        if self.warmup * 2 <= self.total:
            return []
        key = self._key("epochs" if self.schedule.warmup.epochs is not None else "steps")
        return [f"the warm-up takes {self.warmup} of {self.total} steps: lower {key}"]

    def _decay_misfits(self) -> list[str]:
        found, key = [], self._key("milestones")
        late = [step for step in self.milestones if step > self.total]
        if late:
            found.append(f"the rate is to change after step {listed(late)}, the run has {self.total}: lower {key}")
        early = [step for step in self.milestones if step < min(self.warmup, self.total)]
        if early:
            found.append(f"the rate is to change after step {listed(early)}, within the warm-up: raise {key}")
        end = self.cosine_end
        if end is not None and abs(end - self.total) > SHARE * self.total:
            much = "the rate stays at its end" if end < self.total else f"the run stops at {self.rate(self.total):.3g}"
            fitting = f"set {self._key('max_epochs')}={max(1, round(self.total / self.steps_per_epoch))}"
            found.append(f"the cosine ends at step {end} of {self.total}, {much}: {fitting}")
        return found

    def _start_misfits(self) -> list[str]:
        found, semi, average = [], self.semi_start, self.average_start
        if semi and semi + 1 >= self.total:
            found.append(
                f"unlabelled images never count: the run has {self.total} steps, they count after semi_start_iters "
                f"{semi}: lower it (and ema_start_iters), or train longer"
            )
        if average and average >= self.total:
            found.append(f"the average of weights stays a copy until ema_start_iters {average}: lower it")
        elif semi is not None and average and average > semi + 1:
            found.append(
                f"the teacher is a copy of the student until ema_start_iters {average}, and teaches from "
                f"semi_start_iters {semi} on: make the former the smaller one"
            )
        return found

    def _snapshot_misfits(self) -> list[str]:
        every, epochs = self.cfg["snapshot_epoch"], self.total / self.steps_per_epoch
        if every > epochs > 1:
            return [f"the end is the only checkpoint (and evaluation): lower snapshot_epoch {every}"]
        return []

    def _key(self, parameter: str) -> str:
        """The dotted key of a parameter of one of the schedulers."""
        return f"{scheduler_key(self.cfg, parameter) or 'LearningRate.schedulers'}.{parameter}"


def listed(steps: list[float]) -> str:
    return ", ".join(str(round(step)) for step in steps)


def plan_of(trainer: object) -> Plan:
    """The plan of a trainer's run."""
    return Plan(
        trainer.cfg, trainer.schedule, trainer.total_steps, trainer.steps_per_epoch, trainer.steps_per_iteration
    )


def warn_of_misfits(plan: Plan) -> None:
    """One warning with the schedule and everything that does not fit; nothing if all does."""
    misfits = plan.misfits()
    if misfits:
        logger.warning("%s. It does not fit: %s", plan.text(), "; ".join(misfits))
