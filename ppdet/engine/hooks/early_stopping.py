"""Ending a run early, when its evaluations no longer become better."""

from typing import TYPE_CHECKING

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.engine.runs.best_evaluation import best_evaluation
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)


class EarlyStoppingHook(Hook):
    """Ends training when `patience` evaluations in a row have not become better than the best one before them.

    As long as all of them are 0, none counts: the latest one is then the best one (`best_evaluation`). The decision
    depends on the evaluations in the checkpoint alone, so that a run which was killed and resumed ends after the same
    epoch as an unbroken one. A run that has ended like this goes on when it is resumed with a higher patience. This
    hook comes after CheckpointHook, which evaluates.

    Args:
        patience: number of evaluations, from 1. With `snapshot_epoch` 2, one evaluation stands for two epochs.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def before_train(self, trainer: "Trainer") -> None:
        if trainer.evaluator is None:
            logger.warning("patience %d has no effect, since nothing is evaluated: add --eval", self.patience)
        elif trainer.first_step == 0:
            self._decide(trainer, trainer.epoch)

    def after_epoch(self, trainer: "Trainer") -> None:
        if trainer.evaluator is not None:
            self._decide(trainer, trainer.epoch + 1)

    def _decide(self, trainer: "Trainer", epochs: int) -> None:
        """Set `trainer.end_reason` on all ranks if the run ends after `epochs` epochs, before its last one."""
        if epochs >= trainer.epochs:
            return
        reason = collectives.from_rank_0(lambda: self._reason(trainer), ConfigError)  # which alone has all evaluations
        if reason:
            trainer.end_reason = reason
            logger.info("training ends early, after epoch %d of %d: %s", epochs, trainer.epochs, reason)

    def _reason(self, trainer: "Trainer") -> str:
        """Return why the run ends now, in words; an empty text if it goes on."""
        best = best_evaluation([value for _, value in trainer.history])
        if best is None or len(trainer.history) - 1 - best < self.patience:
            return ""
        epoch, value = trainer.history[best]
        later = len(trainer.history) - 1 - best
        name = trainer.cfg["best_by"]
        since = "the evaluation since then was" if later == 1 else f"the {later} evaluations since then were"
        return f"{name} was {value:.3f} after epoch {epoch}, and {since} not better (patience {self.patience})"
