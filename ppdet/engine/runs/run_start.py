"""How a run takes its folder: no other process is there, an earlier run goes aside, and files say how it is trained."""

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
from ppdet.engine.checkpoints.manifest import (
    MANIFEST,
    beside,
    files_seal,
    link,
)
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.history import HISTORY
from ppdet.engine.runs.earlier_run import (
    GO_BACK,
    IN_PLACE,
    RunError,
    clears,
    decide,
    manifests,
    require_may_go,
)
from ppdet.engine.runs.moved import next_name
from ppdet.engine.runs.run_config import CONFIG_FILE, is_inside, note_start_weights, own_weights, write_config
from ppdet.engine.runs.run_folder import BEST, RunFolder
from ppdet.utils.disk.lock import LockedError, locked, require_free
from ppdet.utils.errors import UserError
from ppdet.utils.logger import LogFile, get_logger
from ppdet.utils.process.stop import signals_later

logger = get_logger(__name__)
LOG_FILE = "train.log"


@contextlib.contextmanager
def begun(trainer: object) -> Iterator[None]:
    """Within the block the run's folder is this run's alone, says how it is trained, and takes down its log.

    Rank 0 sees to it, the others wait. An earlier run in the folder has another name then, or is gone with
    `trainer.overwrite`.

    Raises:
        RunError: another process trains there, the earlier run cannot be moved, or files cannot be written.
    """
    with contextlib.ExitStack() as stack:
        log: list[LogFile] = []

        def on_rank_0() -> None:
            try:
                for lock in locks_of(trainer.output):
                    stack.enter_context(locked(**lock))
                require_unchanged(trainer)
                begin(trainer)
                log.append(stack.enter_context(LogFile(trainer.output / LOG_FILE, title(trainer))))
            except LockedError as error:
                raise RunError(str(error)) from None
            except OSError as error:
                # The folder has another name until it is ready.
                name = trainer.output.name
                place = str(error.filename or trainer.output).replace(f"{os.sep}.{name}.new", f"{os.sep}{name}")
                raise RunError(f"{place}: the run cannot begin: {error.strerror or error}") from None

        collectives.from_rank_0(on_rank_0, RunError)
        try:
            yield
        except BaseException as error:
            for file in log:
                if not collectives.is_echo(error):
                    file.write(last_words(error))
            raise


def locks_of(output: Path) -> list[dict]:
    """Arguments for `locked`. A file is beside the folder, so that it stays where it is when the folder is moved.

    A folder that is a link has a second one beside what it leads to: that may be another run's folder.
    """
    real = output.resolve()
    folders = [output, real] if output.is_symlink() else [output]
    return [
        {
            "path": folder.with_name(f".{folder.name}.lock"),
            "what": f"{output}{f', a link to {real}' if output.is_symlink() else ''}: a training run",
            "advice": "wait for its end, or give this run another name with --name",
        }
        for folder in folders
    ]


def require_no_other(cfg: Config) -> None:
    """Raise LockedError when another process trains in the run's folder now. Nothing is written."""
    for lock in locks_of(output_of(cfg)):
        require_free(**lock)


def require_unchanged(trainer: object) -> None:
    """Raise RunError when, while the run was prepared, another one has written what it starts from, or goes on with."""
    folder, source = trainer.folder, trainer.resumed_from
    is_elsewhere = source is not None and not is_inside(source, trainer.output)
    if folder.seen is not None and folder.seals() != folder.seen:
        place = trainer.output
    elif is_elsewhere and folder.resumed_files and files_seal(source) not in (None, folder.resumed_files):
        place = source
    else:
        return
    raise RunError(f"{place} was changed by another run since this one was started: run the same command again")


def output_of(cfg: Config) -> Path:
    """The folder of a configuration's run."""
    return Path(cfg["save_dir"]) / cfg.name


def find_checkpoint(folder: RunFolder, resume: str | None) -> Path | None:
    """Prefix of the checkpoint that -r names, None without one. Rank 0 looks: only its machine may have the files."""
    if resume != "auto":
        named = (lambda: folder.named(resume)) if resume else (lambda: None)
        return collectives.from_rank_0(named, CheckpointError)
    start = collectives.from_rank_0(folder.newest_and_start, CheckpointError)
    found, folder.pretrained_from, folder.pretrained_run = start
    if found is None:
        logger.info("--resume auto: %s has no checkpoint of a run yet: starting from the beginning", folder.folder)
    return found


def title(trainer: object) -> str:
    """What separates this process's lines in train.log from those of the one before."""
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    start = f"goes on from {trainer.resumed_from}" if trainer.resumed_from else "begins"
    return f"{now} {start}: {shlex.join(sys.argv)} (process {os.getpid()} on {socket.gethostname()})"


def last_words(error: BaseException) -> str:
    """How train.log says what ended a run: what the terminal shows of it."""
    if isinstance(error, SystemExit):
        return f"==== ended with exit code {error.code}"
    if isinstance(error, KeyboardInterrupt):
        return "==== interrupted"
    if isinstance(error, (UserError, OSError)):
        return f"==== error: {' '.join(str(error).split())}"
    return "==== " + "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def announce(trainer: object) -> str:
    """What would become of what is in the run's folder now, in a line for `--dry_run`."""
    try:
        require_no_other(trainer.cfg)
        if decide(trainer) == IN_PLACE:
            return "keeps what is there"
        require_may_go(trainer)
    except (LockedError, RunError) as error:
        return f"the run would be refused: {error}"
    return "clears the earlier run" if clears(trainer) else f"moves the earlier run to {next_name(trainer.output)}"


def begin(trainer: object) -> None:
    """Make the folder ready: config.yml and run.json of this run, and nothing of an earlier one."""
    output = trainer.output
    if os.path.lexists(output) and not output.is_dir():
        what = "is no folder" if output.exists() else f"is a link to {os.readlink(output)}, which is not there"
        raise RunError(f"{output} {what}: remove it, or give this run another name with --name")
    decision = decide(trainer)
    new, old = (output.with_name(f".{output.name}.{word}") for word in ("new", "old"))
    for left in (new, old):  # by a process that was killed
        discard(left)
    pretrained = own_weights(trainer)
    if not pretrained:
        note_start_weights(trainer)
    if decision == IN_PLACE:
        output.mkdir(parents=True, exist_ok=True)
        trainer.folder.begin(trainer.resumed_from, go_on=trainer.resume == "auto")
        write_config(trainer, output)
        return
    require_may_go(trainer)
    is_cleared = clears(trainer)
    aside = old if is_cleared else next_name(output)
    new.mkdir()
    try:
        if decision == GO_BACK:
            take_along(trainer.resumed_from, output, new)
        if pretrained and not trainer.folder.pretrained_from:
            trainer.folder.pretrained_from = str(aside / pretrained)
        trainer.folder.begin(trainer.resumed_from, go_on=False, folder=new)
        write_config(trainer, new)
        exchange(output, aside, new)
    except BaseException:
        discard(new)
        raise
    discard(old)
    if is_cleared:
        logger.info("%s had an earlier run: cleared", output)
    elif decision == GO_BACK:
        logger.info("%s goes back to %s: with all that came after, it is %s now", output, trainer.resumed_from, aside)
    else:
        logger.info("%s had an earlier run: it is %s now", output, aside)


def take_along(prefix: Path, output: Path, new: Path) -> None:
    """Give the checkpoint `prefix`, those before it, and the best weights up to it, to the folder `new`, too."""
    found = manifests(output)
    own = found.get(output / prefix.name)
    if own is None:
        raise RunError(f"{prefix} has gone since this run was started: give it another checkpoint")
    own = own["state"]
    for other, manifest in found.items():
        if manifest["state"]["iteration"] <= own["iteration"]:
            for suffix in (*manifest["files"], MANIFEST):
                path = beside(other, suffix)
                if path.is_file():
                    link(path, new / path.name)
    newest = max(found.values(), key=lambda manifest: manifest["state"]["iteration"])
    if own["best_ap"] is not None and own["best_ap"] == newest["state"]["best_ap"]:
        for path in output.glob(f"{BEST}.*"):
            link(path, new / path.name)
    for name in (HISTORY, LOG_FILE, CONFIG_FILE):
        if (output / name).is_file():
            shutil.copyfile(output / name, new / name)


def exchange(output: Path, aside: Path, new: Path) -> None:
    """Rename `output` to `aside`, and `new` to `output`: both, or none, also when a signal comes between."""
    with signals_later():
        try:
            output.rename(aside)
            new.rename(output)
        except BaseException as error:
            # Another thread may take a signal, and Python raises what comes of it in this one all the same.
            is_moved = not os.path.lexists(output) and os.path.lexists(aside)
            if is_moved:
                aside.rename(output)
            if is_moved or not isinstance(error, OSError):
                raise
            raise RunError(
                f"{output} has an earlier run and cannot be renamed to {aside.name} ({error.strerror or error}): give "
                "this run another name with --name"
            ) from None


def discard(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
