"""Writing checkpoints, evaluating them, and keeping the best weights."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import paddle
from paddle import Tensor, nn

from ppdet.engine.checkpoints.manifest import MANIFEST, OPTIMIZER, TRAINED, WEIGHTS, TrainingState, beside
from ppdet.engine.checkpoints.state import optimizer_state, statistics
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook, hook_states
from ppdet.engine.runs.best_evaluation import is_better
from ppdet.engine.runs.run_folder import BEST, LAST
from ppdet.engine.training.guard import DivergedError
from ppdet.metrics.eval_metric import STUDENT
from ppdet.optimizer import ModelEMA
from ppdet.utils.errors import ConfigError, UserError, nearest
from ppdet.utils.logger import get_logger
from ppdet.utils.process.stop import StopRequests

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
ATTEMPTS, SECONDS_BETWEEN = 10, 30.0  # to write the last checkpoint of a run


class SaveError(UserError, OSError):
    """The last checkpoint of a run cannot be written. The message names it, the reason, and what to do."""


class CheckpointHook(Hook):
    """Writes checkpoints; if `evaluate`, evaluates those at the ends of epochs and keeps the best weights.

    A checkpoint that cannot be written (a full disk) is an error in the log, and is tried again at every log step while
    training continues. Only the last one of a run is tried several times and then ends the run with a SaveError.

    Args:
        epochs: epochs between two checkpoints. The last epoch always has one.
        iters: steps between two checkpoints within an epoch; 0 for none.
    """

    def __init__(self, *, epochs: int, iters: int, evaluate: bool) -> None:
        self.epochs = epochs
        self.iters = iters
        self.evaluate = evaluate
        self.failed = False  # whether the last checkpoint could not be written
        self.saved_at = -1  # iteration of the last one that was written
        # The best weights, with their AP, while they cannot be written.
        self.unsaved: tuple[float, dict[str, Tensor]] | None = None

    def writes(self, trainer: "Trainer") -> list[str]:
        remaining = range(trainer.epoch + 1, trainer.epochs)
        names = [str(epoch - 1) for epoch in remaining if epoch % self.epochs == 0]
        names = [f"<{names[0]} to {names[-1]}>"] if len(names) > 2 else names
        names += ["snapshot_<step>"] if self.iters else []
        form = trainer.folder.weights_format
        suffixes = [WEIGHTS[form], *([TRAINED[form]] if trainer.ema else []), OPTIMIZER, MANIFEST]
        suffixes = [suffix[1:] for suffix in suffixes]
        names = [f"{name}.{{{','.join(suffixes)}}}" for name in [*names, LAST]]
        best = [f"{BEST}.{{{WEIGHTS[form][1:]},{MANIFEST[1:]}}}"] if self.evaluate else []
        return [*names, *best]

    def before_train(self, trainer: "Trainer") -> None:
        # The earlier process may have ended between a checkpoint and its evaluation.
        if self.evaluate and trainer.resumed_from and not trainer.evaluated and trainer.first_step == 0:
            self._evaluate(trainer, trainer.epoch - 1, trainer.resumed_from.name)

    def after_step(self, trainer: "Trainer") -> None:
        if self.unsaved and trainer.is_log_step:
            self._save_best(trainer, *self.unsaved)
        if trainer.step + 1 == trainer.steps_of_epoch:
            return  # `after_epoch` follows
        due = self.iters and trainer.iteration % self.iters == 0
        if due or (self.failed and trainer.is_log_step):
            self._save_within_epoch(trainer)

    def after_epoch(self, trainer: "Trainer") -> None:
        is_last = trainer.epoch + 1 == trainer.epochs
        is_due = is_last or (trainer.epoch + 1) % self.epochs == 0
        if not is_due and not self.failed:
            return
        average_statistics(trainer)
        trainer.evaluated = not (self.evaluate and is_due)
        name = LAST if is_last else str(trainer.epoch)
        # Saved before it is evaluated, so that an error of the evaluation does not cost the epoch.
        self._save(trainer, name, trainer.state(trainer.epoch + 1, 0), attempts=ATTEMPTS if is_last else 1)
        if not trainer.evaluated:
            trainer.stop_if_asked(now=True)
            # Nothing is left to save: an evaluation that is interrupted is done when the run resumes.
            trainer.stop_requests.can_wait = False
            self._evaluate(trainer, trainer.epoch, name)

    def on_stop(self, trainer: "Trainer") -> None:
        if self.saved_at != trainer.iteration:  # little time may be left, so nothing is written twice
            self._save_within_epoch(trainer)

    def after_train(self, trainer: "Trainer") -> None:
        final = trainer.output / LAST
        resumed_final = trainer.resumed_from is not None and trainer.resumed_from.absolute() == final.absolute()
        if trainer.end_reason and not (resumed_final and self.saved_at < 0):
            self._save(trainer, LAST, trainer.state(trainer.epoch, 0), attempts=ATTEMPTS)
        if self.unsaved:
            self._save_best(trainer, *self.unsaved)
        if trainer.history:
            values = ", ".join(f"{epoch}: {value:.3f}" for epoch, value in trainer.history)
            logger.info("%s by epoch: %s", trainer.cfg["best_by"], values)
        weights = beside(final, WEIGHTS[trainer.folder.weights_format])
        if collectives.rank() == 0 and weights.exists():
            logger.info("weights: %s", weights)

    def _save_within_epoch(self, trainer: "Trainer") -> None:
        images = (trainer.step + 1) * trainer.images_per_step
        state = trainer.state(trainer.epoch, images)
        self._save(trainer, f"snapshot_{trainer.iteration}", state, gather_statistics(trainer), attempts=1)

    def _save(
        self, trainer: "Trainer", name: str, state: TrainingState, ranks: dict | None = None, *, attempts: int
    ) -> None:
        """Let rank 0 write a checkpoint, while the other ranks wait.

        Args:
            ranks: batch norm statistics of every rank, see `RunFolder.save`.
            attempts: number of tries; with more than one, the last failure raises SaveError.

        Raises:
            DivergedError: a weight is not finite.
            SaveError: all of several attempts failed.
        """
        hooks = hook_states(trainer.hooks)
        written = collectives.from_rank_0(
            lambda: self.write(trainer, name, state, ranks, hooks, attempts), DivergedError
        )
        self.failed = not written
        self.saved_at = trainer.iteration if written else self.saved_at

    def write(
        self,
        trainer: "Trainer",
        name: str,
        state: TrainingState,
        ranks: dict | None,
        hooks: dict[str, dict],
        attempts: int,
    ) -> bool:
        """Write a checkpoint on this rank, and return whether that succeeded; see `_save`."""
        check_finite(trainer.model, trainer.ema, trainer.optimizer)
        for attempt in range(1, attempts + 1):
            try:
                prefix = trainer.folder.save(name, state, trainer.model, trainer.optimizer, trainer.ema, ranks, hooks)
            except OSError as error:
                is_last = attempt == attempts
                again = f"again in {SECONDS_BETWEEN:.0f} s" if not is_last else "training continues, and tries again"
                if attempts == 1 or not is_last:
                    logger.error("checkpoint %s/%s could not be written: %s; %s", trainer.output, name, error, again)
                if attempts > 1 and (is_last or not wait_unless_stopped(SECONDS_BETWEEN, trainer.stop_requests)):
                    raise SaveError(
                        f"{trainer.output / name}: the last checkpoint cannot be written ({error.strerror or error}): "
                        "make room, and run the same command with -r auto, which continues from the last complete "
                        "checkpoint"
                    ) from None
            else:
                logger.info("checkpoint: %s%s", prefix, WEIGHTS[trainer.folder.weights_format])
                return True
        return False

    def _evaluate(self, trainer: "Trainer", epoch: int, name: str) -> None:
        """Evaluate the weights after `epoch` (from 0) on all ranks, and note the result in checkpoint `name`."""
        assert trainer.evaluator is not None  # since self.evaluate
        student = None
        if trainer.method.has_teacher:
            student = trainer.evaluator(trainer.model)
            logger.info("the numbers above are the student's; next: the teacher's")
        # Last, since hooks look at the detections that the evaluator has.
        with averaged_weights(trainer):
            numbers = trainer.evaluator(trainer.model)
        if numbers is not None and student is not None:
            numbers.update({f"{STUDENT}{name}": value for name, value in student.items()})
        trainer.evaluated = True
        if collectives.rank() == 0:
            self.note_evaluation(trainer, epoch, name, numbers)
        collectives.wait_for_all()

    def note_evaluation(self, trainer: "Trainer", epoch: int, name: str, numbers: dict[str, float] | None) -> None:
        """On rank 0, keep the weights if their `best_by` is the best, and write it into the checkpoint."""
        if numbers is not None:
            trainer.call_hooks("after_evaluation", numbers)
            best_by = trainer.cfg["best_by"]
            if best_by not in numbers:
                raise ConfigError(f"best_by: the evaluation has no number {best_by!r}{nearest(best_by, numbers)}")
            value = float(numbers[best_by])
            trainer.history.append([epoch + 1, value])
            best = self.unsaved[0] if self.unsaved else trainer.best_value  # what is not written yet is better
            becomes_best = is_better(value, best)
            highest = value if becomes_best else best
            logger.info("%s after epoch %d: %.3f, best: %.3f", best_by, epoch + 1, value, highest)
            if becomes_best:
                self._save_best(trainer, value, (trainer.ema or trainer.model).state_dict())
        try:
            trainer.folder.update_state(name, trainer.state(epoch + 1, 0))
        except OSError as error:
            logger.error("the evaluation could not be noted in %s/%s: %s", trainer.output, name, error)

    def _save_best(self, trainer: "Trainer", value: float, weights: dict[str, Tensor]) -> None:
        try:
            metric = getattr(trainer.evaluator, "metric", None)
            path = trainer.folder.save_best(weights, len(metric.image_ids) if metric is not None else 0)
        except OSError as error:
            # Copies, since training is about to change the weights.
            self.unsaved = value, {name: weight.clone() for name, weight in weights.items()}
            logger.error("the best weights could not be written: %s; tried again at the next line of the log", error)
        else:
            self.unsaved, trainer.best_value = None, value
            logger.info("best weights so far: %s", path)


def wait_unless_stopped(seconds: float, requests: StopRequests) -> bool:
    """Wait, but not any longer when this process is asked to end. Returns whether it was not asked."""
    while requests.received is None and seconds > 0:
        time.sleep(min(seconds, 1.0))
        seconds -= 1.0
    return requests.received is None


def gather_statistics(trainer: "Trainer") -> dict[str, dict]:
    """Return every rank's batch norm statistics as arrays, by rank ("0", …); an empty dictionary with one rank."""
    if collectives.world_size() == 1:
        return {}
    own = {name: value.numpy() for name, value in statistics(trainer.model, trainer.ema).items()}
    return {str(rank): values for rank, values in enumerate(collectives.gather(own)) if values}


def average_statistics(trainer: "Trainer") -> None:
    """Give all ranks the same batch norm statistics, so that they evaluate the model that rank 0 saves."""
    collectives.average_statistics(trainer.model.state_dict())
    if trainer.ema:
        collectives.average_statistics(trainer.ema.state_dict())


@paddle.no_grad()
def check_finite(model: nn.Layer, ema: ModelEMA | None, optimizer: Any) -> None:
    """Raise DivergedError if weights, averages or optimizer state have values that are infinite or not numbers."""
    states = {"weights": model.state_dict(), "averaged weights": ema.state_dict() if ema else {}}
    states["optimizer state"] = optimizer_state(model, optimizer)
    for what, state in states.items():
        for name, value in state.items():
            is_float = isinstance(value, paddle.Tensor) and value.is_floating_point()
            if is_float and not bool(paddle.isfinite(value).all()):
                raise DivergedError(f"NaN or infinite values in the {what} ({name}): checkpoint not written")


@contextlib.contextmanager
def averaged_weights(trainer: "Trainer") -> Iterator[None]:
    """Within the block the trainer's model has the averaged weights, if there are any."""
    if trainer.ema is None:
        yield
        return
    trained = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.set_state_dict(trainer.ema.state_dict())
    try:
        yield
    finally:
        trainer.model.set_state_dict(trained)
