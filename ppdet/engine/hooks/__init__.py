"""Everything optional about training. A hook's methods are called by the trainer with itself as the argument."""

from ppdet.core.config import Config
from ppdet.engine.hooks.base import Hook, at_log_line
from ppdet.engine.hooks.checkpoint import CheckpointHook
from ppdet.engine.hooks.dead_side import DeadSideHook
from ppdet.engine.hooks.log import LogHook
from ppdet.engine.hooks.picture import BatchPictureHook

__all__ = [
    "BatchPictureHook",
    "CheckpointHook",
    "DeadSideHook",
    "Hook",
    "LogHook",
    "at_log_line",
    "default_hooks",
]


def default_hooks(cfg: Config, *, evaluate: bool) -> list[Hook]:
    """The hooks of an ordinary run, in the order in which they have to be called."""
    return [
        LogHook(cfg["log_iter"]),
        BatchPictureHook(),
        DeadSideHook(interval=cfg["log_iter"]),
        CheckpointHook(
            epochs=cfg["snapshot_epoch"], iters=cfg["snapshot_iters"], interval=cfg["log_iter"], evaluate=evaluate
        ),
    ]
