"""Skipping updates that would spoil the weights: steps with gradients that are infinite or NaN."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn

from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.distributed import collectives
from ppdet.engine.training.bad_steps import BAD_STEPS, append_bad_step, gather_records, losses_of, warn_of_bad_step
from ppdet.engine.training.precision import Precision, is_overflow
from ppdet.optimizer.joined import Joined
from ppdet.utils.errors import UserError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
# Tensors of at least this many elements are copied one by one; docs/PERFORMANCE.md compares the bytes moved with kernel
# launches.
LARGE = 2**20


class DivergedError(UserError, RuntimeError):
    """Training that cannot recover. The message says where it happened and what to change."""


class Checked(NamedTuple):
    """Result of `StepGuard.check`: whether all values are finite (a boolean on the device), and the loss scale."""

    finite: Tensor
    scale: Tensor | None


class Backup:
    """A copy of tensors that allows a rollback.

    Args:
        join: copy many small float32 tensors by one kernel, and restore them by few. It pays on devices where kernel
            launches are slow, such as GPUs.
    """

    def __init__(self, tensors: Sequence[Tensor], *, join: bool) -> None:
        small = [t for t in tensors if join and t.dtype == paddle.float32 and t.size < LARGE]
        joined_ids = {id(tensor) for tensor in small}
        self.joined = Joined(small) if small else None
        self.tensors = [tensor for tensor in tensors if id(tensor) not in joined_ids]
        self.values: Any = None
        self.copies: list[Tensor] = []

    @paddle.no_grad()
    def save(self) -> None:
        """Copy the tensors."""
        self.values = self.joined and self.joined.read()
        self.copies = [tensor.clone() for tensor in self.tensors]

    def forget(self) -> None:
        """Free the memory of the copies."""
        self.values, self.copies = None, []

    @paddle.no_grad()
    def roll_back_unless(self, finite: Tensor) -> None:
        """Restore the saved values if `finite` is false, without reading it from the device; then forget them."""
        if self.joined:
            self.joined.write(_where(finite, self.joined.read(), self.values))
        for tensor, copy in zip(self.tensors, self.copies):
            _where(finite, tensor, copy)
        self.forget()


def _where(finite: Tensor, tensor: Tensor, otherwise: Tensor) -> Tensor:
    """Give `tensor` the values of `otherwise`, in place, if `finite` is false. Returns `tensor`."""
    # paddle.where launches eleven kernels for this in Paddle 2.6.
    return paddle._C_ops.where_(paddle.expand(finite, tensor.shape), tensor, otherwise)


class StepGuard:
    """Skips the updates of bad steps, and writes down their images and losses.

    A step is bad if a gradient, or a running statistic of a batch norm, is infinite or not a number. Statistics are
    checked because a frozen stage's ReLU turns NaN into 0, so that gradients would not show a broken image.

    A skipped step leaves weights, running statistics and the optimizer's state unchanged; the learning rate schedule
    and the average of weights advance. All ranks skip the same steps: gradients are averaged over ranks, and ranks tell
    each other about their statistics. A step in which the loss scale of float16 made gradients overflow is skipped too,
    but does not count as bad: the scale is halved, and `overflows` counts it.

    On a CPU the check is read before the update. On a GPU reading would wait for the device, so the update is made,
    and rolled back on the device if the step was bad; `read_pending_checks` reads later, when the log is written, which
    steps those were. Only a step in which the optimizer creates state, such as the first one, is read before the
    update there too. The rollback follows tensors whose memory changes (`set_value`, `set_state_dict`), but not a
    tensor that is replaced by another object.

    Args:
        folder: the run's folder, for bad_steps.jsonl; None writes no file.
        max_bad_steps: number of bad steps in a row that ends the run.
        rolls_back: update first and roll back on the device, as on a GPU; otherwise read the check before the update.

    Attributes:
        total: bad steps so far. in_a_row: bad steps since the last good one. overflows: steps that overflowed.
    """

    def __init__(
        self, model: nn.Layer, optimizer: Any, folder: Path | None, *, max_bad_steps: float, rolls_back: bool
    ) -> None:
        self.parameters = [p for p in model.parameters() if p.trainable]
        self._names = {p.name: name for name, p in model.named_parameters()}
        self.statistics = [
            buffer
            for layer in model.sublayers()
            if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm)) and not layer._use_global_stats
            for buffer in (layer._mean, layer._variance)
        ]
        self.optimizer = optimizer
        self.path = folder / BAD_STEPS if folder else None
        self.max_bad_steps = max_bad_steps
        self.rolls_back = rolls_back
        self.in_a_row = self.total = self.overflows = 0
        self._unjudged: list[tuple[Checked, Callable[[], dict]]] = []
        self._statistics_backup = Backup(self.statistics, join=rolls_back)
        self._update_backup: Backup | None = None  # of weights and optimizer state, once there is state
        self._with_state: set[str] = set()  # names of the parameters for which the optimizer has state

    def before_forward(self) -> None:
        """Save the running statistics, which forward passes change."""
        self._statistics_backup.save()

    @paddle.no_grad()
    def check(self, precision: Precision) -> Checked:
        """Divide the gradients by the loss scale, and check them and the running statistics.

        Args:
            precision: the precision of the passes; its loss scale follows overflows.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # A copy of the statistics in one tensor, since the division by the loss scale is in place.
        statistics = [paddle._C_ops.concat(self.statistics, 0)] if self.statistics else []
        finite, scale = precision.unscale(gradients + statistics)
        if statistics:  # each rank has its own
            finite = collectives.true_on_all_ranks(finite)
        precision.adjust(finite)
        return Checked(finite, scale)

    @paddle.no_grad()
    def update(self, checked: Checked, record: Callable[[], dict]) -> None:
        """Make the optimizer's step, unless the step is bad.

        Args:
            checked: the result of `check`.
            record: returns the description of the step for bad_steps.jsonl; `read_pending_checks` calls it for a bad
                step.

        Raises:
            CheckpointError: the checkpoint that training continues from lacks a parameter's optimizer state.
        """
        self._unjudged.append((checked, record))
        names = {p.name for p in self.parameters if p.grad is not None}
        if self._update_backup and names <= self._with_state:
            self._update_backup.save()
            self._step()
            self._update_backup.roll_back_unless(checked.finite)
            self._statistics_backup.roll_back_unless(checked.finite)
            return
        if bool(checked.finite):
            self._step()
            self._with_state |= names
            if self.rolls_back:
                self._update_backup = Backup([*self.parameters, *tensors_of(self.optimizer.state_dict())], join=True)
            self._statistics_backup.forget()
        else:
            self._statistics_backup.roll_back_unless(checked.finite)
        self.read_pending_checks()

    def _step(self) -> None:
        """Make the optimizer's step. The first one after resuming takes the state of the checkpoint."""
        try:
            self.optimizer.step()
        except AssertionError as error:
            # Which parameters have state is only known by then: one that the loss does not use has none.
            if "should in state dict" not in str(error):
                raise
            name = next((n for p, n in self._names.items() if f" {p}_" in str(error)), str(error))
            raise CheckpointError(
                f"the optimizer's state in the checkpoint that training continues from lacks the parameter {name}: "
                "resume from an older checkpoint of the run"
            ) from None

    def read_pending_checks(self) -> None:
        """Read which steps since the last call were bad, and write them down. All ranks call this together.

        Raises:
            DivergedError: there were too many in a row.
        """
        overflows = self.overflows
        for checked, record in self._unjudged:
            if bool(checked.finite):
                self.in_a_row = 0
                continue
            step = gather_records(record())
            if checked.scale is not None and is_overflow(checked.scale, losses_of(step)):
                self.overflows += 1
                append_bad_step(self.path, {**step, "loss_scale": float(checked.scale)})
                continue
            self.in_a_row += 1
            self.total += 1
            append_bad_step(self.path, step)
            warn_of_bad_step(step, self.path)
        self._unjudged = []
        if self.overflows > overflows:
            logger.info(
                "float16: %d steps skipped so far, each halving the loss scale, since a gradient was out of range: %s",
                *(self.overflows, self.path),
            )
        if self.in_a_row >= self.max_bad_steps:
            raise DivergedError(
                f"{self.in_a_row} steps in a row had gradients or running statistics that are infinite or not numbers: "
                "lower LearningRate.base_lr, lengthen the warm-up or set OptimizerBuilder.clip_grad_by_norm; the "
                f"images are listed in {self.path}, the weights are still those from before these steps"
            )


def tensors_of(state: dict[str, Any]) -> list[Tensor]:
    """Return all tensors in an optimizer's state."""
    return [value for value in state.values() if isinstance(value, Tensor)]
