"""What a checkpoint holds: weights, averages, optimizer, and each rank's statistics, into objects and out of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from paddle import Tensor, nn

from ppdet.engine.checkpoints.manifest import HOOKS, OPTIMIZER, RANKS, TRAINED, WEIGHTS, TrainingState, beside, check
from ppdet.engine.checkpoints.weights import CheckpointError, fill, read_arrays
from ppdet.engine.distributed import collectives
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class Saved(NamedTuple):
    """A checkpoint's content, as arrays."""

    state: TrainingState
    weights: dict
    averages: dict | None
    optimizer: dict
    ranks: dict
    hooks: dict[str, dict]  # states of hooks by `hook_keys`; none in checkpoints of older versions


def read_training(prefix: Path) -> Saved:
    """Check and read a checkpoint.

    Raises:
        CheckpointError: one of its files is missing or damaged.
    """
    state, suffixes = check(prefix)
    arrays = {suffix: read_arrays(beside(prefix, suffix)) for suffix in suffixes}
    weights, averages = next(arrays[suffix] for suffix in WEIGHTS.values() if suffix in arrays), None
    for suffix in TRAINED.values():
        if suffix in arrays:
            weights, averages = arrays[suffix], weights
    return Saved(state, weights, averages, arrays[OPTIMIZER], arrays.get(RANKS, {}), arrays.get(HOOKS, {}))


def load_training(prefix: Path, model: nn.Layer, optimizer: object, ema: object | None) -> Saved:
    """Restore what `RunFolder.save` wrote, but for the training state and the hooks, which the caller restores.

    Rank 0 reads; the others, who may be on other machines, get it from there.

    Raises:
        CheckpointError: a file is missing or damaged, or of another model.
    """
    saved = collectives.from_rank_0(lambda: read_training(prefix), CheckpointError)
    if ema is not None and saved.averages is None:
        raise CheckpointError(f"{prefix}: it has no averaged weights: it was written without use_ema")
    fill(model, saved.weights, strict=True, source=str(prefix))
    if ema is not None:
        ema.set_state_dict({name: saved.averages[name] for name in ema.state_dict()}, saved.state.ema_step)
    set_optimizer_state(model, optimizer, saved.optimizer)
    set_statistics(model, ema, saved.ranks)
    state = saved.state
    logger.info("resumed from %s: %d epochs, %d steps done", prefix, state.epoch, state.iteration)
    return saved


def statistics(model: nn.Layer, ema: object | None) -> dict[str, Tensor]:
    """This rank's running statistics of batch norms, which follow the images that the rank has seen."""
    averages = ema.state_dict() if ema is not None else {}
    state = {**model.state_dict(), **{f"average|{name}": value for name, value in averages.items()}}
    return {name: value for name, value in state.items() if name.endswith(collectives.STATISTICS)}


def set_statistics(model: nn.Layer, ema: object | None, ranks: dict) -> None:
    """Restore the statistics of every rank; for another number of ranks, their mean."""
    own = ranks.get(str(collectives.rank()), {})
    if len(ranks) != collectives.world_size():
        own = {name: np.mean([values[name] for values in ranks.values()], axis=0) for name in ranks.get("0", {})}
    for name, value in statistics(model, ema).items():
        if name in own:
            value.set_value(own[name])


def optimizer_state(model: nn.Layer, optimizer: object) -> dict:
    """Optimizer state under the model's names: Paddle's own names depend on what else the process has built."""
    names = {p.name: name for name, p in model.named_parameters()}
    longest_first = sorted(names, key=len, reverse=True)
    state = {}
    for key, value in optimizer.state_dict().items():
        parameter = next((p for p in longest_first if key.startswith(p + "_")), None)
        state[key if parameter is None else f"{names[parameter]}|{key[len(parameter) :]}"] = value
    return state


def set_optimizer_state(model: nn.Layer, optimizer: object, state: dict) -> None:
    names = {name: p.name for name, p in model.named_parameters()}
    restored = {}
    for key, value in state.items():
        parameter, bar, suffix = key.partition("|")
        if bar and parameter not in names:
            raise CheckpointError(f"the optimizer state is of another model: it names {parameter}")
        restored[names[parameter] + suffix if bar else key] = value
    try:
        optimizer.set_state_dict(restored)
    except AssertionError as error:
        raise CheckpointError(f"the checkpoint is of another kind of optimizer: {error}") from None
