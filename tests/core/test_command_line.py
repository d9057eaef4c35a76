"""How programs end: exit codes, one line for a user's mistake, and what signals do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ppdet.core.command_line import one_line_errors
from ppdet.utils.errors import ConfigError, UserError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import ctypes, os, signal, sys, time
from ppdet.core.command_line import one_line_errors, run
from ppdet.utils.errors import ConfigError
from ppdet.utils.process import stop
from ppdet.utils.process.stop import loading, signals_later

def main():
    with one_line_errors():
        {code}

run(main, "; go on with -r")
"""
INTERRUPTED = "\nSIGTERM: interrupted; go on with -r\n"
SIGNAL = "os.kill(os.getpid(), signal.SIGTERM)"
# When the log is closed.
AT_THE_END = f"import logging; logging.kept = logging.NullHandler(); logging.kept.flush = lambda: {SIGNAL}"


def run(code, **options):
    """Exit code, standard output and standard error of a program that does `code`."""
    code = code.strip().replace("\n", "\n        ")
    command = [sys.executable, "-c", PROGRAM.format(code=code)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, **options}
    process = subprocess.run(command, cwd=ROOT, text=True, **options)
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('done')", (0, "done\n", "")),
        ("raise ConfigError('epoch: expected more')", (2, "", "error: epoch: expected more\n")),
        ("sys.exit(3)", (3, "", "")),
        ("sys.exit('as Python does')", (1, "", "as Python does\n")),
        ("sys.exit()", (0, "", "")),
        (r"raise ConfigError('a\x1b[2J\nb\u202e')", (2, "", "error: a\\x1b[2J b\\u202e\n")),
        (r"raise ConfigError('a' * 10**6 + ': do that')", (2, "", f"error: {'a' * 500} … {'a' * 491}: do that\n")),
        (r"raise OSError(2, 'No such file', 'a\x1b')", (2, "", "error: a\\x1b: No such file\n")),
        (r"sys.exit('a\x1b')", (1, "", "a\\x1b\n")),
    ],
)
def test_exit_codes(code, expected):
    assert run(code) == expected


def test_a_defect_has_its_traceback():
    code, _, log = run(r"raise ZeroDivisionError('division by \x1b[2J')")
    assert code == 1 and log.endswith("ZeroDivisionError: division by \\x1b[2J\n") and log.count("\n") > 3


def test_names_that_the_terminal_cannot_show():
    code, shown, _ = run(r"print('gr\xfcn')", env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"})
    assert (code, shown) == (0, "gr\\xfcn\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_output_that_cannot_be_written_is_an_error():
    with open("/dev/full", "w") as full:
        code, _, log = run("print('lost')", stdout=full)
    assert (code, log) == (2, "error: standard output: No space left on device\n")


def test_output_that_nobody_reads_is_none():
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as nowhere:
        assert run("print('lost')", stdout=nowhere)[::2] == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(
    "code",
    [
        f"{SIGNAL}\ntime.sleep(60)",
        # It ends, also where another library has caught it.
        f"with loading():\n    try:\n        {SIGNAL}\n        time.sleep(60)\n    except BaseException:\n        pass",
        # C++ code makes exceptions of its own of those that it gets from Python.
        f"try:\n    {SIGNAL}\n    time.sleep(60)\nexcept BaseException:\n    raise RuntimeError('(External) 143')",
        # Python itself continues after exceptions in destructors.
        f"class Closing:\n    def __del__(self):\n        {SIGNAL}\n        time.sleep(60)\nClosing()",
        # The second one comes while the first one still has its effect.
        f"try:\n    {SIGNAL}\n    time.sleep(60)\nfinally:\n    {SIGNAL}",
        # The second one comes while the process is ending.
        f"{AT_THE_END}\n{SIGNAL}",
        # A library that puts its own handler in place.
        f"with loading():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    import wave\n    {SIGNAL}",
        f"with signals_later():\n    {SIGNAL}\n    print('finished')\ntime.sleep(60)",
    ],
    ids=["anywhere", "loading", "in C++", "destructor", "twice", "ending", "another handler", "later"],
)
def test_a_signal_is_one_line(code):
    assert run(code) == (143, "finished\n" * ("later" in code), INTERRUPTED)


def test_a_second_signal_ends_what_the_first_could_not():
    code = f"""
stop.REPEAT_SECONDS = 0.0
try:
    {SIGNAL}
    time.sleep(60)
except BaseException:
    {SIGNAL}
    time.sleep(60)
"""
    assert run(code) == (143, "", INTERRUPTED)


def test_ctrl_c():
    code, _, log = run(SIGNAL.replace("SIGTERM", "SIGINT"))
    assert (code, log) == (130, INTERRUPTED.replace("SIGTERM", "SIGINT"))


def test_a_finished_program_keeps_its_code():
    """A signal that comes when all is done finds nothing more to end."""
    assert run(AT_THE_END) == (0, "", "")


def test_loading_keeps_handlers_of_programs_that_have_none_of_ours():
    code = "import signal, sys; from ppdet.utils.process.stop import loading\nwith loading():\n    "
    code += "signal.signal(signal.SIGTERM, lambda *_: None)\nassert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    code += "\nassert not any('RestoreHandlers' in repr(finder) for finder in sys.meta_path)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("x.yml:1: a: wrong"), "error: x.yml:1: a: wrong\n"),
        (
            FileNotFoundError(2, "No such file or directory", "a.jpg"),
            "error: a.jpg: No such file or directory\n",
        ),
        (UserError("two\nlines"), "error: two lines\n"),
    ],
)
def test_mistakes_of_the_user_end_with_one_line(error, line, capsys):
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code == 2
    assert capsys.readouterr().err == line


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
