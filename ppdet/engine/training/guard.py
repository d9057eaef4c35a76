"""Updates that would do harm are not made: those of steps that give infinite values or ones that are not numbers."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import paddle
from paddle import Tensor, nn

from ppdet.engine.distributed import collectives
from ppdet.engine.training.precision import Precision, is_overflow
from ppdet.optimizer.joined import Joined
from ppdet.utils.errors import UserError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
BAD_STEPS = "bad_steps.jsonl"
LARGE = 2**20  # numbers; docs/PERFORMANCE.md weighs what is moved against launches


class Step(NamedTuple):
    """An update to be judged: whether all of the step was finite (on the device), and the loss scale it had."""

    finite: Tensor
    scale: Tensor | None
    describe: Callable[[], dict]


class DivergedError(UserError, RuntimeError):
    """Training that cannot recover; the message says where it happened and what to change."""


class Kept:
    """Tensors, and what they were before something that may have to be taken back.

    Args:
        together: copy many tensors by one kernel, and take back by few. Those of LARGE numbers, of which a network has
            few, are copied by themselves: that moves less.
    """

    def __init__(self, tensors: Sequence[Tensor], *, together: bool) -> None:
        joined = [t for t in tensors if together and t.dtype == paddle.float32 and t.size < LARGE]
        inside = {id(tensor) for tensor in joined}
        self.joined = Joined(joined) if joined else None
        self.tensors = [tensor for tensor in tensors if id(tensor) not in inside]
        self.forget()

    @paddle.no_grad()
    def keep(self) -> None:
        self.values = self.joined and self.joined.read()
        self.copies = [tensor.clone() for tensor in self.tensors]

    def forget(self) -> None:
        self.values, self.copies = None, []

    @paddle.no_grad()
    def take_back(self) -> None:
        """Give the tensors the values that were kept."""
        if self.joined:
            self.joined.write(self.values)
        for tensor, copy in zip(self.tensors, self.copies):
            tensor.set_value(copy)

    @paddle.no_grad()
    def take_back_unless(self, finite: Tensor) -> None:
        """The same if a boolean on the device is false, which is not read; then forget them."""
        if self.joined:
            self.joined.write(chosen(finite, self.joined.read(), self.values))
        for tensor, copy in zip(self.tensors, self.copies):
            chosen(finite, tensor, copy)
        self.forget()


def chosen(finite: Tensor, tensor: Tensor, otherwise: Tensor) -> Tensor:
    """`tensor`, with the values of `otherwise` if `finite` is false."""
    # paddle.where makes eleven kernels of this in 2.6.
    return paddle._C_ops.where_(paddle.expand(finite, tensor.shape), tensor, otherwise)


class StepGuard:
    """Skips the updates of bad steps, and writes down what they were given.

    A step is bad if a gradient is not finite, or a running statistic of a batch norm: before a frozen stage's ReLU,
    which makes 0 of what is not a number, there is no gradient that would show a broken image.

    A skipped step leaves weights, running statistics and the optimizer's state as they were; schedule and averages
    go on. Ranks share their gradients, and tell each other of their statistics, so all of them skip the same steps. A
    step that float16's loss scale made overflow is skipped as well, but it is no bad one: the scale goes down, and
    `overflows` counts it.

    On a CPU, where nothing runs ahead, gradients are looked at before the update. On a GPU that would wait for the
    device: there the update is made, and taken back on the device where it has to be; which steps that were is read
    by `judge`, when the log is written. Only a step that makes new state in the optimizer, as the first one does, is
    looked at there as well. Weights and state are followed into other memory (`set_value`, `set_state_dict`); another
    object in a tensor's place, which nothing here and no optimizer of Paddle's puts there, would not be taken back.

    Args:
        folder: of the run; skipped steps go to bad_steps.jsonl in it. None: nowhere.
        max_bad_steps: bad steps in a row that end the run.
        takes_back: whether the device works behind the host. Otherwise look before every update.
    """

    def __init__(
        self, model: nn.Layer, optimizer: object, folder: Path | None, *, max_bad_steps: int, takes_back: bool
    ) -> None:
        self.parameters = [p for p in model.parameters() if p.trainable]
        self.statistics = [
            buffer
            for layer in model.sublayers()
            if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm)) and not layer._use_global_stats
            for buffer in (layer._mean, layer._variance)
        ]
        self.optimizer = optimizer
        self.path = folder and folder / BAD_STEPS
        self.max_bad_steps = max_bad_steps
        self.takes_back = takes_back
        self.in_a_row = self.total = self.overflows = 0
        self._steps: list[Step] = []  # not judged yet
        self._of_forward = Kept(self.statistics, together=takes_back)
        self._of_update: Kept | None = None  # once the optimizer has state
        self._have_state: set[str] = set()  # names of the parameters that it has made it of

    def before_forward(self) -> None:
        """A forward pass changes the running statistics of trained batch norms: keep them."""
        self._of_forward.keep()

    @paddle.no_grad()
    def check(self, precision: Precision) -> tuple[Tensor, Tensor | None]:
        """Divide the gradients by the loss scale, and check that they and the running statistics are finite.

        Args:
            precision: the precision of the passes; its loss scale follows overflows.

        Returns:
            A boolean on the device, true if all values are finite, and the loss scale of this step, if there is one.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # A copy of the statistics in one tensor, since the division by the loss scale is in place.
        statistics = [paddle._C_ops.concat(self.statistics, 0)] if self.statistics else []
        finite, scale = precision.unscale(gradients + statistics)
        if statistics:  # gradients are the same on all ranks, statistics are not
            finite = collectives.on_all_ranks(finite)
        precision.adjust(finite)
        return finite, scale

    @paddle.no_grad()
    def update(self, finite: Tensor, scale: Tensor | None, describe: Callable[[], dict]) -> None:
        """Make the optimizer's step, unless a gradient or a running statistic is not finite.

        Args:
            finite, scale: what `check` returned.
            describe: returns what `bad_steps.jsonl` says of this step; `judge` calls it if the step is bad.
        """
        self._steps.append(Step(finite, scale, describe))
        names = {p.name for p in self.parameters if p.grad is not None}
        if self.takes_back and names <= self._have_state:
            self._of_update.keep()
            self.optimizer.step()
            self._of_update.take_back_unless(finite)
            self._of_forward.take_back_unless(finite)
        elif bool(finite):
            self.optimizer.step()
            self._have_state |= names
            if self.takes_back:
                self._of_update = Kept([*self.parameters, *tensors_of(self.optimizer.state_dict())], together=True)
            self.judge()
        else:
            self._of_forward.take_back()
            self.judge()
        self._of_forward.forget()

    def judge(self) -> None:
        """Write down the bad steps since the last call.

        Raises:
            DivergedError: too many in a row.
        """
        overflows = self.overflows
        for finite, scale, describe in self._steps:
            if bool(finite):
                self.in_a_row = 0
                continue
            # All ranks take part, so that all of them come to the same count.
            step = self.merge(collectives.gather(describe()))
            if is_overflow(scale, [loss for rank in step["ranks"] for loss in rank["losses"].values()]):
                self.overflows += 1
                self.write({**step, "loss_scale": float(scale)})
                continue
            self.in_a_row += 1
            self.total += 1
            self.write(step)
            self.warn(step)
        self._steps = []
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

    @staticmethod
    def merge(descriptions: list[dict]) -> dict:
        """One description of a step from those of all ranks."""
        step = {key: descriptions[0][key] for key in ("epoch", "step", "iteration")}
        ranks = [{key: value for key, value in d.items() if key not in step} for d in descriptions]
        return {**step, "ranks": ranks}

    def write(self, step: dict) -> None:
        """Append a line with every rank's images and losses to the file."""
        if collectives.rank() != 0 or self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(step) + "\n")
        except OSError as error:
            logger.error("%s could not be written: %s; training goes on without this line", self.path, error)

    def warn(self, step: dict) -> None:
        if collectives.rank() != 0:
            return
        ranks = step["ranks"]
        guilty = [r for r in ranks if not all(math.isfinite(float(v)) for v in r["losses"].values())] or ranks
        images = [str(image["id"]) for r in guilty for image in r["images"]]
        images += [f"unlabelled {image['id']}" for r in guilty for image in r.get("unlabeled", ())]
        logger.warning(
            "step %d of epoch %d skipped: a gradient or a running statistic is infinite or not a number; images %s%s%s",
            step["step"] + 1,
            step["epoch"] + 1,
            ", ".join(images[:16]),
            ", …" if len(images) > 16 else "",
            (self.path and f", see {self.path}") or "",
        )


def tensors_of(state: dict) -> list[Tensor]:
    """All tensors in an optimizer's state."""
    return [value for value in state.values() if isinstance(value, Tensor)]
