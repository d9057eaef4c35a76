"""The lines of train.log about a run's end."""

import socket
import threading
from pathlib import Path

import pytest
from tiny import TINY_YAML

from ppdet.core.workspace import load_config
from ppdet.engine.distributed import collectives
from ppdet.engine.distributed.watchdog import RankLostError, Watchdog, listen, read_line, send
from ppdet.engine.runs import run_start
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.runs.run_start import RunError, begin_run
from ppdet.engine.runs.start_point import StartPoint

GONE = "rank 1 (process 7 on elsewhere) is gone: it was killed, or its machine went down"


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """The start of a run without a checkpoint to resume."""
    monkeypatch.chdir(tmp_path)
    Path("run.yml").write_text(TINY_YAML.format(output="output", data="data"))
    cfg = load_config("run.yml", [])
    output = Path(cfg["save_dir"]) / cfg.name
    folder = RunFolder(output, keep_every=1)
    return StartPoint(cfg, folder, None, None)


@pytest.fixture
def other_rank(monkeypatch):
    """The connection of a second rank; this process is rank 0 and watches it."""
    server = listen("127.0.0.1")
    connection = socket.create_connection(server.getsockname())
    hello = {"token": "secret", "peer": (1, "elsewhere", 7)}
    threading.Thread(target=send, args=(connection, hello)).start()
    watchdog = Watchdog(0, 2, token="secret", server=server)
    read_line(connection, 60)  # what is unread when it is closed would reset it
    watchdog.closing.set()  # or it would end the tests, too
    monkeypatch.setattr(collectives, "_watchdog", watchdog)
    with connection:
        yield connection


def last_line(trainer):
    return (trainer.output / "train.log").read_text().splitlines()[-1]


@pytest.mark.parametrize(
    "echo", [OSError("gloo::IoException: Connection closed by peer"), RankLostError(GONE), KeyboardInterrupt()]
)
def test_the_loss_of_a_rank_is_told_in_place_of_its_echo(trainer, other_rank, echo, capfd):
    with pytest.raises(type(echo)), begin_run(trainer):
        other_rank.close()
        raise echo
    text = (trainer.output / "train.log").read_text()
    assert last_line(trainer) == f"==== error: {GONE}" and text.count("====") == 2 and "Traceback" not in text
    assert capfd.readouterr().err.count(f"error: {GONE}") == 1


def test_an_error_of_its_own_is_told_as_it_is(trainer, other_rank):
    with pytest.raises(OSError), begin_run(trainer):
        raise OSError("the disk is full")
    assert last_line(trainer) == "==== error: the disk is full"


def test_a_file_in_the_place_of_the_folder_is_named(trainer):
    trainer.output.parent.mkdir()
    trainer.output.touch()
    with pytest.raises(RunError) as error, begin_run(trainer):
        pass
    assert str(error.value) == "output/run is not a folder: remove it, or give this run another name with --name"


def test_what_cannot_be_written_is_named_as_the_user_knows_it(trainer, monkeypatch):
    def write_config(cfg, folder, **more):
        raise OSError(30, "Read-only file system", str(folder / "config.yml"))

    trainer.output.mkdir(parents=True)
    (trainer.output / "model_final.pdparams").touch()
    monkeypatch.setattr(run_start, "write_config", write_config)
    with pytest.raises(RunError, match=r"^output/run/config.yml: the run cannot begin: Read-only file system$"):
        begin_run(trainer).__enter__()
    assert [path.name for path in trainer.output.iterdir()] == ["model_final.pdparams"]
