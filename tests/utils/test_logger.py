import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from ppdet.utils.logger import LogFile, get_logger, write_last_line


def test_format_time_level_message_on_stderr(capsys):
    get_logger("ppdet.some.module").info("42 images")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[INFO\] 42 images\n", err)


def test_each_message_once_however_often_the_logger_is_asked_for(capsys):
    for _ in range(3):
        logger = get_logger("ppdet.a")
    logging.getLogger().addHandler(handler := logging.StreamHandler(sys.stderr))
    try:
        logger.warning("only once")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err.count("only once") == 1


def test_names_outside_the_package_join_it():
    assert get_logger("train").name == "ppdet.train"
    assert get_logger("ppdet").name == get_logger().name == "ppdet"


def test_debug_is_silent(capsys):
    get_logger("ppdet.a").debug("details")
    assert capsys.readouterr().err == ""


def test_other_ranks_are_silent_but_for_warnings_and_errors(capsys, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "3")
    logger = get_logger("ppdet.a")
    logger.info("epoch 1")
    logger.error("out of memory")
    err = capsys.readouterr().err
    assert "epoch 1" not in err
    assert err.endswith("[ERROR] [rank 3] out of memory\n")

    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    logger.info("epoch 2")
    err = capsys.readouterr().err
    assert err.endswith("[INFO] epoch 2\n")


def test_a_progress_bar_does_not_share_a_line_with_a_message(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with tqdm(total=3, file=terminal) as bar:
        bar.update()
        get_logger("ppdet.a").info("hello")
        bar.update()
    (line,) = [line for line in terminal.getvalue().split("\n") if "hello" in line]
    assert re.fullmatch(r"\[[^]]*\] \[INFO\] hello", line.split("\r")[-1])


def test_a_closed_stderr_does_not_end_the_program():
    code = (
        "import sys, ppdet.utils.logger as l; sys.stderr.close(); logger = l.get_logger('ppdet.a');"
        "import logging; logging.raiseExceptions = False; logger.info('x'); print('alive')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "alive", result.stderr


HOSTILE = "cat\x1b[2J\n[2026-01-01 00:00:00] [INFO] dog\u202e"
ESCAPED = r"cat\x1b[2J\n[2026-01-01 00:00:00] [INFO] dog\u202e"


@pytest.mark.parametrize(
    ("template", "arguments", "shown"),
    [
        ("%s has %d boxes, %.2f", (HOSTILE, 3, 0.5), f"{ESCAPED} has 3 boxes, 0.50"),
        ("%s", (ValueError(HOSTILE),), ESCAPED),
        ("%s", (Path(HOSTILE),), ESCAPED),
        ("%(name)s of %(count)02d", ({"name": HOSTILE, "count": 3},), f"{ESCAPED} of 03"),
        ("%s", ([HOSTILE],), f"['{ESCAPED}']"),
        ("%r", (HOSTILE,), f"'{ESCAPED}'"),
        ("%-10s|", ("größe",), "größe     |"),
        ("a table\n\tof two lines\x1b", (), "a table\n\tof two lines\\x1b"),
        ("100 %", (), "100 %"),
        ("%d of %s", (np.int64(3), None), "3 of None"),
    ],
)
def test_names_forge_no_lines_and_reach_no_terminal(tmp_path, capsys, template, arguments, shown):
    with LogFile(tmp_path / "log", HOSTILE):
        get_logger("ppdet.a").info(template, *arguments)
    for text in (capsys.readouterr().err, (tmp_path / "log").read_text()):
        assert text.endswith(f"[INFO] {shown}\n")
    assert f"==== {ESCAPED}\n" in (tmp_path / "log").read_text()


def test_a_traceback_keeps_its_lines(capsys):
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        get_logger("ppdet.a").exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "Traceback (most recent call last):" and lines[-1] == r"ValueError: \x1b[2J"


def test_the_last_line_is_one_line(tmp_path, capfd):
    with LogFile(tmp_path / "log", ""):
        write_last_line(HOSTILE)
    assert capfd.readouterr().err == f"\nerror: {ESCAPED}\n"
    assert (tmp_path / "log").read_text().endswith(f"\n==== error: {ESCAPED}\n")
