"""The training loop. Everything optional, such as the log, checkpoints and evaluation, is a hook (engine/hooks)."""

import math
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor

from ppdet.core.config import Config
from ppdet.engine.build import build_model, build_train_reader, check_targets
from ppdet.engine.checkpoints.class_names import classes_of, classes_of_checkpoint, warn_of_pretrained_classes
from ppdet.engine.checkpoints.manifest import TrainingState
from ppdet.engine.checkpoints.state import load_training
from ppdet.engine.checkpoints.weights import CheckpointError, start_from
from ppdet.engine.distributed import collectives, data_parallel
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks import Hook, configured_hooks, default_hooks
from ppdet.engine.hooks.base import load_hook_states
from ppdet.engine.runs.run_start import begin_run
from ppdet.engine.runs.start_point import StartPoint
from ppdet.engine.training.auto_lr import learning_rate
from ppdet.engine.training.bad_steps import step_record
from ppdet.engine.training.guard import StepGuard
from ppdet.engine.training.losses import check_losses, total_losses
from ppdet.engine.training.methods import make_method
from ppdet.engine.training.precision import Precision
from ppdet.engine.training.run_length import resumed_place, steps_per_iteration, total_steps
from ppdet.engine.training.seeds import seed_generators
from ppdet.utils import device
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.stop import Stopped, StopRequests

logger = get_logger(__name__)


class Trainer:
    """Trains the detector that a configuration describes: `Trainer(cfg).train()`.

    A step is one update of the weights, from `accumulate_steps` batches on every rank. Hooks may read all attributes.

    Args:
        cfg: the configuration, from `load_config`.
        evaluate: evaluate whenever a checkpoint is written at the end of an epoch, and keep the best weights.
        resume: the checkpoint to continue from, such as output/NAME/3; "auto" uses the newest complete checkpoint of
            the run in the output folder, and starts from the beginning if it has no checkpoint.
        overwrite: remove an earlier run in the folder that this run does not continue, instead of moving it aside.
        hooks: further hooks, called after the default hooks and the configuration's hooks.

    Attributes:
        model: the detector that is trained.
        method: what a step computes (supervised or semi-supervised).
        ema: the average of the weights, None if weights are not averaged.
        pretrained: whether `pretrain_weights` filled the whole model, not only its backbone.
        reader: the batches of this rank.
        optimizer, schedule: the optimizer, and the learning rate over the steps.
        guard: skips updates that would make weights infinite.
        evaluator: evaluates the model, None unless `evaluate`.
        start: what the run starts from: its folder, a checkpoint, or pretrained weights.
        output, folder: path of the run's folder, and its checkpoints.
        resumed_from: prefix of the checkpoint that the run continued from, None if it started from the beginning.

        epochs, steps_per_epoch, total_steps: length of the run. The last epoch may have fewer steps.
        images_per_step: number of labeled images per step, of all ranks together.
        epoch, step: the current epoch, and the step within it, both from 0.
        iteration: the number of finished steps of the whole run.
        batches: the batches of the current step on this rank.
        losses: losses of the last step, as tensors on the device.
        learning_rate, data_seconds: learning rate of the last step, and how long it waited for its batches.
        best_value: the highest number so far of the setting `best_by`, such as AP (0 to 1); None before an evaluation.
        history: [epoch, that number] of every evaluation, epochs from 1.
        evaluated: whether the evaluation that is due after the last epoch has been done.
        end_reason: why training ends before its last epoch; a hook may set it, on all ranks, between two epochs.
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
        self.seed: int = cfg["seed"]
        self.epoch = self.step = self.iteration = 0
        self.first_step = 0  # of the current epoch; above 0 after a resume in the middle of an epoch
        self.best_value: float | None = None
        self.history: list[list] = []
        self.evaluated, self.end_reason = True, ""
        self.data_seconds = self.learning_rate = 0.0
        self.batches: list[dict[str, Any]] = []
        self.losses: dict[str, Tensor] = {}
        self.stop_requests = StopRequests("finishing the step, then saving")

        paddle.seed(self.seed)
        self._build_reader()
        self._build_model()
        hook_states = self._resume(self.resumed_from) if self.resumed_from else {}
        self.evaluator = Evaluator(cfg, training=self.reader) if evaluate else None
        self.guard = StepGuard(
            self.model, self.optimizer, self.output, max_bad_steps=cfg["max_bad_steps"], rolls_back=self.is_asynchronous
        )
        if self.ema and self.is_asynchronous:
            self.ema.join()
        self.hooks: list[Hook] = [*default_hooks(cfg, evaluate=evaluate), *configured_hooks(cfg, hooks)]
        load_hook_states(self.hooks, hook_states)

    def _build_reader(self) -> None:
        """Build the reader, which decides how many steps an epoch and the run have."""
        cfg = self.cfg
        prefix = self.resumed_from
        known = collectives.from_rank_0(lambda: classes_of_checkpoint(prefix), CheckpointError) if prefix else None
        self.reader = build_train_reader(cfg, known)
        self.classes = self.folder.classes = classes_of(self.reader.dataset, "TrainDataset")
        self.accumulate: int = cfg["accumulate_steps"]
        self.steps_per_epoch = len(self.reader) // self.accumulate
        if not self.steps_per_epoch:
            raise ConfigError(
                f"accumulate_steps is {self.accumulate}, but an epoch has {len(self.reader)} batches: lower it, or the "
                "reader's batch size"
            )
        self.images_per_step: int = self.reader.batch_size * self.accumulate * collectives.world_size()
        self.steps_per_iteration = steps_per_iteration(cfg, "milestones", self.images_per_step)
        self.total_steps = total_steps(cfg, self.steps_per_epoch, self.images_per_step)
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.reader.set_run_length(self.total_steps / self.steps_per_epoch)

    def _build_model(self) -> None:
        """Build the model with its pretrained weights, the optimizer, and the training method."""
        cfg = self.cfg
        self.model = build_model(cfg)
        self.model.trained_classes = self.classes
        check_targets(self.model, self.reader)
        self.schedule = learning_rate(cfg, self.images_per_step)
        self.scheduler = self.schedule.scheduler(self.steps_per_epoch, self.steps_per_iteration, self.total_steps)
        self.optimizer = cfg.create("OptimizerBuilder")(self.scheduler, self.model)
        self.precision = Precision(cfg)
        weights = None if self.resumed_from else self.start.start_weights()
        self.pretrained = self.resumed_from is None and start_from(self.model, weights)
        is_trained = self.pretrained or self.resumed_from is not None
        self.method = make_method(cfg, self.model, is_trained=is_trained, steps_of_run=self.total_steps)
        if weights and self.pretrained:
            warn_of_pretrained_classes(weights, self.classes, makes_labels=self.method.has_teacher)
        self.ema = self.method.average
        # Wrapping gives all ranks the weights of rank 0. It comes before a checkpoint is loaded, which may have batch
        # norm statistics of each rank.
        self.parallel = data_parallel.wrap(self.method.layer, find_unused=cfg["find_unused_parameters"])

    def _resume(self, prefix: Path) -> dict[str, dict]:
        """Load the checkpoint with this prefix, and return the states of hooks in it."""
        saved = load_training(prefix, self.model, self.optimizer, self.ema)
        self._continue_from(saved.state)
        return saved.hooks

    def _continue_from(self, state: TrainingState) -> None:
        """Find the next step after a checkpoint, which may have had another batch size or number of ranks."""
        self.history = list(state.history)
        self.best_value = math.nan if state.best_ap is None and self.history else state.best_ap
        self.evaluated = state.evaluated
        self.precision.load_state(state.loss_scale)
        place = resumed_place(state, self.steps_per_epoch, self.images_per_step, self.total_steps)
        self.epoch, self.first_step, self.iteration = place
        # Also if the step is the same: auto_lr or -o may set another rate than the checkpoint has.
        self.scheduler.step(self.iteration)
        if self.iteration != state.iteration:
            logger.warning(
                "an epoch has %d steps, %d when the checkpoint was written: resuming at the same fraction of the epoch",
                self.steps_per_epoch,
                state.steps_per_epoch,
            )
            if self.ema:
                self.ema.step = self.iteration
        if state.images % self.images_per_step:
            logger.warning("%d images of this epoch will be read twice", state.images % self.images_per_step)
        if state.seed != self.seed:
            logger.warning("seed is %d, %d when the checkpoint was written: the order changes", self.seed, state.seed)
        if self.epoch >= self.epochs:
            logger.warning("the checkpoint has all %d epochs already: nothing to train", self.epochs)

    def state(self, epoch: int, images: int) -> TrainingState:
        """Return the training state that a checkpoint written now holds.

        Args:
            epoch: number of finished epochs. images: number of images of the next epoch that have been trained on.
        """
        return TrainingState(
            epoch=epoch,
            images=images,
            iteration=self.iteration,
            steps_per_epoch=self.steps_per_epoch,
            best_ap=self.best_value,
            evaluated=self.evaluated,
            history=self.history,
            ema_step=self.ema.step if self.ema else 0,
            loss_scale=self.precision.state(),
            seed=self.seed,
        )

    @property
    def is_asynchronous(self) -> bool:
        """Whether the device works behind the host, as a GPU does: reading a value then waits for all its work."""
        return device.runs_behind_host()

    @property
    def steps_of_epoch(self) -> int:
        """Steps of the current epoch; `max_iters` may cut the last epoch short."""
        return min(self.steps_per_epoch, self.total_steps - self.epoch * self.steps_per_epoch)

    @property
    def ends_epoch(self) -> bool:
        """Whether the current step is the last one of its epoch."""
        return self.step + 1 == self.steps_of_epoch

    @property
    def is_log_step(self) -> bool:
        """Whether the log reports after this step: the first of an epoch, every `log_iter` steps, and the last one; in
        place of the epoch's steps those of the whole run if an epoch has fewer than `log_iter`."""
        interval, step = self.cfg["log_iter"], self.epoch * self.steps_per_epoch + self.step  # step: of the run
        if self.steps_per_epoch < interval:
            return step % interval == 0 or step + 1 == self.total_steps
        return self.step % interval == 0 or self.ends_epoch

    def train(self) -> None:
        """Train the epochs that are left, and write checkpoints into the run's folder.

        Raises:
            Stopped: the run was asked to end (SIGTERM, Ctrl-C), and has saved a checkpoint.
            RunError: the folder cannot be used, for example because another process trains there.
        """
        with self.stop_requests, begin_run(self.start):
            try:
                self.call_hooks("before_train")
                while self.epoch < self.epochs and not self.end_reason:
                    self.train_epoch()
                    self.epoch += 1
                self.call_hooks("after_train")
            finally:
                self.call_hooks("close")

    def train_epoch(self) -> None:
        """Train the steps of the current epoch that are left."""
        self.model.train()
        self.reader.set_epoch(self.epoch, self.first_step * self.accumulate)
        self.stop_requests.can_wait = True
        ready = time.perf_counter()
        steps = self.read_steps()
        for step, batches in zip(range(self.first_step, self.steps_of_epoch), steps):
            self.step, self.batches = step, batches
            self.data_seconds = time.perf_counter() - ready
            self.call_hooks("before_step")
            self.train_step()
            self.iteration += 1
            if self.is_log_step or self.ends_epoch:
                self.guard.read_pending_checks()
            self.call_hooks("after_step")
            self.stop_if_asked()
            ready = time.perf_counter()
        steps.close()  # stops the reader's workers where max_iters ends the run
        self.first_step = 0
        self.call_hooks("after_epoch")
        self.stop_requests.can_wait = False

    def read_steps(self) -> Generator[list[dict[str, Any]], None, None]:
        """Yield the batches of each step; the last ones of an epoch are left out if they are too few for a step."""
        batches: list[dict[str, Any]] = []
        for batch in self.reader:
            batches.append(batch)
            if len(batches) == self.accumulate:
                yield batches
                batches = []

    def train_step(self) -> None:
        """Make one update from `batches`. The gradients of its passes add up."""
        # Random numbers of a step depend only on seed, rank and step, so that checkpoints need not save generators.
        seed_generators(self.seed, self.iteration, collectives.rank())
        self.learning_rate = self.optimizer.get_lr()
        self.guard.before_forward()
        passes = self.method.passes(self.batches, self.iteration)
        losses = []
        for number, (inputs, share) in enumerate(passes, start=1):
            averaging = data_parallel.averaging(self.parallel, enabled=number == len(passes))
            with averaging, self.precision.context():
                with self.precision.autocast():
                    losses.append(check_losses(self.parallel(**inputs), self.model))
                self.precision.scale(losses[-1]["loss"] * share).backward()
        self.losses = total_losses(losses, [share for _, share in passes])
        checked = self.guard.check(self.precision)
        self.call_hooks("after_backward")
        self.guard.update(checked, step_record(self))
        self.optimizer.clear_grad(set_to_zero=False)  # dropped, not filled: the next backward pass makes new ones
        self.scheduler.step()
        if self.ema:
            self.ema.update()

    def stop_if_asked(self, *, now: bool = False) -> None:
        """If a rank was asked to end: save, unless the last step is saved already, and end all ranks.

        All ranks have to learn it at the same step. Asking them waits for the device, so that on a GPU it is done only
        at log steps and at the end of an epoch, unless `now`.
        """
        if self.is_asynchronous and not (now or self.is_log_step or self.ends_epoch):
            return
        number = collectives.max_over_ranks(self.stop_requests.received or 0)
        if number:
            self.call_hooks("on_stop")
            collectives.wait_for_all()
            logger.warning("stopped after %d steps; the same command with -r auto continues the run", self.iteration)
            raise Stopped(number, together=True)

    def call_hooks(self, event: str, *details: Any) -> None:
        """Call a method of all hooks, in their order, with the trainer and `details` as arguments."""
        for hook in self.hooks:
            getattr(hook, event)(self, *details)
