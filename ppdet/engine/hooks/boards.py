"""Scalars and pictures for VisualDL, TensorBoard, and the trackers of experiments in `trackers.py`."""

import importlib
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ppdet.core.config import Config
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook, Report
from ppdet.engine.hooks.history import END, EVALUATION, HISTORY, PSEUDO_LABELS, REPORT, read_history
from ppdet.engine.runs.run_config import all_values, leaves
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger
from ppdet.utils.masking import masked
from ppdet.utils.printable import printable

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
SECRET = ("_API_KEY", "_PASSWORD", "_TOKEN", "_SECRET", "_SECRET_KEY")  # how names of variables with secrets end
PICTURE_SIDE = 800  # pixels of a picture's longer side, at most
Setting = bool | int | float | str | None


class Board:
    """What BoardHook calls: the base class of boards.

    Attributes:
        setting: the global setting that turns the board on.
        package: the Python package that it needs.
        name: name of its folder in the run's folder.
        tries_again: whether what follows is still written after an error, or nothing any more.
        place: where the figures go, for the log; it has no passwords.
    """

    setting: str
    package: str
    name: str
    tries_again = True
    place: str

    def __init__(self, folder: Path, run: str) -> None:
        """Begin a run of this name; what is written here goes to the folder."""
        raise NotImplementedError

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        """Return the errors that the log reports while training continues; the package can be imported."""
        return (OSError,)

    def add_settings(self, settings: dict[str, Setting]) -> None:
        """Add the settings of the run, by dotted names, which were not set yet. A board may have no place for them."""

    def add(self, scalars: dict[str, float], step: int) -> None:
        """Add scalars, such as train/loss, after `step` steps."""
        raise NotImplementedError

    def add_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture, (H, W, 3) uint8 RGB, after `step` steps."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write or send what was added."""
        raise NotImplementedError

    def close(self, error: BaseException | None) -> None:
        """End the run on the board.

        Args:
            error: what ended the run; None: it has finished, Stopped: it was asked to end.
        """
        raise NotImplementedError


# The writers that the two libraries offer pass everything on to a thread. A full disk ends that thread, and then they
# wait for it forever. So only the libraries' file formats are used, without a thread.


class VisualDL(Board):
    """A VisualDL log file of scalars and pictures in a folder."""

    setting, package, name = "use_vdl", "visualdl", "vdl"

    def __init__(self, folder: Path, run: str) -> None:
        from visualdl.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.place = str(folder)
        # VisualDL shows the file of a folder whose name comes last.
        self.writer = RecordWriter(open(folder / f"vdlrecords.{time.time():.6f}.log", "wb"))  # noqa: SIM115, the writer closes it

    def add(self, scalars: dict[str, float], step: int) -> None:
        from visualdl.component.base_component import scalar

        for name, value in scalars.items():
            record = scalar(tag=name, value=value, step=step, walltime=round(time.time() * 1000))
            self.writer.write(record.SerializeToString())

    def flush(self) -> None:
        self.writer.flush()

    def close(self, error: BaseException | None) -> None:
        self.writer.close()

    def add_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        from visualdl.component.base_component import image

        record = image(tag=name, image_array=picture, step=step, walltime=round(time.time() * 1000))
        self.writer.write(record.SerializeToString())


class TensorBoard(Board):
    """A TensorBoard event file of scalars and pictures in a folder."""

    setting, package, name = "use_tensorboard", "tensorboardX", "tensorboard"

    def __init__(self, folder: Path, run: str) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self.place = str(folder)
        self.writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        # TensorBoard shows all files of a folder as one run; this record hides what older files have.
        self.writer.write_event(Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))

    def add(self, scalars: dict[str, float], step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in scalars.items():
            self.writer.write_event(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))

    def flush(self) -> None:
        self.writer.flush()

    def close(self, error: BaseException | None) -> None:
        self.writer.close()

    def add_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        # tensorboardX's own function needs Pillow, on which it does not depend.
        encoded = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        height, width, channels = picture.shape
        content = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=encoded)
        summary = Summary(value=[Summary.Value(tag=name, image=content)])
        self.writer.write_event(Event(step=step, wall_time=time.time(), summary=summary))


class BoardHook(Hook):
    """Shows every report, evaluation and figures of pseudo-labels on a board, over the steps of the whole run.

    The board also gets the settings, and whether the run has finished, was asked to end, or failed.

    A run that resumes starts a new file with all figures, but no pictures, that its history has of earlier steps. So
    this hook comes after HistoryHook, which drops lines of later steps.

    Args:
        board: the class of the board.
        folder: folder for its files; None: the board's `name` in the run's folder.

    Raises:
        ConfigError: the board's package is not installed.
    """

    def __init__(self, board: type[Board], folder: str | None = None) -> None:
        self.board = board
        self.folder = folder
        self.opened: Board | None = None
        self.failed = False
        self.handled: BaseException | None = None  # an exception that was being handled before the run began
        try:
            importlib.import_module(board.package)
        except ImportError as error:
            raise ConfigError(
                f"{board.setting} needs {board.package} ({error}): pip install {board.package}, or set it to false"
            ) from None

    def writes(self, trainer: "Trainer") -> list[str]:
        return [f"{self.folder or self.board.name}/"]

    def before_train(self, trainer: "Trainer") -> None:
        if collectives.rank() != 0:
            return
        folder = Path(self.folder) if self.folder else trainer.output / self.board.name
        self.handled = sys.exc_info()[1]
        try:
            self.opened = self.board(folder, trainer.output.name)
            self.opened.add_settings(settings_of(trainer.cfg))
        except self.board.errors() as error:
            self.failed = True
            text = without_secrets(str(error))
            logger.error("%s: the run cannot begin there: %s; training continues", self.board.setting, text)
            return
        logger.info("%s: scalars go to %s", self.board.setting, self.opened.place)
        for line in read_history(trainer.output / HISTORY):
            self._add(line["event"], line, line["iteration"], flush=False)

    def after_report(self, trainer: "Trainer", report: Report) -> None:
        self._add(REPORT, dict(report), trainer.iteration)

    def after_evaluation(self, trainer: "Trainer", numbers: dict[str, float]) -> None:
        self._add(EVALUATION, {"numbers": numbers}, trainer.iteration)

    def after_pseudo_labels(self, trainer: "Trainer", figures: dict[str, float], picture: np.ndarray) -> None:
        self._add(PSEUDO_LABELS, {"figures": figures}, trainer.iteration, picture)

    def _add(
        self, event: str, line: dict[str, Any], step: int, picture: np.ndarray | None = None, *, flush: bool = True
    ) -> None:
        if self.opened is None or (self.failed and not self.board.tries_again):
            return
        try:
            self.opened.add(dict(scalars_of(event, line)), step)
            if picture is not None:
                self.opened.add_picture(f"{event}/picture", shrunk(picture), step)
            if flush:
                self.opened.flush()
        except self.board.errors() as error:
            if not self.failed:
                text = without_secrets(str(error))
                logger.error("%s: scalars could not be written: %s; training continues", self.board.setting, text)
            self.failed = True

    def close(self, trainer: "Trainer") -> None:
        if self.opened is not None:
            ended_by = sys.exc_info()[1]  # the trainer closes its hooks in a "finally"
            try:
                self.opened.close(None if ended_by is self.handled else ended_by)
            except self.board.errors() as error:
                logger.error("%s: scalars could not be written: %s", self.board.setting, without_secrets(str(error)))
            self.opened = None


def without_secrets(text: str) -> str:
    """Return a text without passwords and queries in addresses, and without the keys that the environment has."""
    text = masked(text)
    keys = (value for name, value in os.environ.items() if name.endswith(SECRET))
    for key in sorted((key for key in keys if len(key) >= 4), key=len, reverse=True):
        text = text.replace(key, "***")
    return text


def settings_of(cfg: Config) -> dict[str, Setting]:
    """Return all settings of a run, defaults included, by dotted names; a list is text. They have no passwords."""

    def plain(value: Any) -> Setting:
        is_number = value is None or isinstance(value, (bool, int, float))
        return value if is_number else printable(without_secrets(str(value)))

    return {printable(name): plain(value) for name, value in leaves(all_values(cfg))}


def shrunk(picture: np.ndarray) -> np.ndarray:
    """Return the picture with its longer side reduced to PICTURE_SIDE if it is larger."""
    scale = PICTURE_SIDE / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def scalars_of(event: str, line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield names on a board, such as train/loss_cls and eval/AP, and the finite numbers of a line of the history."""
    if event == END:
        named = {}
    elif event == EVALUATION:
        named = {f"eval/{name}": value for name, value in line["numbers"].items()}
    elif event == PSEUDO_LABELS:
        named = {f"{event}/{name}": value for name, value in line["figures"].items()}
    else:
        named = {f"train/{name}": value for name, value in line["losses"].items()}
        named.update({f"train/max_mem_{where}": value for where, value in line["max_mem_mib"].items()})
        for name in ("learning_rate", "images_per_second", "data_share"):
            named[f"train/{name}"] = line[name]
    yield from ((printable(name), value) for name, value in named.items() if value is not None and math.isfinite(value))
