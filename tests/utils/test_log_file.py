"""The log in a file beside the one on standard error."""

import logging
import os
import re
import resource

import pytest

from ppdet.utils.logger import LogFile, get_logger, write_last_line

logger = get_logger("ppdet.a")


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path):
    with LogFile(tmp_path / "other", ""):
        pass


def lines(path):
    return [re.sub(r"^\[[^]]*\] ", "", line) for line in path.read_text().splitlines()]


def test_no_passwords(tmp_path, capsys):
    url = "https://me:secret@host/a.pdparams?token=secret"
    logger.warning("downloading %s to x", url)
    with LogFile(tmp_path / "log", f"train.py -o 'pretrain_weights={url}' epoch=1"):
        try:
            raise ValueError(url)
        except ValueError:
            logger.exception("failed: %(url)s: try again", {"url": url})
        write_last_line(url)
    for text in ((tmp_path / "log").read_text(), capsys.readouterr().err):
        assert "secret" not in text and "https://***@host/a.pdparams?***: try again" in text
    assert "-o 'pretrain_weights=https://***@host/a.pdparams?***' epoch=1\n" in (tmp_path / "log").read_text()


def test_the_file_has_what_standard_error_has(tmp_path, capsys):
    logger.warning("before it is open")
    logger.debug("details")
    with LogFile(tmp_path / "log", "first"):
        logger.info("während\nof two lines")
        written = (tmp_path / "log").read_text()
    assert written == "==== first\n" + capsys.readouterr().err
    assert lines(tmp_path / "log") == ["==== first", "[WARNING] before it is open", "[INFO] während", "of two lines"]
    logger.info("between")
    with LogFile(tmp_path / "log", "second"):
        logger.info("after")
    assert lines(tmp_path / "log")[4:] == ["", "==== second", "[INFO] between", "[INFO] after"]
    with LogFile(tmp_path / "third", "third"):
        pass
    assert lines(tmp_path / "third") == ["==== third"]


def test_other_ranks_infos_stay_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "2")
    logger.info("silent")
    logger.error("told")
    with LogFile(tmp_path / "log", "title"):
        pass
    assert lines(tmp_path / "log") == ["==== title", "[ERROR] [rank 2] told"]


def test_names_of_files_that_are_not_text(tmp_path, capsys):
    # To our own handlers alone: pytest-xdist cannot pass on such text from pytest's.
    record = logging.makeLogRecord({"msg": os.fsdecode(b"caf\xe9.jpg"), "levelno": logging.INFO, "levelname": "INFO"})
    with LogFile(tmp_path / "log", "title"):
        for handler in logging.getLogger("ppdet").handlers:
            if type(handler).__module__ == "ppdet.utils.logger":
                handler.handle(record)
    assert lines(tmp_path / "log")[1] == "[INFO] caf\\udce9.jpg"
    assert capsys.readouterr().err.endswith("[INFO] caf\\udce9.jpg\n")


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with LogFile(tmp_path / "log", "title"):
        logger.info("first")
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size + 10, limits[1]))
        try:
            for number in range(3):
                logger.info("lost %d", number)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        logger.info("there is room again")
    shown = capsys.readouterr().err
    assert shown.count("lost") == 3 and shown.count("could not be written") == 1
    rows = (tmp_path / "log").read_text().splitlines()
    assert len(rows) == 4 and len(rows[2]) == 10, "the beginning of a line that failed ends before the next one"
    assert rows[1].endswith("first") and rows[3].endswith("[INFO] there is room again")


def test_a_folder_that_is_not_there(tmp_path, capsys):
    with LogFile(tmp_path / "none" / "log", "title"):
        logger.info("shown")
    assert re.findall(
        r"\[(?:INFO|ERROR)\] (?:\S+/none/log could not be written: No such file|shown)", capsys.readouterr().err
    ) == [
        f"[ERROR] {tmp_path}/none/log could not be written: No such file",
        "[INFO] shown",
    ]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_regular_file_is_not_written_to(tmp_path, capsys, kind):
    (tmp_path / "another").write_text("stays")
    path = tmp_path / "train.log"
    if kind == "link":
        path.symlink_to(tmp_path / "another")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with LogFile(path, "first"):
        logger.info("goes on")
    assert (tmp_path / "another").read_text() == "stays"
    err = capsys.readouterr().err
    assert err.count(f"[ERROR] {path} could not be written: ") == 1 and "[INFO] goes on" in err
