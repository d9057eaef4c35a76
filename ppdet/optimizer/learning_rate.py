"""Learning-rate schedules, as functions of the training step."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from paddle.optimizer.lr import LambdaDecay

from ppdet.core.contracts import require
from ppdet.core.workspace import register, serializable
from ppdet.utils.ranges import require_length, require_number


class Length(NamedTuple):
    """Number of training steps in an epoch, in an iteration as schedules count them (see `PiecewiseDecay.unit`), and in
    the whole run, which only schedules in shares of the run need."""

    epoch: int
    iteration: float
    run: int | None = None

    def steps(self, value: float | str, unit: Literal["step", "epoch", "iteration"]) -> float:
        """Number of steps for which a number of epochs, iterations or steps stands, or a share of the run: "70%"."""
        if isinstance(value, str):
            if self.run is None:
                raise ValueError(f"{value} of the run: the number of steps of the run is unknown")
            return self.run * float(value.removesuffix("%")) / 100
        return value if unit == "step" else value * getattr(self, unit)


class Decay(Protocol):
    """A schedule of the rate after the warm-up, such as `CosineDecay`.

    Attributes:
        use_warmup: whether a warm-up beside it is used.
    """

    use_warmup: bool

    def factor(self, step: int, length: Length, warmup_steps: int) -> float:
        """The rate of a step, counted from 0, as a factor of the base rate."""


@serializable
@register
class PiecewiseDecay:
    """Multiplies the rate by a factor at milestones.

    Args:
        gamma: factor by which every milestone multiplies the rate, or a list with one factor of the base rate for each
            milestone, such as [0.1, 0.01].
        milestones: numbers of epochs or iterations after which the rate changes, in ascending order; or shares of the
            run, such as [70%, 90%], which follow `epoch` and `max_iters`.
        unit: whether milestones count epochs or iterations. An iteration is a step; if the global setting auto_lr
            scales the milestones, it is a step with base_batch_size images.
        use_warmup: false ignores a warm-up in the same list of schedulers.
    """

    def __init__(
        self,
        *,
        gamma: float | Sequence[float] = 0.1,
        milestones: Sequence[int | str] = (8, 11),
        unit: Literal["epoch", "iteration"] = "epoch",
        use_warmup: bool = True,
    ) -> None:
        if not isinstance(gamma, (int, float)) and len(gamma) != len(milestones):
            raise ValueError(f"PiecewiseDecay.gamma has {len(gamma)} values for {len(milestones)} milestones")
        for factor in [gamma] if isinstance(gamma, (int, float)) else gamma:
            require_number("PiecewiseDecay.gamma", factor, minimum=0, below=math.inf)
        for milestone in milestones:
            if isinstance(milestone, str):
                require_length("PiecewiseDecay.milestones", milestone)
        shares = [float(milestone[:-1]) for milestone in milestones if isinstance(milestone, str)]
        numbers = [milestone for milestone in milestones if not isinstance(milestone, str)]
        if shares and numbers:
            raise ValueError(f"PiecewiseDecay.milestones {list(milestones)}: give all as shares of the run, or none")
        if shares != sorted(shares) or numbers != sorted(numbers):
            raise ValueError(f"PiecewiseDecay.milestones {list(milestones)} do not ascend")
        self.gamma = gamma
        self.milestones = milestones
        self.unit = unit
        self.use_warmup = use_warmup

    def steps(self, length: Length) -> list[float]:
        """Number of completed steps at each milestone."""
        return [length.steps(milestone, self.unit) for milestone in self.milestones]

    def factor(self, step: int, length: Length, warmup_steps: int) -> float:
        """See `Decay`."""
        passed = sum(step >= milestone for milestone in self.steps(length))
        if isinstance(self.gamma, (int, float)):
            return self.gamma**passed
        return self.gamma[passed - 1] if passed else 1.0


@serializable
@register
class CosineDecay:
    """Lowers the rate along half a cosine, from the end of the warm-up on ("SGDR", arXiv:1608.03983, equation 5).

    Args:
        max_epochs: number of epochs after which the rate is lowest; it stays there. A share of the run, such as 100%,
            follows `epoch` and `max_iters`.
        min_lr_ratio: lowest rate, as a factor of the base rate.
        use_warmup: false ignores a warm-up in the same list of schedulers.
    """

    def __init__(self, *, max_epochs: int | str, min_lr_ratio: float = 0.0, use_warmup: bool = True) -> None:
        require_length("CosineDecay.max_epochs", max_epochs, minimum=1)
        require_number("CosineDecay.min_lr_ratio", min_lr_ratio, minimum=0, maximum=1)
        self.max_epochs = max_epochs
        self.min_lr_ratio = min_lr_ratio
        self.use_warmup = use_warmup

    def end(self, length: Length) -> float:
        """Number of completed steps at which the rate is lowest."""
        return length.steps(self.max_epochs, "epoch")

    def factor(self, step: int, length: Length, warmup_steps: int) -> float:
        """See `Decay`."""
        total = max(1, self.end(length) - warmup_steps)
        progress = min(1.0, max(0, step - warmup_steps) / total)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


class Warmup:
    """Base class of the warm-ups, which raise the rate during the first steps of training.

    Args:
        steps: number of steps of the warm-up, or its share of the run, such as 5%.
        epochs: number of epochs of the warm-up, in place of `steps`; null: `steps` counts.
    """

    def __init__(self, steps: int | str, epochs: int | None) -> None:
        require_length(f"{type(self).__name__}.steps", steps)
        require_number(f"{type(self).__name__}.epochs", epochs or 0, minimum=0)
        self.steps = steps
        self.epochs = epochs

    def length(self, length: Length) -> int:
        """Length of the warm-up in training steps."""
        if self.epochs is not None:
            return self.epochs * length.epoch
        return round(length.steps(self.steps, "step"))

    def factor(self, progress: float) -> float:
        """The rate as a factor of the base rate; progress is 0 at the first step and 1 at the end of the warm-up."""
        raise NotImplementedError


@serializable
@register
class LinearWarmup(Warmup):
    """Raises the rate linearly from `start_factor` x base rate to the base rate.

    Args:
        start_factor: rate of the first step, as a factor of the base rate.
    """

    def __init__(self, *, steps: int | str = 500, start_factor: float = 1.0 / 3, epochs: int | None = None) -> None:
        super().__init__(steps, epochs)
        require_number(f"{type(self).__name__}.start_factor", start_factor, minimum=0, below=math.inf)
        self.start_factor = start_factor

    def factor(self, progress: float) -> float:
        return self.start_factor + (1 - self.start_factor) * progress


@serializable
@register
class ConstantWarmup(LinearWarmup):
    """Keeps the rate at `start_factor` x base rate during the warm-up.

    Args:
        start_factor: rate of the warm-up, as a factor of the base rate.
    """

    def factor(self, progress: float) -> float:
        return self.start_factor


@serializable
@register
class ExpWarmup(Warmup):
    """Raises the rate from zero to the base rate, along a power of the progress.

    Args:
        power: exponent; halfway through the warm-up the rate is base rate x 0.5**power.
    """

    def __init__(self, *, steps: int | str = 1000, epochs: int | None = None, power: int = 2) -> None:
        super().__init__(steps, epochs)
        require_number("ExpWarmup.power", power, minimum=1, maximum=100)
        self.power = power

    def factor(self, progress: float) -> float:
        return progress**self.power


@register
class LearningRate:
    """The learning rate of every step: base_lr x decay, or base_lr x warm-up during the warm-up.

    Args:
        base_lr: rate after the warm-up and before any decay, for example 0.01.
        schedulers: at most one decay (PiecewiseDecay, CosineDecay) and at most one warm-up (LinearWarmup,
            ConstantWarmup, ExpWarmup).
    """

    __inject__ = ["schedulers"]

    def __init__(self, *, base_lr: float = 0.01, schedulers: Sequence[Warmup | Decay] = ()) -> None:
        for schedule in schedulers:
            require(schedule, Warmup if isinstance(schedule, Warmup) else Decay, "LearningRate.schedulers")
        warmups = [s for s in schedulers if isinstance(s, Warmup)]
        decays = [s for s in schedulers if not isinstance(s, Warmup)]
        if len(warmups) > 1 or len(decays) > 1:
            raise ValueError("LearningRate.schedulers may hold one decay and one warm-up, not more")
        require_number("LearningRate.base_lr", base_lr, above=0, below=math.inf)
        self.base_lr = base_lr
        self.decay = decays[0] if decays else None
        self.warmup = warmups[0] if warmups else None
        if self.decay is not None and not self.decay.use_warmup:
            self.warmup = None

    def rate(
        self, step: int, steps_per_epoch: int, steps_per_iteration: float = 1.0, total_steps: int | None = None
    ) -> float:
        """The learning rate of a step.

        Args:
            step: counted from 0.
            steps_per_iteration: training steps in each iteration that PiecewiseDecay's milestones count.
            total_steps: training steps of the whole run, for schedules in shares of it.
        """
        length = Length(steps_per_epoch, steps_per_iteration, total_steps)
        warmup_steps = 0
        if self.warmup:
            warmup_steps = self.warmup.length(length)
            if step < warmup_steps:
                return self.base_lr * self.warmup.factor(step / warmup_steps)
        if self.decay is None:
            return self.base_lr
        return self.base_lr * self.decay.factor(step, length, warmup_steps)

    def scheduler(
        self, steps_per_epoch: int, steps_per_iteration: float = 1.0, total_steps: int | None = None
    ) -> LambdaDecay:
        """A Paddle scheduler with the values of `rate`; its `step()` advances it by one training step."""
        return LambdaDecay(
            self.base_lr, lambda step: self.rate(step, steps_per_epoch, steps_per_iteration, total_steps) / self.base_lr
        )
