"""Training methods: the forward and backward passes of a supervised or semi-supervised step."""

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from paddle import nn

from ppdet.core.config import Config
from ppdet.engine.build import build_model
from ppdet.engine.training.run_length import steps_before
from ppdet.modeling.architectures.dense_teacher import StudentAndTeacher
from ppdet.modeling.losses import SSODFCOSLoss
from ppdet.optimizer import ModelEMA
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

EXP_STEPS, EXP_SCALE = 2000, 1000  # of the suppression "exp"


class Pass(NamedTuple):
    """One forward and backward pass of a step."""

    inputs: dict[str, Any]  # keyword arguments of the method's layer, which returns losses by name
    share: float  # weight of the pass's `loss` in the loss of the step


class Method(Protocol):
    """The interface of a training method."""

    layer: nn.Layer  # what passes call; the trainer wraps it for several ranks
    average: ModelEMA | None  # moving average of the weights; evaluated and saved in place of them
    has_teacher: bool  # whether the average is a teacher: then evaluations report teacher and student
    complete_from: int  # number of the first step that has all kinds of passes

    def passes(self, batches: Sequence[dict[str, Any]], iteration: int) -> list[Pass]:
        """Return the passes of a step.

        Args:
            batches: the batches of the step on this rank, as the reader yields them.
            iteration: the number of finished steps.
        """


class Supervised:
    """Training with labels only: a pass for each batch. See `Method` for the attributes."""

    has_teacher = False
    complete_from = 0

    def __init__(self, cfg: Config, model: nn.Layer, *, steps_of_run: int) -> None:
        self.model = self.layer = model
        self.average = average_of(cfg, model, steps_of_run) if cfg["use_ema"] or cfg["use_simple_ema"] else None

    def passes(self, batches: Sequence[dict[str, Any]], iteration: int) -> list[Pass]:
        normalizers = self.model.normalizers(batches) if len(batches) > 1 else None
        return [Pass({"batch": batch, "normalizers": normalizers}, 1 / len(batches)) for batch in batches]


class DenseTeacher:
    """Training with labels, and with a teacher's dense pseudo-labels of unlabeled images (arXiv:2207.02541).

    The teacher is the moving average of the student's weights. See `Method` for the attributes.

    Args:
        is_trained: whether the model has learned something already, so that its pseudo-labels are useful at once.
        steps_of_run: see `make_method`.

    Raises:
        ConfigError: the configuration has no average of weights, or a value is out of its range.
    """

    has_teacher = True

    def __init__(self, cfg: Config, model: nn.Layer, *, is_trained: bool, steps_of_run: int) -> None:
        if not (cfg["use_simple_ema"] or cfg["use_ema"]):
            raise ConfigError("ssod_method: DenseTeacher's teacher is an average of weights: set use_simple_ema: true")
        train = cfg["DenseTeacher"]["train_cfg"]
        try:
            loss = SSODFCOSLoss(ratio=train["ratio"], gamma=train["gamma"], loss_weight=train["loss_weight"])
        except ValueError as error:
            raise ConfigError(f"DenseTeacher.train_cfg: {error}") from None
        if train["cutmix_prob"] and cfg.component("SemiTrainReader")["unsup_batch_size"] == 1:
            raise ConfigError(
                "DenseTeacher.train_cfg.cutmix_prob pastes another unlabeled image of the batch, which has one alone: "
                "raise SemiTrainReader.unsup_batch_size, or set cutmix_prob to 0"
            )
        self.model = model
        statistics = train["norm_statistics"]
        options = {"norm_statistics": statistics, "cutmix_prob": train["cutmix_prob"]}
        self.layer = StudentAndTeacher(model, build_model(cfg), loss, **options)
        self.average: ModelEMA | None = average_of(cfg, model, steps_of_run, self.layer.teacher)
        self.sup_weight, self.unsup_weight = train["sup_weight"], train["unsup_weight"]
        self.are_equal = statistics == "shared"  # strong and weak views, for the norms
        self.concatenated = train["concat_sup_data"] and self.are_equal
        self.suppress = train["suppress"]
        self.start = steps_before(cfg, "semi_start_iters", steps_of_run)
        self.complete_from = self.start + 1
        if not (self.start or is_trained):
            logger.warning(
                "the teacher has learned nothing yet, but semi_start_iters is 0: the student will learn its noise; set "
                "semi_start_iters and ema_start_iters, or pretrain_weights to a trained detector"
            )

    def passes(self, batches: Sequence[dict[str, Any]], iteration: int) -> list[Pass]:
        labeled = [{key: value for key, value in batch.items() if key != "unlabeled"} for batch in batches]
        views = [(batch, False) for batch in labeled]
        if not self.concatenated:
            views = [view for batch in labeled for view in zip(split_views(batch), (True, False))]
            if not self.are_equal:
                views.sort(key=itemgetter(1))  # weak views first: they make the running statistics
        normalizers = self.model.normalizers([batch for batch, _ in views]) if len(batches) > 1 else None
        share = self.sup_weight / len(views)
        passes = [
            Pass({"labeled": batch, "normalizers": normalizers, "is_strong": is_strong}, share)
            for batch, is_strong in views
        ]
        if iteration > self.start:
            share = self.unsup_weight * suppression(iteration, self.start, self.suppress) / len(batches)
            passes += [Pass({"unlabeled": batch["unlabeled"]["image"]}, share) for batch in batches]
        return passes


def make_method(cfg: Config, model: nn.Layer, *, is_trained: bool, steps_of_run: int) -> Method:
    """Return the training method of a configuration; see `DenseTeacher` for `is_trained`.

    Args:
        steps_of_run: number of steps of the whole run, of which settings may be shares.
    """
    if cfg["ssod_method"]:
        return DenseTeacher(cfg, model, is_trained=is_trained, steps_of_run=steps_of_run)
    return Supervised(cfg, model, steps_of_run=steps_of_run)


def average_of(cfg: Config, model: nn.Layer, steps_of_run: int, into: nn.Layer | None = None) -> ModelEMA:
    """Return the moving average that a configuration describes; see `make_method`, and ModelEMA for `into`.

    Raises:
        ConfigError: a setting is out of its range.
    """
    black_list = cfg["ema_black_list"] or []
    copied = [name for name in model.state_dict() if any(part in name for part in black_list)]
    if cfg["ema_filter_no_grad"]:
        copied += [name for name, parameter in model.named_parameters() if parameter.stop_gradient]
    try:
        return ModelEMA(
            model,
            decay=cfg["ema_decay"],
            decay_type="normal" if cfg["use_simple_ema"] else cfg["ema_decay_type"],
            start=steps_before(cfg, "ema_start_iters", steps_of_run),
            copied=copied,
            into=into,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def split_views(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Split a batch whose first half are strongly augmented images, and whose second half are weakly augmented."""
    half = len(batch["im_id"]) // 2
    return [{key: value[part] for key, value in batch.items()} for part in (slice(half), slice(half, None))]


def suppression(iteration: int, start: int, kind: str | None) -> float:
    """Return a factor from 0 to 1 of the loss on unlabeled images.

    Args:
        iteration: number of the step i, counted from 0.
        start: the step s after which unlabeled images count; with s = 0 the factor is 1, since the teacher is trained.
        kind: linear: (i - s) / s until step 2 s; exp: exp((i - s - 2000) / 1000) until step s + 2000; step: 1/4 until
            step 2 s; None: 1.
    """
    if not start or not kind:
        return 1.0
    if kind == "exp":
        return min(1.0, math.exp((iteration - start - EXP_STEPS) / EXP_SCALE))
    if iteration > 2 * start:
        return 1.0
    return (iteration - start) / start if kind == "linear" else 0.25
