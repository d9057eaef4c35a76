"""What counts as a promise of the server that was broken, in tests/soak/server.py."""

import sys

import pytest


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script has its own way to its helpers
    from soak import server

    return server


def test_a_short_run_kills_processes_too(server):
    assert server.parse_arguments([]).kill_every == 60
    assert server.parse_arguments(["--minutes", "1"]).kill_every == 6
    assert server.parse_arguments(["--minutes", "1", "--kill_every", "20"]).kill_every == 20


def test_a_run_without_a_kill_is_no_pass(server):
    figures = {
        **{"lost": [], "wrong": [], "good": 9, "hostile": {}, "restart_s": [1.5], "memory_mib_by_minute": []},
        **{"growth_mib": 0.0, "calm_ms": {"p99": 5.0}, "attacked_apart_from_restarts_ms": {"p99": 6.0}},
    }
    assert server.broken_promises(figures, 0, None) == []
    (line,) = server.broken_promises({**figures, "restart_s": []}, 0, None)
    assert line.startswith("no process was killed")
