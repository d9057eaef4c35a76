"""Checkpoints, and their evaluation."""

import contextlib
import time
from collections.abc import Iterator

import paddle

from ppdet.engine.checkpoints.manifest import MANIFEST, OPTIMIZER, TRAINED, WEIGHTS, TrainingState
from ppdet.engine.checkpoints.state import optimizer_state, statistics
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook, hook_states
from ppdet.engine.runs.run_folder import BEST, LAST
from ppdet.engine.training.guard import DivergedError
from ppdet.utils.errors import ConfigError, UserError, nearest
from ppdet.utils.logger import get_logger
from ppdet.utils.process.stop import StopRequests

logger = get_logger(__name__)
ATTEMPTS, SECONDS_BETWEEN = 10, 30.0  # of saving the end of a run


class SaveError(UserError, OSError):
    """The last checkpoint of a run cannot be written; the message names it, and says why and what to do."""


class CheckpointHook(Hook):
    """Writes checkpoints; evaluates those at epochs' ends if asked, and keeps the best weights.

    What cannot be written (the disk is full) is reported, and tried again at every line of the log; training goes on
    meanwhile.

    Args:
        epochs: between two checkpoints; the last epoch always has one. iters: between two within an epoch, 0 for none.
    """

    def __init__(self, *, epochs: int, iters: int, evaluate: bool) -> None:
        self.epochs = epochs
        self.iters = iters
        self.evaluate = evaluate
        self.failed = False  # the last checkpoint could not be written
        self.saved_at = -1  # iteration of the last one that could
        self.unsaved: tuple[float, dict] | None = None  # AP and weights of a best epoch that could not be written

    def writes(self, trainer: object) -> list[str]:
        left = range(trainer.epoch + 1, trainer.epochs)
        names = [str(epoch - 1) for epoch in left if epoch % self.epochs == 0]
        names = [f"<{names[0]} to {names[-1]}>"] if len(names) > 2 else names
        names += ["snapshot_<step>"] if self.iters else []
        form = trainer.folder.weights_format
        suffixes = [WEIGHTS[form], *([TRAINED[form]] if trainer.ema else []), OPTIMIZER, MANIFEST]
        suffixes = [suffix[1:] for suffix in suffixes]
        names = [f"{name}.{{{','.join(suffixes)}}}" for name in [*names, LAST]]
        best = [f"{BEST}.{{{WEIGHTS[form][1:]},{MANIFEST[1:]}}}"] if self.evaluate else []
        return [*names, *best]

    def before_train(self, trainer: object) -> None:
        # The run ended between an epoch's checkpoint and its evaluation.
        if self.evaluate and not trainer.evaluated and trainer.first_step == 0:
            self.judge(trainer, trainer.epoch - 1, trainer.resumed_from.name)

    def after_step(self, trainer: object) -> None:
        if self.unsaved and trainer.is_log_step:
            self.keep_best(trainer, *self.unsaved)
        if trainer.step + 1 == trainer.steps_of_epoch:
            return
        due = self.iters and trainer.iteration % self.iters == 0
        if due or (self.failed and trainer.is_log_step):
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
            trainer.stop_if_asked(now=True)
            # From here on there is nothing to save: an evaluation that is cut off is made when the run goes on.
            trainer.stop_requests.can_wait = False
            self.judge(trainer, trainer.epoch, name)

    def on_stop(self, trainer: object) -> None:
        # Little time may be left, too little to write the same once more.
        if self.saved_at != trainer.iteration:
            self.snapshot(trainer)

    def snapshot(self, trainer: object) -> None:
        images = (trainer.step + 1) * trainer.images_per_step
        state = trainer.state(trainer.epoch, images)
        self.save(trainer, f"snapshot_{trainer.iteration}", state, gather_statistics(trainer), attempts=1)

    def save(
        self, trainer: object, name: str, state: TrainingState, ranks: dict | None = None, *, attempts: int
    ) -> None:
        """Have rank 0 write a checkpoint, while the others wait.

        Args:
            ranks: see RunFolder.save.

        Raises:
            DivergedError: a weight is not finite.
            SaveError: it could not be written in that many attempts, of more than one.
        """
        hooks = hook_states(trainer.hooks)
        written = collectives.from_rank_0(
            lambda: self.write(trainer, name, state, ranks, hooks, attempts), DivergedError
        )
        self.failed = not written
        self.saved_at = trainer.iteration if written else self.saved_at

    def write(
        self, trainer: object, name: str, state: TrainingState, ranks: dict | None, hooks: dict, attempts: int
    ) -> bool:
        """Whether the checkpoint could be written."""
        check_finite(trainer.model, trainer.ema, trainer.optimizer)
        for attempt in range(1, attempts + 1):
            try:
                prefix = trainer.folder.save(name, state, trainer.model, trainer.optimizer, trainer.ema, ranks, hooks)
            except OSError as error:
                again = (
                    f"again in {SECONDS_BETWEEN:.0f} s" if attempt < attempts else "training goes on, and tries again"
                )
                if attempt < attempts or attempts == 1:
                    logger.error("checkpoint %s/%s could not be written: %s; %s", trainer.output, name, error, again)
                if attempts > 1 and (attempt == attempts or not wait(SECONDS_BETWEEN, trainer.stop_requests)):
                    raise SaveError(
                        f"{trainer.output / name}: the last checkpoint cannot be written ({error.strerror or error}): "
                        "make room, and run the same command with -r auto, which goes on from the last one there is"
                    ) from None
            else:
                logger.info("checkpoint: %s%s", prefix, WEIGHTS[trainer.folder.weights_format])
                return True
        return False

    def judge(self, trainer: object, epoch: int, name: str) -> None:
        """Evaluate the weights after `epoch`, keep them if they are the best, and note it in checkpoint `name`."""
        with averaged_weights(trainer):
            numbers = trainer.evaluator(trainer.model)
        if trainer.method.has_teacher:
            logger.info("that was the teacher; the student:")
            student = trainer.evaluator(trainer.model)
            if numbers is not None:
                numbers.update({f"student_{name}": value for name, value in student.items()})
        trainer.evaluated = True
        if collectives.rank() == 0:
            self.note(trainer, epoch, name, numbers)
        collectives.wait_for_all()

    def note(self, trainer: object, epoch: int, name: str, numbers: dict[str, float] | None) -> None:
        if numbers is not None:
            trainer.call("after_evaluation", numbers)
            best_by = trainer.cfg["best_by"]
            if best_by not in numbers:
                raise ConfigError(f"best_by: the evaluation has no number {best_by!r}{nearest(best_by, numbers)}")
            ap = numbers[best_by]
            trainer.history.append([epoch + 1, ap])
            best = max((v for v in (trainer.best_ap, self.unsaved and self.unsaved[0]) if v is not None), default=None)
            highest = ap if best is None else max(ap, best)
            logger.info("%s after epoch %d: %.3f, best: %.3f", best_by, epoch + 1, ap, highest)
            if best is None or ap > best:
                self.keep_best(trainer, ap, (trainer.ema or trainer.model).state_dict())
        try:
            trainer.folder.update_state(name, trainer.state(epoch + 1, 0))
        except OSError as error:
            logger.error("the evaluation could not be noted in %s/%s: %s", trainer.output, name, error)

    def keep_best(self, trainer: object, ap: float, weights: dict) -> None:
        try:
            path = trainer.folder.save_best(weights)
        except OSError as error:
            # Training is about to change these weights.
            self.unsaved = ap, {name: value.clone() for name, value in weights.items()}
            logger.error("the best weights could not be written: %s; tried again at the next line of the log", error)
        else:
            self.unsaved, trainer.best_ap = None, ap
            logger.info("best weights so far: %s", path)

    def after_train(self, trainer: object) -> None:
        if self.unsaved:
            self.keep_best(trainer, *self.unsaved)
        if trainer.history:
            values = ", ".join(f"{epoch}: {value:.3f}" for epoch, value in trainer.history)
            logger.info("%s by epoch: %s", trainer.cfg["best_by"], values)
        final = trainer.output / f"{LAST}{WEIGHTS[trainer.folder.weights_format]}"
        if collectives.rank() == 0 and final.exists():
            logger.info("weights: %s", final)


def wait(seconds: float, requests: StopRequests) -> bool:
    """Wait that long, but not when this process is asked to end. Returns whether it was not."""
    while requests.received is None and seconds > 0:
        time.sleep(min(seconds, 1.0))
        seconds -= 1.0
    return requests.received is None


def gather_statistics(trainer: object) -> dict[str, dict]:
    """Every rank's own statistics of batch norms, by rank; nothing if there is one rank, or no such statistics."""
    if collectives.world_size() == 1:
        return {}
    own = {name: value.numpy() for name, value in statistics(trainer.model, trainer.ema).items()}
    return {str(rank): values for rank, values in enumerate(collectives.gather(own)) if values}


def average_statistics(trainer: object) -> None:
    """Each rank has seen other images: what is evaluated by all of them, and saved by one, has to be one model."""
    collectives.average_statistics(trainer.model.state_dict())
    if trainer.ema:
        collectives.average_statistics(trainer.ema.state_dict())


@paddle.no_grad()
def check_finite(model: object, ema: object | None, optimizer: object) -> None:
    """Raises DivergedError when something that a checkpoint holds has values that are infinite or not numbers."""
    states = {"weights": model.state_dict(), "averaged weights": ema.state_dict() if ema else {}}
    states["numbers of the optimizer"] = optimizer_state(model, optimizer)
    for what, state in states.items():
        for name, value in state.items():
            is_float = isinstance(value, paddle.Tensor) and value.is_floating_point()
            if is_float and not bool(paddle.isfinite(value).all()):
                raise DivergedError(f"the {what} are not finite any more ({name}): no checkpoint is written of them")


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
