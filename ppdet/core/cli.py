"""What all tools share on the command line. It imports nothing heavy, so that `--help` answers at once."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from ppdet.core.settings import SETTINGS
from ppdet.core.suggest.synonyms import synonym
from ppdet.utils.errors import UserError
from ppdet.utils.process.stop import end, end_on_signals, stopped


def make_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with `examples` as they stand."""
    return Parser(description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)


class Parser(argparse.ArgumentParser):
    """Tells of an option that is none whether -o has it, under this or another name."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: ") and "--opt" in self._option_string_actions:
            words = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            bare = next((word for word in message.split() if "=" in word and not word.startswith("-")), None)
            message += f"; settings follow -o: -o {bare}" if bare and not words else ""
            message += "".join(f"; {word}: {here}" for word in words for here in [self.here(word)] if here)
        super().error(message)

    def here(self, option: str) -> str | None:
        key = option.strip("-").replace("-", "_")
        if key == "device":  # commands that have a use for it have the option
            return "this command computes on the CPU, on every machine"
        known = key in SETTINGS and not SETTINGS[key].unused
        ours = f"here it is -o {key}=" if known else synonym(key)
        return str(ours) if ours else None


def add_config_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add -c/--config and -o/--opt (any number of key=value; the option may be repeated)."""
    parser.add_argument("-c", "--config", required=required, metavar="FILE", help="YAML file of the experiment")
    parser.add_argument(
        "-o",
        "--opt",
        action="extend",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="override values of the file, for example -o epoch=1 ResNet.depth=18 TrainReader.batch_size=4",
    )


def add_import_argument(parser: argparse.ArgumentParser) -> None:
    """Add --import.

    The command passes `arguments.imports` to `core.extensions.import_extensions` after paddle is loaded, and before it
    reads a configuration or an exported model.
    """
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE|MODULE",
        help="import a Python file, or a module, that registers components of your own; may be repeated "
        "(docs/EXTENDING.md)",
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add --device, which is an override like those of -o; after `add_config_arguments`."""
    parser.add_argument(
        "--device",
        dest="opt",
        action="append",
        type=lambda text: f"device={json.dumps(text)}",
        default=argparse.SUPPRESS,
        help="what computes: auto, cpu, gpu, xpu, npu, ... or one such as gpu:1 (-o device=DEVICE; default: auto)",
        metavar="DEVICE",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add RUN, -c and -o for a tool that takes a trained model; `require_run` checks them.

    One that computes on whatever device there is takes `add_device_argument` besides.
    """
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="folder of a run, such as output/NAME, for its best weights (else the last ones), or a checkpoint in it, "
        "such as output/NAME/3; in place of -c and -o weights=",
    )
    add_config_arguments(parser, required=False)


def require_run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a line unless there is either RUN or -c."""
    if (arguments.run is None) == (arguments.config is None):
        stray = next((text for text in arguments.opt if "=" not in text), None)
        hint = f"; {stray} was taken for a KEY=VALUE of -o: RUN stands before -o" if stray else ""
        parser.error(f"name a RUN, such as output/NAME, or a YAML file with -c: one of them{hint}")


def add_slice_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --slice_infer and what belongs to it; `ppdet.deploy.slicing.slicing_of` reads and checks them."""
    group = parser.add_argument_group("small objects in large images (docs/SLICING.md)")
    group.add_argument("--slice_infer", action="store_true", help="detect in windows of each image, and merge")
    group.add_argument("--slice_size", nargs=2, type=int, metavar=("H", "W"), help="of a window (default: 640 640)")
    group.add_argument(
        "--overlap_ratio", nargs=2, type=float, metavar=("H", "W"), help="of neighbours (default: 0.25 0.25)"
    )
    group.add_argument("--combine_method", metavar="METHOD", help="nms, nmm or concat (default: nms)")
    group.add_argument("--match_threshold", type=float, metavar="X", help="boxes match from here on (default: 0.6)")
    group.add_argument("--match_metric", metavar="METRIC", help="iou, or ios: over the smaller box (default: ios)")


def flag(text: str) -> bool:
    """Type of an option that takes true or false."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")
    return text.lower() in ("true", "1")


def positive(text: str) -> int:
    """Type of an option that takes a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def run(main: Callable[[], None], hint: str = "") -> NoReturn:
    """Call the `main` of a program's file, and end the process: 0, 2 after the line of an error, 1 after a traceback.

    SIGTERM and Ctrl-C end it with a line, which `hint` goes on, and 143 or 130, whatever it is doing. A pipe that
    nobody reads any more ends it without a line, and 141.
    """
    end_on_signals(hint)
    code = 0
    try:
        with stopped_again():
            main()
            sys.stdout.flush()
    except SystemExit as exit:
        code = exit.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BrokenPipeError:
        code = 128 + 13  # SIGPIPE
    except OSError as error:
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
        code = 2
    end(code)


@contextmanager
def stopped_again() -> Iterator[None]:
    """Raise `Stopped` in place of what it has become on its way."""
    before = stopped()
    try:
        yield
    except BaseException as error:
        if stopped() not in (before, error):
            raise stopped() from None
        raise


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn mistakes of the user into one line on standard error and exit code 2.

    Those are OSError and every UserError, such as ConfigError. Anything else is a defect of the program and keeps its
    traceback.
    """
    try:
        with stopped_again():
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
        fail("a data worker process died, killed perhaps for lack of memory: lower worker_num or batch_size")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except Exception as error:
        if not isinstance(error, UserError):
            raise
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End with one line and exit code 2."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
