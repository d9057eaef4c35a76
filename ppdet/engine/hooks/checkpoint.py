"""Checkpoints, and their evaluation."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import paddle

from ppdet.engine import distributed
from ppdet.engine.checkpoint import TrainingState
from ppdet.engine.guard import DivergedError
from ppdet.engine.hooks.base import Hook, at_log_line
from ppdet.engine.weights import save_weights
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
BEST = "best_model"
LAST = "model_final"
ATTEMPTS, SECONDS_BETWEEN = 10, 30.0  # of saving the end of a run


class CheckpointHook(Hook):
    """Writes checkpoints; evaluates those at epochs' ends if asked, and keeps the best weights.

    A checkpoint that cannot be written (a full disk) is reported, and tried again at every line of the log; training
    goes on meanwhile.

    Args:
        epochs: between two checkpoints; the last epoch always has one. iters: between two within an epoch, 0 for none.
        interval: of the log's lines.
    """

    def __init__(self, *, epochs: int, iters: int, interval: int, evaluate: bool) -> None:
        self.epochs = epochs
        self.iters = iters
        self.interval = interval
        self.evaluate = evaluate
        self.failed = False

    def before_train(self, trainer: object) -> None:
        # The run ended between a checkpoint and its evaluation.
        if self.evaluate and not trainer.evaluated:
            self.judge(trainer, trainer.epoch - 1, trainer.resumed_from.name)

    def after_step(self, trainer: object) -> None:
        if trainer.step + 1 == trainer.steps_per_epoch:
            return
        due = self.iters and trainer.iteration % self.iters == 0
        if due or (self.failed and at_log_line(trainer, self.interval)):
            self.snapshot(trainer)

    def after_epoch(self, trainer: object) -> None:
        is_last = trainer.epoch + 1 == trainer.epochs
        is_due = is_last or (trainer.epoch + 1) % self.epochs == 0
        if not is_due and not self.failed:
            return
        average_statistics(trainer)
        trainer.evaluated = not (self.evaluate and is_due)
        name = LAST if is_last else str(trainer.epoch)
        # Saved before it is evaluated: whatever goes wrong there does not cost the epoch.
        self.save(trainer, name, trainer.state(trainer.epoch + 1, 0), attempts=ATTEMPTS if is_last else 1)
        if not trainer.evaluated:
            self.judge(trainer, trainer.epoch, name)

    def on_stop(self, trainer: object) -> None:
        self.snapshot(trainer)

    def snapshot(self, trainer: object) -> None:
        images = (trainer.step + 1) * trainer.images_per_step
        self.save(trainer, f"snapshot_{trainer.iteration}", trainer.state(trainer.epoch, images), attempts=1)

    def save(self, trainer: object, name: str, state: TrainingState, *, attempts: int) -> None:
        """Have rank 0 write a checkpoint, while the others wait.

        Raises:
            DivergedError: a weight is not finite.
            OSError: it could not be written in that many attempts, of more than one.
        """
        self.failed = distributed.from_rank_0(lambda: not self.write(trainer, name, state, attempts), DivergedError)

    def write(self, trainer: object, name: str, state: TrainingState, attempts: int) -> bool:
        """Whether the checkpoint could be written."""
        check_finite(trainer.model)
        for attempt in range(1, attempts + 1):
            try:
                prefix = trainer.folder.save(name, state, trainer.model, trainer.optimizer, trainer.ema)
            except OSError as error:
                again = (
                    f"again in {SECONDS_BETWEEN:.0f} s" if attempt < attempts else "training goes on, and tries again"
                )
                logger.error("checkpoint %s/%s could not be written: %s; %s", trainer.output, name, error, again)
                if attempt == attempts > 1:
                    raise
                time.sleep(SECONDS_BETWEEN if attempt < attempts else 0)
            else:
                logger.info("checkpoint: %s.pdparams", prefix)
                return True
        return False

    def judge(self, trainer: object, epoch: int, name: str) -> None:
        """Evaluate the weights after `epoch`, keep them if they are the best, and note it in checkpoint `name`."""
        with averaged_weights(trainer):
            numbers = trainer.evaluator(trainer.model)
        trainer.evaluated = True
        if distributed.rank() == 0:
            self.note(trainer, epoch, name, numbers)
        distributed.wait_for_all()

    def note(self, trainer: object, epoch: int, name: str, numbers: Optional[dict[str, float]]) -> None:
        if numbers is not None:
            trainer.call("after_evaluation", numbers)
            ap = numbers["AP"]
            trainer.history.append([epoch + 1, ap])
            is_best = trainer.best_ap is None or ap > trainer.best_ap
            logger.info("AP after epoch %d: %.3f, best: %.3f", epoch + 1, ap, max(ap, trainer.best_ap or 0.0))
            if is_best:
                self.keep_best(trainer, ap)
        if (trainer.output / f"{name}.json").is_file():
            trainer.folder.update_state(name, trainer.state(epoch + 1, 0))

    def keep_best(self, trainer: object, ap: float) -> None:
        path = Path(trainer.output) / f"{BEST}.pdparams"
        try:
            save_weights((trainer.ema or trainer.model).state_dict(), path)
        except OSError as error:
            logger.error("%s could not be written: %s", path, error)
        else:
            trainer.best_ap = ap
            logger.info("best weights so far: %s", path)

    def after_train(self, trainer: object) -> None:
        if trainer.history:
            logger.info("AP by epoch: %s", ", ".join(f"{epoch}: {ap:.3f}" for epoch, ap in trainer.history))
        final = trainer.output / f"{LAST}.pdparams"
        if distributed.rank() == 0 and final.exists():
            logger.info("weights: %s", final)


def average_statistics(trainer: object) -> None:
    """Each rank has seen other images: what is evaluated by all of them, and saved by one, has to be one model."""
    distributed.average_statistics(trainer.model.state_dict())
    if trainer.ema:
        distributed.average_statistics(trainer.ema.state_dict())


@paddle.no_grad()
def check_finite(model: object) -> None:
    for name, value in model.state_dict().items():
        if not bool(paddle.isfinite(value).all()):
            raise DivergedError(f"the weights are not finite any more ({name}): no checkpoint is written of them")


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
