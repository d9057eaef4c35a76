"""Hooks that look at a training run while it goes on."""

from ppdet.acceptance.context import Context
from ppdet.engine.hooks import Hook


class Losses(Hook):
    """Keeps the losses of every step, and tells how far the run is.

    losses: of each step by name.
    """

    def __init__(self, context: Context, steps: int, name: str) -> None:
        self.context, self.steps, self.name = context, steps, name
        self.losses: list[dict[str, float]] = []

    def after_step(self, trainer: object) -> None:
        scalars = {name: value for name, value in trainer.losses.items() if value.ndim == 0}
        self.losses.append({name: float(value) for name, value in scalars.items()})
        if len(self.losses) % 5 == 0:
            self.context.progress(f"{self.name}, step {len(self.losses)} of {self.steps}")
