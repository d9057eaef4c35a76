"""Collective operations in one process, and how other ranks learn of an error."""

import pytest
from paddle import nn

from ppdet.engine.distributed import collectives, data_parallel
from ppdet.utils.errors import ConfigError
from ppdet.utils.process.stop import Stopped


def test_one_process_joins_nothing(monkeypatch):
    monkeypatch.delenv("PADDLE_TRAINERS_NUM", raising=False)
    layer = nn.Linear(2, 2)
    with collectives.joined():
        assert data_parallel.wrap(layer) is layer
        assert collectives.gather(3) == [3] and collectives.max_over_ranks(4) == 4
        assert collectives.from_rank_0(lambda: 5, ValueError) == 5
        collectives.wait_for_all()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("set it\n to 3"), "set it to 3"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (KeyError("name"), "KeyError: 'name'"),
        (Stopped(15), "exit code 143"),
    ],
)
def test_what_the_others_are_told(error, line):
    assert collectives.error_line(error) == line
