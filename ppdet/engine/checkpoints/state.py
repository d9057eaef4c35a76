"""A checkpoint's content from objects, and back: optimizer, averaged weights, and each rank's batch norm statistics."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from paddle import Tensor, nn
from paddle.optimizer import Optimizer

from ppdet.engine.checkpoints.manifest import (
    HOOKS,
    OPTIMIZER,
    RANKS,
    TRAINED,
    WEIGHTS,
    TrainingState,
    beside,
    read_verified,
)
from ppdet.engine.checkpoints.weights import CheckpointError, fill, read_arrays, require_finite
from ppdet.engine.distributed import collectives
from ppdet.optimizer import ModelEMA
from ppdet.utils.disk.files import is_number
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

logger = get_logger(__name__)
SCHEDULE = "LR_Scheduler"  # Paddle's key of the schedule's state among the optimizer's arrays
MOST_RANKS = 4096


class Saved(NamedTuple):
    """The content of a checkpoint, with arrays by name.

    Attributes:
        weights: the trained weights. averages: the averaged ones, None if the run did not average.
        optimizer: see `optimizer_state`. ranks: `statistics` of every rank, by the rank's number as text.
        hooks: the states of hooks, see `ppdet.engine.hooks.base.hook_states`; empty in checkpoints of older versions.
    """

    state: TrainingState
    weights: dict[str, np.ndarray]
    averages: dict[str, np.ndarray] | None
    optimizer: dict[str, Any]
    ranks: dict[str, dict[str, np.ndarray]]
    hooks: dict[str, dict[str, Any]]


def read_checkpoint(prefix: Path) -> Saved:
    """Verify and read a checkpoint.

    Raises:
        CheckpointError: one of its files is missing or damaged, has values that are not finite, or other content than a
            training run writes.
    """
    manifest = read_verified(prefix)
    arrays = {suffix: read_arrays(beside(prefix, suffix)) for suffix in manifest.files}
    for suffix, content in arrays.items():
        check_content(content, suffix, beside(prefix, suffix))
    weights, averages = next(arrays[suffix] for suffix in WEIGHTS.values() if suffix in arrays), None
    for suffix in TRAINED.values():
        if suffix in arrays:
            weights, averages = arrays[suffix], weights
    return Saved(manifest.state, weights, averages, arrays[OPTIMIZER], arrays.get(RANKS, {}), arrays.get(HOOKS, {}))


def check_content(content: dict[str, Any], suffix: str, path: Path) -> None:
    """Raise CheckpointError unless a checkpoint's file has what a training run writes into one with this suffix."""
    groups = {"": content}
    is_known = all(isinstance(name, str) for name in content)
    if suffix == OPTIMIZER:
        schedule = content.get(SCHEDULE, {})
        is_known = is_known and isinstance(schedule, dict) and all(map(is_schedule_value, schedule.values()))
        of_parameters = [value for name, value in content.items() if "|" in str(name)]
        is_known = is_known and all(isinstance(value, np.ndarray) for value in of_parameters)
    elif suffix in (RANKS, HOOKS):
        groups = content
        is_known = is_known and all(isinstance(group, dict) for group in content.values())
    if suffix == RANKS:
        values = [value for group in content.values() if isinstance(group, dict) for value in group.values()]
        is_known = is_known and len(content) <= MOST_RANKS and all(isinstance(value, np.ndarray) for value in values)
    if not is_known:
        raise CheckpointError(f"{path}: not what a training run writes: take an older checkpoint of the run")
    if suffix != HOOKS:
        for group in groups.values():
            require_finite(group, path)


def is_schedule_value(value: Any, inner: bool = False) -> bool:
    """Whether a value is one of a schedule's state: a finite number, or the state of a schedule within it."""
    if isinstance(value, dict):
        return not inner and all(is_schedule_value(item, True) for item in value.values())
    number = value.item() if isinstance(value, np.generic) else value
    return number is None or isinstance(number, bool) or is_number(number)


def load_training(prefix: Path, model: nn.Layer, optimizer: Optimizer, ema: ModelEMA | None) -> Saved:
    """Restore weights, optimizer, averages and statistics; the caller restores the training state and the hooks.

    Rank 0 reads the files and sends them to the other ranks, which may be on other machines.

    Raises:
        CheckpointError: a file is missing, damaged, or of another model.
    """
    saved = collectives.from_rank_0(lambda: read_checkpoint(prefix), CheckpointError)
    if ema is not None and saved.averages is None:
        raise CheckpointError(f"{prefix}: it has no averaged weights: it was written without use_ema")
    fill(model, saved.weights, strict=True, source=str(prefix))
    if ema is not None:
        ema.set_state_dict(fitting_averages(ema, saved.averages or {}, prefix), saved.state.ema_step)
    set_optimizer_state(model, optimizer, saved.optimizer)
    set_statistics(model, ema, saved.ranks)
    done = counted(saved.state.epoch, "epoch"), counted(saved.state.iteration, "step")
    logger.info("resumed from %s: %s, %s done", prefix, *done)
    return saved


def fitting_averages(ema: ModelEMA, averages: dict[str, np.ndarray], prefix: Path) -> dict[str, np.ndarray]:
    """Return the arrays of `averages` that `ema` needs; CheckpointError if one is missing, or has another shape."""
    for name, value in ema.state_dict().items():
        if name not in averages or np.shape(averages[name]) != tuple(value.shape):
            raise CheckpointError(f"{prefix}: its averaged weights do not fit this configuration: {name}")
    return {name: averages[name] for name in ema.state_dict()}


def statistics(model: nn.Layer, ema: ModelEMA | None) -> dict[str, Tensor]:
    """Return this rank's running statistics of batch norms, which differ between ranks: each sees other images.

    Those of the averaged weights have names with "average|" in front.
    """
    averages = ema.state_dict() if ema is not None else {}
    state = {**model.state_dict(), **{f"average|{name}": value for name, value in averages.items()}}
    return {name: value for name, value in state.items() if name.endswith(collectives.STATISTICS)}


def set_statistics(model: nn.Layer, ema: ModelEMA | None, ranks: dict[str, dict[str, np.ndarray]]) -> None:
    """Restore this rank's statistics, or the mean of all where the number of ranks was another.

    Args:
        ranks: `statistics` of each rank, by the rank's number as text; empty leaves the statistics unchanged.
    """
    own = ranks.get(str(collectives.rank()), {})
    wanted = statistics(model, ema)
    for name, value in wanted.items():
        for values in ranks.values():
            if name in values and values[name].shape != tuple(value.shape):
                raise CheckpointError(f"the checkpoint's statistics of {name} have another shape than the model's")
    if len(ranks) != collectives.world_size():
        shared = [name for name in wanted if all(name in values for values in ranks.values())] if ranks else []
        own = {name: np.mean([values[name] for values in ranks.values()], axis=0) for name in shared}
    for name, value in wanted.items():
        if name in own:
            value.set_value(own[name])


def optimizer_state(model: nn.Layer, optimizer: Optimizer) -> dict[str, Any]:
    """Return the optimizer's state with the model's parameter names: "backbone.conv1.weight|_moment1_0".

    Paddle's own names ("conv2d_17.w_0_moment1_0") depend on how many layers the process has built before.
    """
    names = {p.name: name for name, p in model.named_parameters()}
    longest_first = sorted(names, key=len, reverse=True)
    state = {}
    # Paddle 2.6 puts a restored state in its place in the first step only; a run may end before it.
    waiting = getattr(optimizer, "_accumulators_holder", {})
    for key, value in {**waiting, **optimizer.state_dict()}.items():
        parameter = next((p for p in longest_first if key.startswith(p + "_")), None)
        state[key if parameter is None else f"{names[parameter]}|{key[len(parameter) :]}"] = value
    return state


def set_optimizer_state(model: nn.Layer, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore a state of `optimizer_state`.

    Raises:
        CheckpointError: it is the state of another model, or of another kind of optimizer.
    """
    parameters = dict(model.named_parameters())
    restored = {}
    for key, value in state.items():
        parameter, bar, suffix = key.partition("|")
        if bar and parameter not in parameters:
            raise CheckpointError(
                f"the optimizer's state belongs to another model: it has the parameter {parameter:.100}"
            )
        # Momentum has the shape of the parameter; a product of betas is one number.
        if bar and tuple(np.shape(value)) not in (tuple(parameters[parameter].shape), (1,), ()):
            raise CheckpointError(
                f"the optimizer's state belongs to another model: it has shape {list(np.shape(value))} for {parameter}"
            )
        restored[parameters[parameter].name + suffix if bar else key] = value
    try:
        optimizer.set_state_dict(restored)
    except (AssertionError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"the checkpoint's optimizer is of another kind: {error}") from None
