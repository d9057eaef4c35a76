"""The base class of hooks, with the events that the trainer calls and their order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ppdet.core.contracts import with_article
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)


class Report(TypedDict):
    """Figures of the steps since the last report, as `Hook.after_report` gets them."""

    learning_rate: float  # of the last step
    losses: dict[str, float]  # means over the steps, by name; NaN where no step had a finite value
    seconds_per_step: float
    images_per_second: float  # of all ranks together
    data_share: float  # share of the time, 0 to 1, that was spent waiting for data
    max_mem_mib: dict[str, int]  # peak memory of this process: "host", and "device" if one is used


class Hook:
    """Base class of hooks. The trainer calls their methods at fixed points, with itself as the argument.

    Derive a class, override the events that it needs, and pass an instance as `Trainer(cfg, hooks=[...])`; or decorate
    the class with `@register` and name it in YAML: `hooks: [MyHook, {name: MyOtherHook, interval: 10}]`.

    Each event is called for all hooks in the same order: the default hooks (`default_hooks`), those of the YAML file,
    those given in Python. Unless the list says otherwise, an event is called on every rank, at the same step.

        load_state              only when a run resumes, and only if the checkpoint has a state of this hook
        before_train            the run's folder is ready; on every rank
            before_step         `trainer.batches` holds the batches of the step; nothing is computed yet
            after_backward      gradients are computed, weights are not updated yet
            after_step          weights are updated, `trainer.losses` is set, `trainer.iteration` has been raised
              after_report      at steps that the log reports; called by LogHook, which is the first hook, so that it
                                comes before `after_step` of all other hooks
            on_stop             only if the run was asked to end (SIGTERM, Ctrl-C): after the step's `after_step`
            after_epoch         after the last step of an epoch; `trainer.epoch` is still the number of this epoch
              state             whenever a checkpoint is written: here, in `after_step` and in `on_stop`
              after_evaluation  rank 0 only; called by CheckpointHook, in `after_epoch`
              after_pseudo_labels   rank 0 only; called by PseudoLabelHook, in `after_epoch` or `before_train`
        after_train             after the last epoch; not called if the run was stopped or failed
        close                   always called last, also after an error

    The steps and epochs between `before_train` and `after_train` repeat. An exception of a hook ends the run.
    """

    def before_train(self, trainer: "Trainer") -> None:
        """Called once, before the first step. `trainer.iteration` is above 0 in a run that resumed."""

    def before_step(self, trainer: "Trainer") -> None:
        """Called before a step's forward passes. Batches in `trainer.batches` may be changed in place."""

    def after_backward(self, trainer: "Trainer") -> None:
        """Called once per step, after its last backward pass and before the optimizer updates the weights.

        `parameter.grad` of `trainer.model.parameters()` is the gradient of the step's loss: summed over its passes,
        averaged over ranks, without the loss scale of float16, before the optimizer clips it. It may be changed in
        place. The check for infinite gradients has been made already, so a hook has to keep finite gradients finite.
        """

    def after_step(self, trainer: "Trainer") -> None:
        """Called after a step's update.

        Reading a value from a GPU makes the host wait for the device: do so only when `trainer.is_log_step`.
        """

    def after_epoch(self, trainer: "Trainer") -> None:
        """Called after an epoch's last step."""

    def on_stop(self, trainer: "Trainer") -> None:
        """Called when the run was asked to end and ends after the step that was just made."""

    def after_train(self, trainer: "Trainer") -> None:
        """Called after the last epoch."""

    def close(self, trainer: "Trainer") -> None:
        """Called when `Trainer.train` ends for whatever reason, even if `before_train` of this hook was not reached.

        The exception that ends the run, if any, is `sys.exc_info()[1]`.
        """

    def after_report(self, trainer: "Trainer", report: Report) -> None:
        """Called at steps that the log reports, with the figures of the steps since the last report."""

    def after_evaluation(self, trainer: "Trainer", numbers: dict[str, float]) -> None:
        """Called on rank 0 after an evaluation of the weights that `trainer.iteration` steps have made.

        `numbers` are COCO's (AP, AP50, …) and those of the global setting `eval_metrics`.

        In semi-supervised training they are the teacher's; the student's are there too, with the prefix `student_`.
        """

    def after_pseudo_labels(self, trainer: "Trainer", figures: dict[str, float], picture: np.ndarray) -> None:
        """Called on rank 0 with figures of the teacher's pseudo-labels after `trainer.iteration` steps.

        Args:
            figures: as `ppdet.metrics.pseudo_label_quality.measure` names them.
            picture: some images with their pseudo-labels, (H, W, 3) uint8 RGB.
        """

    def state(self) -> dict[str, Any] | None:
        """Return the state that a checkpoint keeps, so that a resumed run continues as an unbroken one would.

        Called on every rank, so it may use collectives; the checkpoint keeps what rank 0 returns. None keeps nothing.
        Values are numbers, text, true or false, None, NumPy arrays, and lists or dictionaries (with text as keys) of
        these; tuples come back as lists.
        """
        return None

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `state` returned on rank 0.

        Called on every rank of a run that resumes, before `before_train`.
        """

    def writes(self, trainer: "Trainer") -> list[str]:
        """Return names of the files that this hook will write into the run's folder, or paths elsewhere.

        Only `--dry_run` asks for them, to list them.
        """
        return []


def hook_keys(hooks: Sequence[Hook]) -> dict[str, Hook]:
    """Hooks by the keys of their states in checkpoints: the class name, then `Name_2`, … for more of one class."""
    keys: dict[str, Hook] = {}
    for hook in hooks:
        name, number = type(hook).__name__, 1
        while (key := name if number == 1 else f"{name}_{number}") in keys:
            number += 1
        keys[key] = hook
    return keys


def hook_states(hooks: Sequence[Hook]) -> dict[str, dict]:
    """States of those hooks that have one, by `hook_keys`.

    Raises:
        ConfigError: a state has values that a checkpoint cannot keep.
    """
    states = {}
    for key, hook in hook_keys(hooks).items():
        state = hook.state()
        if state is not None:
            states[key] = _plain_state(state, f"{key}.state()")
    return states


def load_hook_states(hooks: Sequence[Hook], states: dict[str, dict]) -> None:
    """Give hooks their states from a checkpoint; a warning names the states of hooks that this run does not have."""
    keys = hook_keys(hooks)
    for key, state in states.items():
        if key in keys:
            keys[key].load_state(state)
        else:
            logger.warning("the checkpoint has a state of the hook %s, but this run has no such hook: ignored", key)


def _plain_state(value: Any, place: str) -> Any:
    """A copy of `value` with lists in place of tuples; `place` names it in errors."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{place}: expected text as keys, got {key!r}")
        return {key: _plain_state(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_state(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return value.copy()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return value.item()
    raise ConfigError(
        f"{place} is {with_article(type(value))}: a checkpoint keeps numbers, text, None, NumPy arrays, and lists and "
        "dictionaries of these"
    )
