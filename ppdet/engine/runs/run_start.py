"""The start of a run in its folder: locking, handling of an earlier run, config.yml, and train.log."""

import contextlib
import datetime
import os
import shlex
import shutil
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from ppdet.core.config import Config
from ppdet.engine.checkpoints.manifest import MANIFEST, beside, content_hash, link_or_copy
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.history import HISTORY
from ppdet.engine.runs.best_evaluation import best_evaluation
from ppdet.engine.runs.earlier_run import (
    Decision,
    RunError,
    decide,
    manifests_in,
    next_name,
    require_may_go,
    will_delete,
)
from ppdet.engine.runs.run_config import CONFIG_FILE, output_of, write_config
from ppdet.engine.runs.run_folder import BEST
from ppdet.engine.runs.start_point import StartPoint, is_inside
from ppdet.utils.disk.files import copy_file
from ppdet.utils.disk.lock import LockedError, locked, require_free
from ppdet.utils.errors import UserError
from ppdet.utils.logger import LogFile, get_logger
from ppdet.utils.process.stop import signals_later

logger = get_logger(__name__)
LOG_FILE = "train.log"


@contextlib.contextmanager
def begin_run(start: StartPoint) -> Iterator[None]:
    """Lock the run's folder, prepare it, and record the log in train.log while the block runs.

    Rank 0 does it while the other ranks wait.

    Raises:
        RunError: another process trains there, the earlier run cannot be moved, or files cannot be written.
    """
    with contextlib.ExitStack() as stack:
        log: list[LogFile] = []

        def on_rank_0() -> None:
            try:
                stack.enter_context(locked(**lock_of(start.output)))
                require_unchanged(start)
                take_folder(start)
                log.append(stack.enter_context(LogFile(start.output / LOG_FILE, opening_line(start))))
            except LockedError as error:
                raise RunError(str(error)) from None
            except OSError as error:
                # Until it is complete, the new folder has a temporary name, which the user does not know.
                name = start.output.name
                place = str(error.filename or start.output).replace(f"{os.sep}.{name}.new", f"{os.sep}{name}")
                raise RunError(f"{place}: the run cannot begin: {error.strerror or error}") from None

        collectives.from_rank_0(on_rank_0, RunError)
        try:
            yield
        except BaseException as error:
            for file in log:
                if not collectives.follows_from_lost_rank(error):
                    file.write(closing_line(error))
            raise


def lock_of(output: Path) -> dict:
    """Return the arguments of `locked`. The lock file is beside the folder, since the folder may be renamed."""
    return {
        "path": output.with_name(f".{output.name}.lock"),
        "what": f"{output}: a training run",
        "advice": "wait for its end, or give this run another name with --name",
    }


def require_no_other(cfg: Config) -> None:
    """Raise LockedError where another process trains in the run's folder now. Nothing is written."""
    require_free(**lock_of(output_of(cfg)))


def require_unchanged(start: StartPoint) -> None:
    """Raise RunError where another run has changed the folder or the checkpoint since `StartPoint.find` saw them."""
    folder, source = start.folder, start.resumed_from
    changed: Path | None = None
    if folder.has_changed():
        changed = start.output
    elif source and folder.resumed_hash and not is_inside(source, start.output):
        is_same = content_hash(source) in (None, folder.resumed_hash)  # None: loading it raises a better error
        changed = None if is_same else source
    if changed:
        raise RunError(f"{changed} was changed by another run since this one was started: run the same command again")


def opening_line(start: StartPoint) -> str:
    """Return the line of train.log that separates this process's lines from lines of earlier processes."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    what = f"continues from {start.resumed_from}" if start.resumed_from else "begins"
    return f"{now} {what}: {shlex.join(sys.argv)} (process {os.getpid()} on {socket.gethostname()})"


def closing_line(error: BaseException) -> str:
    """Return the line of train.log about the end of a run; an unexpected error has its traceback."""
    if isinstance(error, SystemExit):
        return f"==== ended with exit code {error.code}"
    if isinstance(error, KeyboardInterrupt):
        return "==== interrupted"
    if isinstance(error, (UserError, OSError)):
        return f"==== error: {' '.join(str(error).split())}"
    return "==== " + "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def preview(start: StartPoint) -> str:
    """Describe in one line, for --dry_run, what `begin_run` would do to the content of the folder."""
    try:
        require_free(**lock_of(start.output))
        if decide(start) is Decision.IN_PLACE:
            return "keeps what is there"
        require_may_go(start)
    except (LockedError, RunError) as error:
        return f"the run would be refused: {error}"
    return "clears the earlier run" if will_delete(start) else f"moves the earlier run to {next_name(start.output)}"


def take_folder(start: StartPoint) -> None:
    """Move an earlier run aside or remove it, and write config.yml and run.json of this run.

    A new folder is prepared under a temporary name, so that an error leaves the earlier run as it was.
    """
    output, folder = start.output, start.folder
    if output.exists() and not output.is_dir():
        raise RunError(f"{output} is not a folder: remove it, or give this run another name with --name")
    decision = decide(start)
    new, old = (output.with_name(f".{output.name}.{word}") for word in ("new", "old"))
    for leftover in (new, old):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    own_weights = start.own_weights()
    if not own_weights:
        folder.pretrained_from = None
    if decision is Decision.IN_PLACE:
        output.mkdir(parents=True, exist_ok=True)
        folder.begin(start.resumed_from, go_on=start.resume == "auto")
        write_config(start.cfg, output, start_weights=start.start_weights())
        return
    require_may_go(start)
    is_cleared = will_delete(start)
    aside = old if is_cleared else next_name(output)
    new.mkdir()
    try:
        if decision is Decision.GO_BACK and start.resumed_from:
            copy_up_to(start.resumed_from, output, new)
        if own_weights and not folder.pretrained_from:
            folder.pretrained_from = str(aside / own_weights)
        folder.begin(start.resumed_from, go_on=False, folder=new)
        write_config(start.cfg, new, start_weights=start.start_weights())
        exchange(output, aside, new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if is_cleared:
        logger.info("%s: the earlier run was removed (--overwrite)", output)
    elif decision is Decision.GO_BACK:
        logger.info("%s goes back to %s: the whole earlier run is now %s", output, start.resumed_from, aside)
    else:
        logger.info("%s had an earlier run, which is now %s", output, aside)


def copy_up_to(prefix: Path, output: Path, new: Path) -> None:
    """Put checkpoints up to `prefix`, the log, and the best weights if they are from before, into the folder `new` too.

    Raises:
        RunError: the checkpoint no longer exists.
    """
    manifests = manifests_in(output)
    own = manifests.get(output / prefix.name)
    if own is None:
        raise RunError(f"{prefix} has gone since this run was started: give it another checkpoint")
    for other, manifest in manifests.items():
        if manifest.state.iteration <= own.state.iteration:
            for suffix in (*manifest.files, MANIFEST):
                path = beside(other, suffix)
                if path.is_file():
                    link_or_copy(path, new / path.name)
    newest = max(manifests.values(), key=lambda manifest: manifest.state.iteration)
    bests = [best_evaluation([value for _, value in one.state.history]) for one in (own, newest)]
    if own.state.best_ap is not None and own.state.best_ap == newest.state.best_ap and bests[0] == bests[1]:
        for path in output.glob(f"{BEST}.*"):
            link_or_copy(path, new / path.name)
    for name in (HISTORY, LOG_FILE, CONFIG_FILE):
        if (output / name).is_file():
            copy_file(output / name, new / name)


def exchange(output: Path, aside: Path, new: Path) -> None:
    """Rename `output` to `aside`, and `new` to `output`: both or none, even if a signal arrives in between."""
    with signals_later():
        try:
            output.rename(aside)
            new.rename(output)
        except BaseException as error:
            # A signal that another thread receives still raises its exception here, in the main thread.
            is_moved = not output.exists() and aside.exists()
            if is_moved:
                aside.rename(output)
            if is_moved or not isinstance(error, OSError):
                raise
            raise RunError(
                f"{output} has an earlier run and cannot be renamed to {aside.name} ({error.strerror or error}): give "
                "this run another name with --name"
            ) from None
