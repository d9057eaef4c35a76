"""The starting point of a training run: its folder, a checkpoint to resume, or pretrained weights."""

import os
from dataclasses import dataclass
from pathlib import Path

from ppdet.core.config import Config
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.distributed import collectives
from ppdet.engine.runs.run_config import output_of
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


@dataclass
class StartPoint:
    """The start of a run; `find` makes one.

    Attributes:
        cfg: the run's configuration.
        folder: the run's folder, with the checkpoints of an earlier run if it has any.
        resume: the value of --resume: None, "auto", or a checkpoint such as output/NAME/3.
        resumed_from: prefix of the checkpoint to resume, None to start from the beginning.
        overwrite: remove an earlier run that is not continued, instead of moving it aside.
    """

    cfg: Config
    folder: RunFolder
    resume: str | None
    resumed_from: Path | None
    overwrite: bool = False

    @classmethod
    def find(cls, cfg: Config, *, resume: str | None = None, overwrite: bool = False) -> "StartPoint":
        """Find the checkpoint that `resume` asks for. Rank 0 looks, since other machines may not have the files.

        Raises:
            CheckpointError: the checkpoint does not exist.
        """
        path = output_of(cfg)
        folder = RunFolder(path, keep_every=cfg["keep_checkpoints"], weights_format=cfg["weights_format"])

        def look() -> tuple[Path | None, str | None]:
            if resume == "auto":
                return folder.newest(), folder.pretrained_from
            return (folder.find_named_checkpoint(resume) if resume else None), None

        resumed_from, folder.pretrained_from = collectives.from_rank_0(look, CheckpointError)
        if resume == "auto" and resumed_from is None:
            logger.info("--resume auto: %s has no checkpoint of a run yet: starting from the beginning", path)
        return cls(cfg, folder, resume, resumed_from, overwrite)

    @property
    def output(self) -> Path:
        """Path of the run's folder."""
        return self.folder.path

    def own_weights(self) -> Path | None:
        """Return pretrain_weights relative to the run's own folder, None if they are elsewhere.

        They belong to the earlier run in the folder, and move with it.
        """
        text = self.cfg["pretrain_weights"]
        if not text or "://" in text or not is_inside(Path(text), self.output):
            return None
        return Path(os.path.expanduser(text)).resolve().relative_to(self.output.resolve())

    def start_weights(self) -> str | None:
        """Return the path of pretrain_weights, which is a new one if the earlier run in this folder was renamed."""
        moved = self.folder.pretrained_from if self.own_weights() else None
        return moved or self.cfg["pretrain_weights"]


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path lies in a folder, at any depth."""
    return folder.resolve() in Path(os.path.expanduser(path)).resolve().parents
