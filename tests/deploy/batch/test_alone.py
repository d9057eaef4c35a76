"""Two batch jobs do not share an output folder."""

import os
import socket

import pytest

from ppdet.deploy.batch import __main__ as command
from ppdet.deploy.batch.storage import Folder


def test_the_second_job_ends_in_one_line(model, images, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--model_dir", str(model), "--input", str(images.folder), "--output", str(output)]
    with Folder(str(output)).lock():
        with pytest.raises(SystemExit) as end:
            command.main(arguments)
        assert [path.name for path in output.iterdir()] == [".lock"]
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    place = f"error: {output}: a batch job: process {os.getpid()} on {socket.gethostname()} (since "
    assert last.startswith(place) and last.endswith(") is at work there: wait, or name another --output")


def test_what_was_there_stays_and_nothing_is_left(tmp_path):
    with Folder(str(tmp_path / "new")).lock():
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with Folder(str(tmp_path / "old")).lock():
        pass
    assert (tmp_path / "old").is_dir() and list((tmp_path / "old").iterdir()) == []


def test_object_storage_has_no_locks():
    with Folder("memory://bucket/alone").lock(), Folder("memory://bucket/out").lock():
        assert Folder("memory://bucket/alone").names("") == set()
