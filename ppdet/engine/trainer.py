"""The training loop, and only the loop: everything optional is a hook."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import paddle

from ppdet.core.config import Config
from ppdet.engine import distributed
from ppdet.engine.build import build_dataset, build_model, build_reader, check_targets
from ppdet.engine.checkpoint import TrainingState, load_training, load_weights
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks import Hook, default_hooks
from ppdet.engine.runtime import training_type
from ppdet.modeling import cpu
from ppdet.optimizer import ModelEMA
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class Trainer:
    """Trains what a configuration describes.

    Hooks read these attributes: epoch (from 0), step (within the epoch, from 0), iteration (steps done in the whole
    run), steps_per_epoch, batch, losses (of the last step, on the device), data_seconds (waited for the batch),
    learning_rate (of the last step), model, optimizer, ema, reader, output (the run's folder), best_ap.

    Args:
        evaluate: evaluate whenever a checkpoint is written, and keep the best one.
        resume: prefix of a checkpoint to go on from.
        hooks: further hooks, called after the default ones.
    """

    def __init__(
        self, cfg: Config, *, evaluate: bool = False, resume: Optional[str] = None, hooks: Sequence[Hook] = ()
    ) -> None:
        self.cfg = cfg
        self.output = Path(cfg["save_dir"]) / cfg.name
        paddle.seed(cfg["seed"])

        dataset = build_dataset(cfg, "TrainDataset")
        self.reader = build_reader(cfg, "TrainReader", dataset)
        self.steps_per_epoch = len(self.reader)
        self.epochs = cfg["epoch"]
        self.model = build_model(cfg)
        check_targets(self.model, self.reader)
        self.scheduler = cfg.create("LearningRate").scheduler(self.steps_per_epoch)
        self.optimizer = cfg.create("OptimizerBuilder")(self.scheduler, self.model)
        self.epoch, self.step, self.iteration = 0, 0, 0
        self.best_ap: Optional[float] = None
        self.data_seconds = self.learning_rate = 0.0
        self.batch: dict = {}
        self.losses: dict = {}

        if cfg["pretrain_weights"] and not resume:
            load_weights(self.model, cfg["pretrain_weights"], strict=False)
        self.ema = None
        if cfg["use_ema"]:
            self.ema = ModelEMA(self.model, decay=cfg["ema_decay"], decay_type=cfg["ema_decay_type"])
        if resume:
            self.restore(load_training(resume, self.model, self.optimizer, self.ema))
        self.evaluator = Evaluator(cfg) if evaluate else None
        self.parallel = distributed.wrap(self.model, find_unused=cfg["find_unused_parameters"])
        self.hooks = [*default_hooks(cfg, evaluate=evaluate), *hooks]
        self.dtype = training_type(cfg)

    def restore(self, state: TrainingState) -> None:
        """Go on where `state` stopped; with another batch size or number of ranks, at the start of the same epoch."""
        self.epoch, self.iteration, self.best_ap = state.epoch, state.iteration, state.best_ap
        if state.steps_per_epoch != self.steps_per_epoch:
            self.iteration = state.epoch * self.steps_per_epoch
            self.scheduler.step(self.iteration)
            logger.warning(
                "an epoch has %d steps, %d when the checkpoint was written: the schedule goes on by epochs",
                self.steps_per_epoch,
                state.steps_per_epoch,
            )
        if self.epoch >= self.epochs:
            logger.warning("the checkpoint has all %d epochs already: nothing to train", self.epochs)

    def state(self) -> TrainingState:
        """What a checkpoint written after the current epoch has to say."""
        return TrainingState(
            epoch=self.epoch + 1,
            iteration=self.iteration,
            best_ap=self.best_ap,
            ema_step=self.ema.step if self.ema else 0,
            steps_per_epoch=self.steps_per_epoch,
        )

    def train(self) -> None:
        """Run all epochs that are left."""
        self.call("before_train")
        while self.epoch < self.epochs:
            self.train_epoch()
            self.epoch += 1
        self.call("after_train")

    def train_epoch(self) -> None:
        self.model.train()
        self.reader.set_epoch(self.epoch)
        ready = time.perf_counter()
        for step, batch in enumerate(self.reader):
            self.step = step
            self.batch = batch
            self.data_seconds = time.perf_counter() - ready
            self.call("before_step")
            self.train_step()
            self.iteration += 1
            self.call("after_step")
            ready = time.perf_counter()
        self.call("after_epoch")

    def train_step(self) -> None:
        """One update from `batch`."""
        self.learning_rate = self.optimizer.get_lr()
        with cpu.compute_in(self.dtype):
            self.losses = self.parallel(self.batch)
            self.losses["loss"].backward()
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.scheduler.step()
        if self.ema:
            self.ema.update()

    def call(self, event: str) -> None:
        for hook in self.hooks:
            getattr(hook, event)(self)
