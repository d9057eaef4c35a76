"""One log for all of ppdet: `[time] [level] message` on standard error."""

import logging
import os
import sys

ROOT_NAME = "ppdet"


def get_logger(name: str = ROOT_NAME) -> logging.Logger:
    """Return the logger `name`, a child of the `ppdet` logger, which is set up on the first call.

    In a distributed run (environment variable PADDLE_TRAINER_ID) only rank 0 shows messages below
    WARNING; the other ranks' warnings and errors name their rank.
    """
    _set_up_root()
    if name != ROOT_NAME and not name.startswith(ROOT_NAME + "."):
        name = f"{ROOT_NAME}.{name}"
    return logging.getLogger(name)


def get_rank() -> int:
    """Rank of this process as paddle.distributed.launch announces it, 0 when it did not start us."""
    value = os.environ.get("PADDLE_TRAINER_ID", "0")
    return int(value) if value.isdigit() else 0


def is_watched() -> bool:
    """Whether a person may be looking: standard error is a terminal, and this is rank 0."""
    return sys.stderr.isatty() and get_rank() == 0


def _set_up_root() -> None:
    root = logging.getLogger(ROOT_NAME)
    if any(isinstance(handler, _StandardErrorHandler) for handler in root.handlers):
        return
    handler = _StandardErrorHandler()
    handler.setFormatter(_Formatter())
    handler.addFilter(_shown_on_this_rank)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Importing paddle puts a handler on Python's root logger: without this every line comes twice.
    root.propagate = False


def _shown_on_this_rank(record: logging.LogRecord) -> bool:
    # Python 3.9 to 3.12 take any callable as a filter.
    return record.levelno >= logging.WARNING or get_rank() == 0


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("[%(asctime)s] [%(levelname)s] %(rank)s%(message)s", datefmt="%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        rank = get_rank()
        record.rank = f"[rank {rank}] " if rank > 0 else ""
        return super().format(record)


class _StandardErrorHandler(logging.Handler):
    """Writes to whatever sys.stderr is at that moment, above a tqdm progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)

    @staticmethod
    def _write(line: str) -> None:
        tqdm_module = sys.modules.get("tqdm")
        if tqdm_module is not None and hasattr(tqdm_module, "tqdm") and sys.stderr.isatty():
            tqdm_module.tqdm.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
