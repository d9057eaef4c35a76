"""Shared by all command lines of the project: the parser, types of options, errors and exit codes.

It imports nothing heavy, so that `--help` answers at once. Options that several commands share are in
ppdet/cli/arguments.py.
"""

import argparse
import io
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from ppdet.core.settings import SETTINGS
from ppdet.core.suggest.synonyms import synonym
from ppdet.utils.errors import UserError
from ppdet.utils.extras import PADDLE_ADVICE
from ppdet.utils.masking import masked
from ppdet.utils.printable import printable, printable_lines
from ppdet.utils.process.stop import end_on_signals, exit_now, stopped

LONGEST = 1000  # characters of an error's line; a name in it may have any number


def called_as() -> str:
    """Return how this process was called: "ppdet", "python tools/train.py" or "python -m ppdet.deploy.serve"."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name.startswith("ppdet"):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).stem


def make_parser(text: str | None, program: str | None = None) -> "Parser":
    """Return a parser whose help begins with a text, and ends with the part of it from "examples:" or "commands:" on.

    Args:
        text: usually the module's docstring. "{program}" in the last part is replaced by how the command was called.
        program: how the command was called, such as "ppdet train"; None looks at the process.
    """
    program = program or called_as()
    description, *last = re.split(r"^(?=(?:examples|commands):$)", text or "", maxsplit=1, flags=re.MULTILINE)
    return Parser(
        prog=program,
        description=description,
        epilog="".join(last).replace("{program}", program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class Parser(argparse.ArgumentParser):
    """A parser whose error for an unknown option suggests the option, or the setting for -o, that does the same."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: ") and "--opt" in self._option_string_actions:
            options = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            setting = next((word for word in message.split() if "=" in word and not word.startswith("-")), None)
            if setting and not options:
                message += f"; settings follow -o: -o {setting}"
            for option in options:
                advice = self.counterpart(option)
                message += f"; {option}: {advice}" if advice else ""
        super().error(printable(masked(message)))

    def counterpart(self, option: str) -> str | None:
        """Return our counterpart of an option of other projects, such as --batch-size."""
        key = option.strip("-").replace("-", "_")
        if key == "device":  # commands that can use a device have the option
            return "this command computes on the CPU, on every machine"
        if key == "name":
            return "use -o run_name="
        if key in SETTINGS and not SETTINGS[key].unused:
            return f"use -o {key}="
        other = synonym(key)
        return str(other) if other else None


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """Add --import. The command passes `arguments.imports` to `ppdet.core.extensions.import_extensions` once paddle is
    loaded, before it reads a configuration or an exported model."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE|MODULE",
        help="import a Python file, or a module, that registers components of your own; may be repeated "
        "(docs/EXTENDING.md)",
    )


def flag(text: str) -> bool:
    """Type of an option whose value is true or false."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return text.lower() in ("true", "1")


def positive(text: str) -> int:
    """Type of an option whose value is a whole number of at least 1, with at most nine digits."""
    if not text.isdecimal() or not text.strip("0"):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text[:40]!r}")
    return natural(text)


def natural(text: str) -> int:
    """Type of an option whose value is a whole number of at least 0, such as a seed, with at most nine digits."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, not {text[:40]!r}")
    if len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected a whole number of at most 999999999, not {text[:40]!r}")
    return int(text)


def run(main: Callable[[], None], hint: str = "") -> NoReturn:
    """Call `main`, the whole work of a program, and end the process with its exit code.

    The code is 0 after success, 2 after the one line of a user's mistake, 1 after a traceback, 143 or 130 after SIGTERM
    or Ctrl-C, which end the program with one line wherever it is, and 141 without a line when nobody reads the standard
    output any more.

    Args:
        hint: end of the line printed after a signal, such as "; -r auto continues from the last checkpoint".
    """
    end_on_signals(hint)
    sys.excepthook = show_traceback
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
    code = 0
    try:
        with signals_win():
            main()
            sys.stdout.flush()
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            code = exit.code or 0
        else:
            print(printable(exit.code), file=sys.stderr)
            code = 1
    except BrokenPipeError:
        code = 128 + 13  # SIGPIPE
    except OSError as error:
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
        code = 2
    exit_now(code)


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback; messages in it may quote names from files."""
    print(printable_lines(masked("".join(traceback.format_exception(kind, error, trace)))), end="", file=sys.stderr)


@contextmanager
def signals_win() -> Iterator[None]:
    """Raise `Stopped` again, where a signal raised it in the block and a library turned it into another exception."""
    before = stopped()
    try:
        yield
    except BaseException as error:
        signal = stopped()
        if signal is not None and signal not in (before, error):
            raise signal from None
        raise


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn mistakes of the user into one line on standard error and exit code 2.

    Such mistakes are OSError, a library that cannot be imported, and every UserError, such as ConfigError. Any other
    exception is a defect of the program and keeps its traceback.
    """
    try:
        with signals_win():
            yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except SystemError as error:
        # Paddle raises it from a signal handler, wherever the main thread happens to be.
        if "DataLoader" not in str(error):
            raise
        fail("a data worker process died, perhaps killed for lack of memory: lower worker_num or batch_size")
    except ImportError as error:
        if isinstance(error, UserError):
            fail(str(error))
        if (error.name or "").startswith("ppdet"):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name == "paddle":
            fail(f"paddle is not installed: {PADDLE_ADVICE}")
        fail(f"{error}: `ppdet doctor` shows which libraries are missing or broken, and what to do")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except Exception as error:
        if not isinstance(error, UserError):
            raise
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print the message as one line and end with exit code 2. Of a very long one, the middle is left out."""
    line = printable(masked(" ".join(message.split())))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
