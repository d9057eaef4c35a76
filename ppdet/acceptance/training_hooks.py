"""Hooks with which checks observe a training run, and spoil single steps of it."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.acceptance.outcomes import Failed
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.losses import scalars


class LossRecorder(Hook):
    """Records the losses of every step.

    Attributes:
        losses: the losses of each step by name.
    """

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def after_step(self, trainer: Trainer) -> None:
        self.losses.append({name: float(value) for name, value in scalars(trainer.losses).items()})


class BadSteps(Hook):
    """Spoils some steps, and checks that they change no weight, statistic or optimizer state, and other steps do.

    Args:
        bad: numbers of the steps to spoil, from 0.
        spoil: called with the trainer before such a step. It returns a function that is called after the step, to end
            the fault.

    Attributes:
        images: ids of the images of each spoiled step.
        scales: the loss scale before each step and after the last one; None without a loss scale.
        compared: names of the compared tensors.

    Raises:
        Failed: a spoiled step changed a tensor, or another step changed fewer than half of the model's tensors.
    """

    def __init__(self, bad: Sequence[int], spoil: Callable[[Trainer], Callable[[], None]]) -> None:
        self.bad, self.spoil = bad, spoil
        self.end_fault: Callable[[], None] | None = None
        self.images: list[list[int]] = []
        self.scales: list[float | None] = []
        self.compared: list[str] = []
        self.before: dict[str, np.ndarray] = {}

    def before_step(self, trainer: Trainer) -> None:
        self.before = copy_state(trainer)
        if not self.scales:
            self.scales.append(trainer.precision.state().get("scale"))
        if trainer.iteration in self.bad:
            self.images.append(trainer.batches[0]["im_id"].flatten().tolist())
            self.end_fault = self.spoil(trainer)

    def after_step(self, trainer: Trainer) -> None:
        if self.end_fault:
            self.end_fault()
            self.end_fault = None
        step, after = trainer.iteration - 1, copy_state(trainer)
        self.scales.append(trainer.precision.state().get("scale"))
        self.compared = list(after)
        changed = [name for name in after if not is_identical(self.before.get(name), after[name])]
        if step in self.bad and changed:
            text = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
            raise Failed(f"the spoiled step {step} changed {len(changed)} of {len(after)} tensors: {text}")
        of_model = [name for name in after if name.startswith("model ")]
        changed_in_model = [name for name in changed if name in of_model]
        if step not in self.bad and len(changed_in_model) < len(of_model) // 2:
            raise Failed(
                f"step {step} was not spoiled, but changed only {len(changed_in_model)} of {len(of_model)} weights and "
                "statistics"
            )


def copy_state(trainer: Trainer) -> dict[str, np.ndarray]:
    """Return copies of the model's and the optimizer's tensors by name, such as "model conv1.weight"."""
    states = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    return {
        f"{kind} {name}": value.numpy().copy()
        for kind, state in states.items()
        for name, value in state.items()
        if hasattr(value, "numpy")
    }


def is_identical(before: np.ndarray | None, after: np.ndarray) -> bool:
    """Whether two arrays have the same bits, including those of NaNs; None differs from every array."""
    return before is not None and before.dtype == after.dtype and before.tobytes() == after.tobytes()
