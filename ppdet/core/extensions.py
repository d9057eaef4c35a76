"""Importing code from outside the project, so that the components it registers can be used in a configuration.

The ways in are `--import FILE` and `--import MODULE` on the command line, which call `import_extensions`; an
installed package with an entry point of the group `ppdet.components`, which `load_entry_points` imports before a
configuration is read; and, in Python, an ordinary `import` before `load_config`. A YAML file never imports anything:
its `requires` only names the modules that must have been imported. See docs/EXTENDING.md.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from ppdet.utils.disk.files import display_path
from ppdet.utils.errors import ComponentError, UserError, nearest
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

GROUP = "ppdet.components"  # entry points of installed packages
PACKAGE = Path(__file__).resolve().parents[1]

_imported: dict[str, str] = {}  # absolute path of a file, or module name -> module name


class ExtensionError(UserError, ImportError):
    """Code from outside cannot be imported: one line names the file, its line, what is wrong, and what to do."""


def import_extensions(names: Sequence[str]) -> None:
    """Import Python files and modules, each of them once.

    A file is imported as the module of its name without `.py`, and its folder is appended to `sys.path`: it can import
    its neighbors, and objects of its classes can be sent to other processes.

    Args:
        names: paths that end in `.py`, or names of modules, which may also lie in the working directory.

    Raises:
        ExtensionError: a file does not exist, its name belongs to another module, or an exception leaves the code.
    """
    for name in names:
        is_path = name.endswith(".py") or os.sep in name or "/" in name
        key = os.path.realpath(os.path.expanduser(name)) if is_path else name
        if key in _imported:
            continue
        path_before = list(sys.path)
        try:
            _imported[key] = _import_file(name, Path(key)) if is_path else _import_module(name)
        except BaseException:
            sys.path[:] = path_before
            raise


def imported() -> tuple[str, ...]:
    """What `import_extensions` has imported, in order: absolute paths of files, and names of modules.

    A process that is started anew, which inherits no modules, passes it to its own `import_extensions`.
    """
    return tuple(_imported)


def imported_modules() -> list[str]:
    """The names of the modules that `import_extensions` has imported, in order."""
    return list(_imported.values())


@functools.cache
def load_entry_points() -> None:
    """Import the modules that installed packages name as entry points of the group `ppdet.components`, once.

    One that cannot be imported is logged as an error, and the others are used without it.
    """
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else point.name
            logger.error(
                "the components of the installed package %s cannot be used: %s",
                package,
                _import_error_text(error, None),
            )


def _import_file(text: str, path: Path) -> str:
    """Import a file, and return its module's name."""
    if not path.is_file():
        files = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ExtensionError(f"--import {text}: no such file{nearest(path.name, files)}")
    if path.suffix != ".py":
        raise ExtensionError(f"--import {text}: expected a Python file, whose name ends in .py")
    name = path.stem
    if "." in name:
        raise ExtensionError(f"--import {text}: a module cannot have a dot in its name: rename the file")
    _append_to_path(path.parent)
    other = _file_of(sys.modules[name]) if name in sys.modules else _file_of_spec(name)
    if other != path:
        there = f"from {display_path(other)}" if other else "which is part of Python"
        raise ExtensionError(f"--import {text}: there is another module called {name}, {there}: rename the file")
    return _import(name, text, path.parent)


def _import_module(name: str) -> str:
    """Import a module by its name, and return the name."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ExtensionError(f"--import {name}: expected a Python file, whose name ends in .py, or a module's name")
    _append_to_path(Path.cwd())
    return _import(name, name, None)


def _import(name: str, text: str, folder: Path | None) -> str:
    """Import the module `name`, which --import calls `text`; errors name lines of the files in `folder`."""
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, UserError) and not isinstance(error, ComponentError):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            advice = f"name an installed module, or a file, such as path/to/{name}.py"
            raise ExtensionError(f"--import {text}: there is no module {error.name}: {advice}") from None
        raise ExtensionError(f"--import {text}: {_import_error_text(error, folder)}") from error
    if getattr(sys.modules[name], "__file__", None) is None and hasattr(sys.modules[name], "__path__"):
        raise ExtensionError(f"--import {text}: the folder {name} has no __init__.py: name one of its files")
    return name


def _append_to_path(folder: Path) -> None:
    """Let modules of this folder be found after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()  # a file may be younger than Python's last look into the folder


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _file_of_spec(name: str) -> Path | None:
    """The file that `import name` would read; None for a module that is part of Python."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None


def _import_error_text(error: BaseException, folder: Path | None) -> str:
    """One line for an exception that left imported code: file:line, the exception's class, and its text.

    Args:
        folder: name the last line that was reached in it; None for the last line outside of ppdet.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{display_path(Path(error.filename))}:{error.lineno}: {type(error).__name__}: {error.msg}"
    files = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    files = [(path, line) for path, line in files if path.is_file() and PACKAGE not in path.resolve().parents]
    within = [(path, line) for path, line in files if folder and folder in path.resolve().parents]
    place = "".join(f"{display_path(path)}:{line}: " for path, line in (within or files)[-1:])
    if isinstance(error, SystemExit):
        return f"{place}the code ends the process: put that under `if __name__ == '__main__':`"
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join(f"{place}{kind}{error}".split())
