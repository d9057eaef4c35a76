"""Checkpoints, and their evaluation."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ppdet.engine import distributed
from ppdet.engine.checkpoint import save_state, save_training
from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


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
