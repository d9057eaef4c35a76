"""What a training step computes: the forward and backward passes of supervised and of semi-supervised training."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from paddle import Tensor, nn

from ppdet.core.config import Config
from ppdet.engine.build import build_model
from ppdet.modeling.architectures.dense_teacher import StudentAndTeacher
from ppdet.modeling.losses import SSODFCOSLoss
from ppdet.optimizer import ModelEMA
from ppdet.utils.errors import ConfigError

EXP_STEPS, EXP_SCALE = 2000, 1000  # of the suppression `exp`


class Pass(NamedTuple):
    """A forward and a backward pass. inputs: of the method's layer. share: weight of its loss in the step's."""

    inputs: dict
    share: float


class Supervised:
    """Training with labels alone.

    layer: what passes call, for `distributed.wrap`. average: of the model's weights, or None. has_teacher: whether
    the average is a detector in its own right, to be looked at beside the trained one. complete_from: the first step
    that has all passes.
    """

    has_teacher = False
    complete_from = 0

    def __init__(self, cfg: Config, model: nn.Layer) -> None:
        self.model = self.layer = model
        uses_average = cfg["use_ema"] or cfg["use_simple_ema"]
        self.average = average_of(cfg, model) if uses_average else None

    def passes(self, batches: Sequence[dict], iteration: int) -> list[Pass]:
        """The passes of a step over `batches`; `iteration` steps are done."""
        normalizers = self.model.normalizers(batches) if len(batches) > 1 else None
        return [Pass({"batch": batch, "normalizers": normalizers}, 1 / len(batches)) for batch in batches]


class DenseTeacher:
    """Training with labels, and with a teacher's dense pseudo-labels of unlabelled images (arXiv:2207.02541).

    The teacher is the moving average of the student's weights.

    Raises:
        ConfigError: no average is asked for, or a value is out of its range.
    """

    has_teacher = True

    def __init__(self, cfg: Config, model: nn.Layer) -> None:
        if not (cfg["use_simple_ema"] or cfg["use_ema"]):
            raise ConfigError("ssod_method: DenseTeacher's teacher is an average of weights: set use_simple_ema: true")
        train = cfg["DenseTeacher"]["train_cfg"]
        try:
            loss = SSODFCOSLoss(ratio=train["ratio"], gamma=train["gamma"], loss_weight=train["loss_weight"])
        except ValueError as error:
            raise ConfigError(f"DenseTeacher.train_cfg: {error}") from None
        self.model = model
        self.layer = StudentAndTeacher(model, build_model(cfg), loss)
        self.average = average_of(cfg, model, into=self.layer.teacher)
        self.sup_weight, self.unsup_weight = train["sup_weight"], train["unsup_weight"]
        self.concatenated = train["concat_sup_data"]
        self.suppress = train["suppress"]
        self.start = cfg["semi_start_iters"]
        self.complete_from = self.start + 1

    def passes(self, batches: Sequence[dict], iteration: int) -> list[Pass]:
        """See Supervised."""
        labeled = [{key: value for key, value in batch.items() if key != "unlabeled"} for batch in batches]
        if not self.concatenated:
            labeled = [view for batch in labeled for view in views(batch)]
        normalizers = self.model.normalizers(labeled) if len(batches) > 1 else None
        share = self.sup_weight / len(labeled)
        passes = [Pass({"labeled": batch, "normalizers": normalizers}, share) for batch in labeled]
        if iteration > self.start:
            share = self.unsup_weight * suppression(iteration, self.start, self.suppress) / len(batches)
            passes += [Pass({"unlabeled": batch["unlabeled"]["image"]}, share) for batch in batches]
        return passes


def make_method(cfg: Config, model: nn.Layer) -> object:
    """What the configuration trains `model` with."""
    return (DenseTeacher if cfg["ssod_method"] else Supervised)(cfg, model)


def average_of(cfg: Config, model: nn.Layer, into: nn.Layer | None = None) -> ModelEMA:
    """The moving average that the configuration describes; see ModelEMA for `into`.

    Raises:
        ConfigError: a setting is out of its range.
    """
    listed = cfg["ema_black_list"] or []
    copied = [name for name in model.state_dict() if any(part in name for part in listed)]
    if cfg["ema_filter_no_grad"]:
        copied += [name for name, parameter in model.named_parameters() if parameter.stop_gradient]
    try:
        return ModelEMA(
            model,
            decay=cfg["ema_decay"],
            decay_type="normal" if cfg["use_simple_ema"] else cfg["ema_decay_type"],
            start=cfg["ema_start_iters"],
            copied=copied,
            into=into,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def views(batch: dict) -> list[dict]:
    """The strong and the weak views of a batch that has the strong ones first."""
    half = len(batch["im_id"]) // 2
    return [{key: value[part] for key, value in batch.items()} for part in (slice(half), slice(half, None))]


def suppression(iteration: int, start: int, kind: str | None) -> float:
    """Factor in 0..1 of the loss on unlabelled images in step `iteration`, counted from 0, after step `start`.

    linear: (i - s) / s up to step 2 s; exp: exp((i - s - 2000) / 1000) up to step s + 2000; step: 1/4 up to step 2 s.
    A teacher that is trained already, s = 0, is believed at once.
    """
    if not start or not kind:
        return 1.0
    if kind == "exp":
        return min(1.0, math.exp((iteration - start - EXP_STEPS) / EXP_SCALE))
    if iteration > 2 * start:
        return 1.0
    return (iteration - start) / start if kind == "linear" else 0.25


def total_losses(losses: Sequence[dict], shares: Sequence[float]) -> dict[str, Tensor]:
    """What the passes of a step gave, as one: `loss` is their weighted sum, counts are added up, the rest are means."""
    total = {}
    for name in dict.fromkeys(name for one in losses for name in one):
        parts = [one[name] for one in losses if name in one]
        total[name] = sum(parts) / len(parts) if parts[0].ndim == 0 else sum(parts)
    total["loss"] = sum(one["loss"] * share for one, share in zip(losses, shares))
    return total


def scalars(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of a step's losses that are single numbers, which is what logs and histories show."""
    return {name: value for name, value in losses.items() if value.ndim == 0}
