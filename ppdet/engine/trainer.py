"""The training loop, and only the loop: everything optional is a hook."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import paddle

from ppdet.core.config import Config
from ppdet.engine.build import build_model, build_train_reader, check_targets
from ppdet.engine.checkpoints.class_names import classes_of, classes_of_checkpoint, warn_of_pretrained_classes
from ppdet.engine.checkpoints.manifest import TrainingState
from ppdet.engine.checkpoints.state import load_training
from ppdet.engine.checkpoints.weights import CheckpointError, load_weights
from ppdet.engine.distributed import collectives
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks import Hook, configured_hooks, default_hooks
from ppdet.engine.hooks.base import load_hook_states
from ppdet.engine.runs.run_start import begin_run
from ppdet.engine.runs.start_point import StartPoint
from ppdet.engine.training.auto_lr import learning_rate
from ppdet.engine.training.guard import StepGuard
from ppdet.engine.training.methods import make_method, scalars, total_losses
from ppdet.engine.training.precision import Precision
from ppdet.engine.training.run_length import steps_per_iteration, total_steps
from ppdet.utils import device
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.stop import Stopped, StopRequests

logger = get_logger(__name__)


class Trainer:
    """Trains what a configuration describes.

    A step is one update of the weights, from `accumulate_steps` batches on every rank. Hooks read these attributes:
    epoch (from 0), step (within the epoch, from 0), iteration (steps done in the whole run), steps_per_epoch,
    steps_of_epoch, epochs, total_steps (of the whole run), images_per_step (labelled ones, of all ranks), batches (of
    the step, on this rank), losses (of the last step, on the device), data_seconds (waited for the batches),
    learning_rate (of the last step), model, pretrained (whether all of it was loaded from pretrain_weights), method,
    optimizer, ema, reader, guard, output (the run's folder), folder (its checkpoints), resumed_from (prefix), best_ap,
    history ([epoch, AP] of every evaluation), evaluated (whether the evaluation due after the last epoch is done).

    Args:
        evaluate: evaluate whenever a checkpoint is written at an epoch's end, and keep the best one.
        resume: prefix of a checkpoint to go on from, or "auto": the newest whole one of the run in the output folder,
            if there is one.
        overwrite: an earlier run in the folder, where this one does not go on with it, is removed, not moved aside.
        hooks: further hooks, called after the default ones.
    """

    def __init__(
        self,
        cfg: Config,
        *,
        evaluate: bool = False,
        resume: str | None = None,
        overwrite: bool = False,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.cfg = cfg
        self.start = StartPoint.find(cfg, resume=resume, overwrite=overwrite)
        self.output, self.folder, self.resumed_from = self.start.output, self.start.folder, self.start.resumed_from
        self.seed = cfg["seed"]
        paddle.seed(self.seed)

        prefix = self.resumed_from
        known = collectives.from_rank_0(lambda: classes_of_checkpoint(prefix), CheckpointError) if prefix else None
        self.reader = build_train_reader(cfg, known)
        classes = self.folder.classes = classes_of(self.reader.dataset, "TrainDataset")
        self.accumulate = cfg["accumulate_steps"]
        self.steps_per_epoch = len(self.reader) // self.accumulate
        if not self.steps_per_epoch:
            raise ConfigError(
                f"accumulate_steps is {self.accumulate}, but an epoch has {len(self.reader)} batches: lower it, or the "
                "reader's batch size"
            )
        self.images_per_step = self.reader.batch_size * self.accumulate * collectives.world_size()
        self.steps_per_iteration = steps_per_iteration(cfg, "milestones", self.images_per_step)
        self.total_steps = total_steps(cfg, self.steps_per_epoch, self.images_per_step)
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.model = build_model(cfg)
        self.model.trained_classes = classes
        check_targets(self.model, self.reader)
        self.schedule = learning_rate(cfg, self.images_per_step)
        self.scheduler = self.schedule.scheduler(self.steps_per_epoch, self.steps_per_iteration)
        self.optimizer = cfg.create("OptimizerBuilder")(self.scheduler, self.model)
        self.precision = Precision(cfg)
        self.epoch, self.step, self.iteration = 0, 0, 0
        self.first_step = 0  # of the epoch under way, after a resume in its middle
        self.best_ap: float | None = None
        self.history: list = []
        self.evaluated = True
        self.data_seconds = self.learning_rate = 0.0
        self.batches: list[dict] = []
        self.losses: dict = {}

        self.pretrained = False  # not the backbone alone, but all of the model
        weights = self.start.start_weights()
        if weights and not self.resumed_from:
            report = load_weights(self.model, weights, strict=False)
            self.pretrained = not (report.missing or report.mismatched)
            if self.pretrained:
                warn_of_pretrained_classes(weights, classes, makes_labels=bool(cfg["ssod_method"]))
        self.method = make_method(cfg, self.model)
        self.ema = self.method.average
        if self.method.has_teacher and not (self.method.start or self.pretrained or self.resumed_from):
            logger.warning(
                "the teacher has learned nothing yet, but semi_start_iters is 0: the student will learn its noise; set "
                "semi_start_iters and ema_start_iters, or pretrain_weights to a trained detector"
            )
        # Wrapping gives all ranks the state of rank 0; a checkpoint can have statistics that are each rank's own.
        self.parallel = collectives.wrap(
            self.method.layer, find_unused=cfg["find_unused_parameters"], fleet=cfg["fleet"]
        )
        if self.resumed_from:
            saved = load_training(self.resumed_from, self.model, self.optimizer, self.ema)
            self.restore(saved.state)
        self.evaluator = Evaluator(cfg, training=self.reader) if evaluate else None
        self.guard = StepGuard(
            self.model,
            self.optimizer,
            self.output,
            max_bad_steps=cfg["max_bad_steps"],
            takes_back=not self.runs_in_step_with_host,
        )
        if self.ema and not self.runs_in_step_with_host:
            self.ema.join()
        self.hooks = [*default_hooks(cfg, evaluate=evaluate), *configured_hooks(cfg), *hooks]
        if self.resumed_from:
            load_hook_states(self.hooks, saved.hooks)
        self.stop_requests = StopRequests("finishing the step, then saving")

    @property
    def runs_in_step_with_host(self) -> bool:
        """Whether a device's work is done when the call that asks for it returns, as on a CPU."""
        return not device.runs_behind_host()

    @property
    def steps_of_epoch(self) -> int:
        """Steps of the epoch under way; the last one may be cut short by max_iters."""
        return min(self.steps_per_epoch, self.total_steps - self.epoch * self.steps_per_epoch)

    @property
    def is_log_step(self) -> bool:
        """Whether the log reports after this step: the first of an epoch, every `log_iter` steps, and the last."""
        interval = self.cfg["log_iter"]
        return interval == 1 or self.step % interval == 0 or self.step + 1 == self.steps_of_epoch

    def restore(self, state: TrainingState) -> None:
        """Go on where `state` stopped, also with another batch size or number of ranks."""
        self.epoch, self.best_ap, self.history = state.epoch, state.best_ap, list(state.history)
        self.evaluated = state.evaluated
        self.precision.load_state(state.loss_scale)
        self.first_step = state.images // self.images_per_step
        cut = state.epoch * state.steps_per_epoch - state.iteration  # by max_iters, off that run's last epoch
        if cut > 0:
            self.epoch -= 1
            self.first_step = (state.steps_per_epoch - cut) * self.steps_per_epoch // state.steps_per_epoch
        self.iteration = self.epoch * self.steps_per_epoch + self.first_step
        if cut > 0 and self.iteration >= self.total_steps:  # and it goes no further
            self.epoch, self.first_step = state.epoch, 0
        # Also where the step is the same: auto_lr or -o may say another rate than the checkpoint.
        self.scheduler.step(self.iteration)
        if self.iteration != state.iteration:
            logger.warning(
                "an epoch has %d steps, %d when the checkpoint was written: the schedule goes on by epochs",
                self.steps_per_epoch,
                state.steps_per_epoch,
            )
            if self.ema:
                self.ema.step = self.iteration
        if state.images % self.images_per_step:
            logger.warning("%d images of this epoch come a second time", state.images % self.images_per_step)
        if state.seed != self.seed:
            logger.warning("seed is %d, %d when the checkpoint was written: the order changes", self.seed, state.seed)
        if self.epoch >= self.epochs:
            logger.warning("the checkpoint has all %d epochs already: nothing to train", self.epochs)

    def state(self, epoch: int, images: int) -> TrainingState:
        """What a checkpoint written now has to say, with that many epochs done, and images of the next one."""
        return TrainingState(
            epoch=epoch,
            images=images,
            iteration=self.iteration,
            steps_per_epoch=self.steps_per_epoch,
            best_ap=self.best_ap,
            evaluated=self.evaluated,
            history=self.history,
            ema_step=self.ema.step if self.ema else 0,
            loss_scale=self.precision.state(),
            seed=self.seed,
        )

    def train(self) -> None:
        """Run all epochs that are left.

        Raises:
            Stopped: the run was asked to end, and has saved what it had.
            RunError: its folder cannot be had, see `begin_run`.
        """
        with self.stop_requests, begin_run(self.start):
            try:
                self.call("before_train")
                while self.epoch < self.epochs:
                    self.train_epoch()
                    self.epoch += 1
                self.call("after_train")
            finally:
                self.call("close")

    def train_epoch(self) -> None:
        self.model.train()
        self.reader.set_epoch(self.epoch, self.first_step * self.accumulate)
        self.stop_requests.can_wait = True
        ready = time.perf_counter()
        steps = self.read_steps()
        for step, batches in zip(range(self.first_step, self.steps_of_epoch), steps):
            self.step, self.batches = step, batches
            self.data_seconds = time.perf_counter() - ready
            self.call("before_step")
            self.train_step()
            self.iteration += 1
            if self.is_log_step:
                self.guard.judge()
            self.call("after_step")
            self.stop_if_asked()
            ready = time.perf_counter()
        steps.close()  # reads no further where max_iters ends the run
        self.first_step = 0
        self.call("after_epoch")
        self.stop_requests.can_wait = False

    def read_steps(self) -> Iterator[list[dict]]:
        """The batches of each step."""
        batches: list[dict] = []
        for batch in self.reader:
            batches.append(batch)
            if len(batches) == self.accumulate:
                yield batches
                batches = []

    def train_step(self) -> None:
        """One update from `batches`. Gradients of its passes add up."""
        # What is drawn in a step depends on seed, rank and step alone, so that nothing of it has to be saved.
        seed_generators(self.seed, self.iteration, collectives.rank())
        self.learning_rate = self.optimizer.get_lr()
        self.guard.before_forward()
        passes, losses = self.method.passes(self.batches, self.iteration), []
        for number, (inputs, share) in enumerate(passes, start=1):
            with collectives.no_sync(self.parallel, number < len(passes)), self.precision.context():
                with self.precision.autocast():
                    losses.append(self.parallel(**inputs))
                self.precision.scale(losses[-1]["loss"] * share).backward()
        self.losses = total_losses(losses, [share for _, share in passes])
        finite, scale = self.guard.check(self.precision)
        self.call("after_backward")
        self.guard.update(finite, scale, self.describe_step())
        self.optimizer.clear_grad(set_to_zero=False)  # so that no kernel fills what the next backward pass makes anew
        self.scheduler.step()
        if self.ema:
            self.ema.update()

    def describe_step(self) -> Callable[[], dict]:
        """Tells what this step was given and gave, without reading it from the device before it is called."""
        place = {"epoch": self.epoch, "step": self.step, "iteration": self.iteration}
        shapes = [tuple(batch["image"].shape) for batch in self.batches]
        losses, reader = scalars(self.losses), self.reader
        ids = [batch["im_id"] for batch in self.batches]
        unlabeled_ids = [batch["unlabeled"]["im_id"] for batch in self.batches if "unlabeled" in batch]

        def describe() -> dict:
            unlabeled = {"unlabeled": named(unlabeled_ids, reader.unlabeled.files)} if unlabeled_ids else {}
            return {
                **place,
                "images": named(ids, reader.files),
                **unlabeled,
                "batch_shapes": shapes,
                "losses": {name: number_or_text(float(value)) for name, value in losses.items()},
            }

        return describe

    def stop_if_asked(self, *, now: bool = False) -> None:
        """Save, unless the last step is saved already, and end when some rank was asked to.

        All ranks have to find out at the same step. Asking the others waits for the device, so on a GPU that is left to
        the log's lines, unless `now`.
        """
        if not (now or self.runs_in_step_with_host or self.is_log_step):
            return
        number = collectives.largest(self.stop_requests.received or 0)
        if number:
            self.call("on_stop")
            collectives.wait_for_all()
            logger.warning("stopped after %d steps; the same command with --resume auto goes on", self.iteration)
            raise Stopped(number, together=True)

    def call(self, event: str, *details: object) -> None:
        for hook in self.hooks:
            getattr(hook, event)(self, *details)


def named(ids: Sequence[paddle.Tensor], files: dict[int, str]) -> list[dict]:
    """Id and file of the images of some batches, each once whatever views of it there are."""
    numbers = dict.fromkeys(int(number) for batch in ids for number in batch.flatten().tolist())
    return [{"id": number, "file": files.get(number)} for number in numbers]


def seed_generators(seed: int, iteration: int, rank: int) -> None:
    """Seed the random generators of Python, NumPy and Paddle for one step."""
    number = int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)
    paddle.seed(number)


def number_or_text(value: float) -> float | str:
    """What JSON can say of a number: nan, inf and -inf as text."""
    return value if math.isfinite(value) else str(value)
