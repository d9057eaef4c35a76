"""Hooks that look at a training run while it goes on."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed
from ppdet.engine.hooks import Hook
from ppdet.engine.training.losses import scalars


class Losses(Hook):
    """Keeps the losses of every step, and tells how far the run is.

    losses: of each step by name.
    """

    def __init__(self, context: Context, steps: int, name: str) -> None:
        self.context, self.steps, self.name = context, steps, name
        self.losses: list[dict[str, float]] = []

    def after_step(self, trainer: object) -> None:
        self.losses.append({name: float(value) for name, value in scalars(trainer.losses).items()})
        if len(self.losses) % 5 == 0:
            self.context.progress(f"{self.name}, step {len(self.losses)} of {self.steps}")


class BadSteps(Hook):
    """Spoils some steps, and sees to it that these change nothing, and all others do.

    Args:
        bad: numbers of the steps to spoil.
        spoil: called with the trainer before such a step; gives a function that is called after it.

    images: ids of the images of each spoiled step. scales: the loss scale before each step, and after the last one;
    None where there is none. compared: names of the tensors that were compared.

    Raises:
        Failed: a spoiled step changed a weight, a statistic or the optimizer's state, or another step did not.
    """

    def __init__(self, bad: Sequence[int], spoil: Callable[[object], Callable[[], None]]) -> None:
        self.bad, self.spoil = bad, spoil
        self.mend: Callable[[], None] = lambda: None
        self.images: list[list[int]] = []
        self.scales: list[float | None] = []
        self.compared: list[str] = []
        self.before: dict[str, np.ndarray] = {}

    def before_step(self, trainer: object) -> None:
        self.before = state_of(trainer)
        if not self.scales:
            self.scales.append(trainer.state(0, 0).loss_scale.get("scale"))
        if trainer.iteration in self.bad:
            self.images.append(trainer.batches[0]["im_id"].flatten().tolist())
            self.mend = self.spoil(trainer)

    def after_step(self, trainer: object) -> None:
        self.mend()
        self.mend = lambda: None
        step, after = trainer.iteration - 1, state_of(trainer)
        self.scales.append(trainer.state(0, 0).loss_scale.get("scale"))
        self.compared = list(after)
        changed = [name for name in after if not same(self.before.get(name), after[name])]
        if step in self.bad and changed:
            text = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
            raise Failed(f"step {step} was bad, and yet changed {len(changed)} of {len(after)} tensors: {text}")
        if step not in self.bad:
            weights = [name for name in changed if name.startswith("model ")]
            if len(weights) < len([name for name in after if name.startswith("model ")]) // 2:
                raise Failed(f"step {step} was a good one, and changed only {len(weights)} weights and statistics")


def state_of(trainer: object) -> dict[str, np.ndarray]:
    """Weights, statistics and the optimizer's tensors, copied from the device; absent in a state is what is not yet."""
    states = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    return {
        f"{kind} {name}": value.numpy().copy()
        for kind, state in states.items()
        for name, value in state.items()
        if hasattr(value, "numpy")
    }


def same(before: np.ndarray | None, after: np.ndarray) -> bool:
    """Whether they are equal to the bit, which NaNs are as well."""
    return before is not None and before.dtype == after.dtype and before.tobytes() == after.tobytes()
