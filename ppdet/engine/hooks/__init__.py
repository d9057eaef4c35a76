"""Everything optional about training: log, history, checkpoints, evaluation, pictures, warnings. See `Hook`."""

from collections.abc import Sequence

from ppdet.core.config import Config
from ppdet.core.contracts import require_instance
from ppdet.engine.hooks.auto_ratio import AutoRatioHook
from ppdet.engine.hooks.base import Hook
from ppdet.engine.hooks.boards import BoardHook, TensorBoard, VisualDL
from ppdet.engine.hooks.checkpointing import CheckpointHook
from ppdet.engine.hooks.early_stopping import EarlyStoppingHook
from ppdet.engine.hooks.history import HistoryHook
from ppdet.engine.hooks.location_warnings import DeadSideHook, PositivesHook, SelectionHook
from ppdet.engine.hooks.log import LogHook
from ppdet.engine.hooks.picture import BatchPictureHook
from ppdet.engine.hooks.pseudo_labels import PseudoLabelHook
from ppdet.engine.hooks.run_summary import RunSummaryHook
from ppdet.engine.hooks.trackers import MLflow, SwanLab, Wandb
from ppdet.utils.errors import nearest
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def configured_hooks(cfg: Config, more: Sequence[Hook] = ()) -> list[Hook]:
    """Build the hooks that the setting `hooks` lists, and return them before `more`, the hooks of `Trainer(hooks=...)`.

    Raises:
        ConfigError: one of them is not derived from Hook, or a method cannot be called as that of Hook. A warning tells
            of methods that are called like an event and are none.
    """
    hooks = cfg.create("hooks")
    places = [f"{cfg.origin(f'hooks.{index}')}: hooks.{index}" for index in range(len(hooks))]
    for hook, place in zip([*hooks, *more], [*places, *["Trainer(hooks=...)"] * len(more)]):
        require_instance(hook, Hook, place)
        for name in dir(hook):
            if name.startswith(("before_", "after_", "on_")) and not hasattr(Hook, name):
                logger.warning("%s: %s.%s is no event%s", place, type(hook).__name__, name, nearest(name, dir(Hook)))
    return [*hooks, *more]


def default_hooks(cfg: Config, *, evaluate: bool) -> list[Hook]:
    """Return the hooks that every run has, in the order in which they are called.

    Raises:
        ConfigError: the package of a board is not installed.
    """
    boards: list[Hook] = []
    if cfg["use_vdl"]:
        boards.append(BoardHook(VisualDL, cfg["vdl_log_dir"]))
    boards += [BoardHook(board) for board in (TensorBoard, Wandb, MLflow, SwanLab) if cfg[board.setting]]
    semi: list[Hook] = []
    if cfg["ssod_method"]:
        ratio = cfg["DenseTeacher"]["train_cfg"]["ratio"]
        selection = AutoRatioHook(cfg["num_classes"]) if ratio == "auto" else SelectionHook(ratio)
        semi = [selection, PseudoLabelHook(epochs=cfg["snapshot_epoch"])]
    return [
        LogHook(),
        HistoryHook(),
        *boards,
        BatchPictureHook(),
        PositivesHook(),
        DeadSideHook(),
        CheckpointHook(epochs=cfg["snapshot_epoch"], iters=cfg["snapshot_iters"], evaluate=evaluate),
        *([EarlyStoppingHook(cfg["patience"])] if cfg["patience"] else []),
        RunSummaryHook(),
        *semi,
    ]
