"""Everything optional about training. A hook's methods are called by the trainer with itself as the argument."""

from collections.abc import Sequence

from ppdet.core.config import Config
from ppdet.core.contracts import require_instance
from ppdet.engine.hooks.base import Hook, Report
from ppdet.engine.hooks.boards import BoardHook, TensorBoard, VisualDL
from ppdet.engine.hooks.checkpointing import CheckpointHook
from ppdet.engine.hooks.dead_side import DeadSideHook
from ppdet.engine.hooks.history import HistoryHook
from ppdet.engine.hooks.log import LogHook
from ppdet.engine.hooks.picture import BatchPictureHook
from ppdet.engine.hooks.positives import PositivesHook
from ppdet.engine.hooks.profiler import ProfilerHook
from ppdet.engine.hooks.pseudo_labels import PseudoLabelHook
from ppdet.engine.hooks.selection import SelectionHook
from ppdet.utils.errors import config_error

__all__ = [
    "BatchPictureHook",
    "BoardHook",
    "CheckpointHook",
    "DeadSideHook",
    "HistoryHook",
    "Hook",
    "LogHook",
    "PositivesHook",
    "ProfilerHook",
    "PseudoLabelHook",
    "Report",
    "SelectionHook",
    "configured_hooks",
    "default_hooks",
]


def configured_hooks(cfg: Config, more: Sequence[Hook] = ()) -> list[Hook]:
    """Build the hooks that the setting `hooks` lists, and return them before `more`, those of `Trainer(hooks=...)`.

    Raises:
        ConfigError: one of them is not derived from Hook.
    """
    for hook in more:
        require_instance(hook, Hook, "Trainer(hooks=...)")
    hooks = cfg.create("hooks")
    for index, hook in enumerate(hooks):
        if not isinstance(hook, Hook):
            name = type(hook).__name__
            message = f"{name} is not a hook: derive the class {name} from ppdet.engine.hooks.Hook"
            raise config_error(cfg.origin(f"hooks.{index}"), f"hooks.{index}", message)
    return [*hooks, *more]


def default_hooks(cfg: Config, *, evaluate: bool) -> list[Hook]:
    """The hooks of an ordinary run, in the order in which they have to be called.

    Raises:
        ConfigError: a board's package is not installed.
    """
    boards = []
    if cfg["use_vdl"]:
        boards.append(BoardHook(VisualDL, cfg["vdl_log_dir"]))
    if cfg["use_tensorboard"]:
        boards.append(BoardHook(TensorBoard))
    semi = []
    if cfg["ssod_method"]:
        semi = [SelectionHook(cfg["DenseTeacher"]["train_cfg"]["ratio"]), PseudoLabelHook(epochs=cfg["snapshot_epoch"])]
    return [
        LogHook(),
        HistoryHook(),
        *boards,
        BatchPictureHook(),
        PositivesHook(),
        DeadSideHook(),
        CheckpointHook(epochs=cfg["snapshot_epoch"], iters=cfg["snapshot_iters"], evaluate=evaluate),
        *semi,
    ]
