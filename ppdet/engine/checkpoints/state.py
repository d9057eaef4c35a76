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
from ppdet.engine.checkpoints.weights import CheckpointError, fill, read_arrays
from ppdet.engine.distributed import collectives
from ppdet.optimizer import ModelEMA
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


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
        CheckpointError: one of its files is missing or damaged.
    """
    manifest = read_verified(prefix)
    arrays = {suffix: read_arrays(beside(prefix, suffix)) for suffix in manifest.files}
    weights, averages = next(arrays[suffix] for suffix in WEIGHTS.values() if suffix in arrays), None
    for suffix in TRAINED.values():
        if suffix in arrays:
            weights, averages = arrays[suffix], weights
    return Saved(manifest.state, weights, averages, arrays[OPTIMIZER], arrays.get(RANKS, {}), arrays.get(HOOKS, {}))


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
        ema.set_state_dict({name: saved.averages[name] for name in ema.state_dict()}, saved.state.ema_step)
    set_optimizer_state(model, optimizer, saved.optimizer)
    set_statistics(model, ema, saved.ranks)
    logger.info("resumed from %s: %d epochs, %d steps done", prefix, saved.state.epoch, saved.state.iteration)
    return saved


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
    if len(ranks) != collectives.world_size():
        own = {name: np.mean([values[name] for values in ranks.values()], axis=0) for name in ranks.get("0", {})}
    for name, value in statistics(model, ema).items():
        if name in own:
            value.set_value(own[name])


def optimizer_state(model: nn.Layer, optimizer: Optimizer) -> dict[str, Any]:
    """Return the optimizer's state with the model's parameter names: "backbone.conv1.weight|_moment1_0".

    Paddle's own names ("conv2d_17.w_0_moment1_0") depend on how many layers the process has built before.
    """
    names = {p.name: name for name, p in model.named_parameters()}
    longest_first = sorted(names, key=len, reverse=True)
    state = {}
    for key, value in optimizer.state_dict().items():
        parameter = next((p for p in longest_first if key.startswith(p + "_")), None)
        state[key if parameter is None else f"{names[parameter]}|{key[len(parameter) :]}"] = value
    return state


def set_optimizer_state(model: nn.Layer, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore a state of `optimizer_state`.

    Raises:
        CheckpointError: it is the state of another model, or of another kind of optimizer.
    """
    names = {name: p.name for name, p in model.named_parameters()}
    restored = {}
    for key, value in state.items():
        parameter, bar, suffix = key.partition("|")
        if bar and parameter not in names:
            raise CheckpointError(f"the optimizer's state belongs to another model: it has the parameter {parameter}")
        restored[names[parameter] + suffix if bar else key] = value
    try:
        optimizer.set_state_dict(restored)
    except AssertionError as error:
        raise CheckpointError(f"the checkpoint's optimizer is of another kind: {error}") from None
