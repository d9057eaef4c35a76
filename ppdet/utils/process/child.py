"""Calling a function in a process of its own: a crash, a hang or a foreign library's exit ends only that process.

This is for engines and converters, which are C++ libraries of others. The processes of `start.py` are copies or workers
of this one, which `multiprocessing` starts.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppdet.utils.disk.files import decode_text
from ppdet.utils.errors import paddle_summary
from ppdet.utils.process.stop import exit_now, signal_name

# The process imports this package, and nothing from the working directory.
START = "import sys; sys.path[0] = {root!r}; from ppdet.utils.process.child import main; main()"
LAST_BYTES = 2**18  # of the output, in which the reason for a failure is looked for


class ChildError(Exception):
    """A process ended without an answer, or took too long.

    The text follows "its process": "was ended by SIGABRT: the last words of its output".

    Attributes:
        output: the end of what the process has printed.
    """

    def __init__(self, how: str, output: str) -> None:
        super().__init__(how)
        self.output = output


def call_in_child(
    function: Callable[..., Any],
    work: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> Any:
    """Return function(**work), computed in a new Python process, which ends with this one.

    The process is not a fork, in which CUDA does not work. It has imported nothing, not even what `import_extensions`
    has imported here; what it prints is only read if it fails.

    Args:
        function: a function of a module of this package.
        work: its arguments, of the types that JSON has, as is what it returns.
        environment: the environment variables; None for those of this process.
        seconds: how long the process may take; None for any time.

    Raises:
        ChildError: the process ended without an answer, also because an exception left the function.
    """
    root = str(Path(__file__).resolve().parents[3])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        answer, output = Path(temporary) / "answer.json", Path(temporary) / "output.txt"
        call = [function.__module__, function.__name__, json.dumps(dict(work)), str(answer)]
        # The output is a file: a process that the library leaves behind, as OpenVINO does, would keep a pipe open.
        with (
            output.open("wb") as stream,
            subprocess.Popen(  # nosec B603  # this Python and our own text; the work is an argument of its own
                [sys.executable, "-c", START.format(root=root), *call],
                stdin=subprocess.PIPE,  # it is open as long as this process lives, see `end_with_parent`
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
            ) as process,
        ):
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise ChildError(f"took longer than {seconds:g} s", end_of(output)) from None
            except BaseException:  # such as Ctrl-C, which the process may not get
                process.kill()
                raise
        if answer.is_file():
            return json.loads(answer.read_bytes())
        text = end_of(output)
        raise ChildError(last_words(text, code), text)


def end_of(output: Path) -> str:
    """Return the last `LAST_BYTES` of a text file."""
    with output.open("rb") as stream:
        stream.seek(max(0, output.stat().st_size - LAST_BYTES))
        return decode_text(stream.read(), errors="replace")


def last_words(output: str, code: int) -> str:
    """Say how a process ended (`code` is its return code), with the line of its output that says why."""
    ended = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    summary = paddle_summary(output)
    if summary is None:
        summary = next((line.strip() for line in reversed(output.splitlines()) if re.search(r"\w", line)), "")
    return f"{ended}: {summary}" if summary else ended


def main() -> None:
    """Call the function that the arguments of this process name; `call_in_child` starts it."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    module, name, work, path = sys.argv[1:]
    value = getattr(importlib.import_module(module), name)(**json.loads(work))
    answer = Path(path)
    unfinished = answer.with_suffix(".part")
    unfinished.write_text(json.dumps(value), encoding="utf-8")
    os.replace(unfinished, answer)
    exit_now(0)  # without the destructors of libraries, which may crash


def end_with_parent() -> None:
    """End this process when its parent has ended, so that it holds no locks and devices any longer.

    The parent holds the other end of this process's standard input, and never writes to it.
    """
    os.read(0, 1)  # sys.stdin.read() would hold a lock, for which a process that is forked from this one waits forever
    os._exit(1)
