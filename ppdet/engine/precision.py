"""The type that training computes in."""

import contextlib

from paddle import Tensor

from ppdet.core.config import Config
from ppdet.engine.runtime import training_type
from ppdet.modeling import cpu


class Precision:
    """Forward and backward passes in the configuration's type; weights and optimizer stay float32."""

    def __init__(self, cfg: Config) -> None:
        self.dtype = training_type(cfg)

    def context(self) -> contextlib.AbstractContextManager:
        """Where forward and backward passes run."""
        return cpu.compute_in(self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` of."""
        return loss

    def step(self, optimizer: object, finite: bool) -> None:
        """Update the weights, if the gradients are finite."""
        if finite:
            optimizer.step()

    def state(self) -> dict:
        """What a checkpoint keeps."""
        return {}

    def load_state(self, state: dict) -> None:
        """Restore what `state` gave."""
