"""Reports: their figures, as lines and on a terminal."""

import io
import logging
import math
import re
import sys

import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine import trainer
from ppdet.engine.hooks import Hook, log
from ppdet.engine.trainer import Trainer


def test_share_of_time_that_waits_for_data(finished):
    waits = finished.witness.waits
    shares = [
        report["data_share"] * report["seconds_per_step"] * steps
        for (_, report), steps in zip(finished.witness.reports, (1, 2, 1, 1, 2, 1))
    ]
    expected = [waits[0], sum(waits[1:3]), waits[3], waits[4], sum(waits[5:7]), waits[7]]
    assert shares == pytest.approx(expected)
    assert all(0 < report["data_share"] < 1 for _, report in finished.witness.reports)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """The lines on the terminal's screen."""
        screen, column = [[]], 0
        for character in self.getvalue():
            if character == "\n":
                screen.append([])
                column = 0
            elif character == "\r":
                column = 0
            else:
                row = screen[-1]
                row.extend(" " * (column + 1 - len(row)))
                row[column] = character
                column += 1
        return ["".join(row).rstrip() for row in screen]


class Speaker(Hook):
    """Says something after every step, and ends the run after some."""

    def __init__(self, steps):
        self.steps = steps

    def after_step(self, trainer):
        logging.getLogger("ppdet.test").warning("said after step %d", trainer.iteration)
        if trainer.iteration == self.steps:
            raise KeyboardInterrupt


def test_a_bar_on_a_terminal(tiny, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(KeyboardInterrupt):
        Trainer(load_config(str(tiny), ["log_iter=1"]), hooks=[Speaker(6)]).train()
    text, lines = terminal.getvalue(), terminal.lines()
    bars = [part for part in re.split(r"[\r\n]", text) if part.startswith("Epoch ")]
    assert any(
        re.match(r"Epoch 1/2:  75%.* 3/4, eta 0:00:\d\d, \d.* images/s, loss \d.* cls \d.* data \d+%$", bar)
        for bar in bars
    )
    assert any(bar.startswith("Epoch 2/2:") for bar in bars)
    # Lines stand alone and whole; of reports only the one that ends an epoch is among them.
    assert all(re.match(r"\[\d{4}-\d\d-\d\d .*\] \[[A-Z]+\] \S", line) for line in lines if line), lines
    for step in range(1, 7):
        assert sum(line.endswith(f"[WARNING] said after step {step}") for line in lines) == 1
    reports = [line for line in lines if "learning_rate" in line]
    assert len(reports) == 1 and "Epoch: [1/2] [4/4]" in reports[0]
    assert lines[-1] == ""


def test_plain_lines_elsewhere(tiny, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(KeyboardInterrupt):
        Trainer(load_config(str(tiny), ["log_iter=2"]), hooks=[Speaker(4)]).train()
    text = stream.getvalue()
    assert "\r" not in text
    reports = [line for line in text.splitlines() if "learning_rate" in line]
    assert ["[1/4]" in reports[0], "[3/4]" in reports[1], "[4/4]" in reports[2]] == [True] * 3
    assert all(re.search(r"data_cost: [\d.]+ \(\d+%\) ips: .* max_mem: host \d+ MiB$", line) for line in reports)


class Told:
    """Stands in for the module `time`."""

    def __init__(self, clock):
        self.clock = clock

    def __getattr__(self, name):
        return lambda: self.clock.now


class Clock(Hook):
    """Makes time pass: a second for each step, and a hundred between two epochs."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (log, trainer):
            monkeypatch.setattr(module, "time", Told(self))
        self.reports = []

    def before_step(self, trainer):
        self.now += 1.0

    def after_epoch(self, trainer):
        self.now += 100.0

    def after_report(self, trainer, report):
        self.reports.append((trainer.iteration, report["seconds_per_step"]))


@pytest.mark.parametrize(
    ("options", "steps", "on_terminal"),
    [
        # epochs of 1 and 2 steps
        (["TrainDataset.sample_num=2", "epoch=7", "log_iter=3"], [1, 4, 7], True),
        (["TrainDataset.sample_num=4", "max_iters=5", "epoch=9", "log_iter=20"], [1, 5], False),
        # an epoch of log_iter steps is logged as a long one
        (["TrainDataset.sample_num=4", "epoch=2", "log_iter=2"], [1, 2, 3, 4], True),
    ],
)
def test_short_epochs_are_logged_by_iterations(tiny, monkeypatch, options, steps, on_terminal):
    stream = Terminal() if on_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "400")
    clock = Clock(monkeypatch)
    options = [*options, "snapshot_epoch=100", "use_onednn=false"]
    Trainer(load_config(str(tiny), options), hooks=[clock]).train()
    assert clock.reports == [(step, pytest.approx(1.0)) for step in steps]
    lines = stream.lines() if on_terminal else stream.getvalue().splitlines()
    shown = [line for line in lines if "learning_rate" in line and "Epoch: [" in line]
    ends = [step for step in steps if step % 2 == 0] if on_terminal and "log_iter=2" in options else steps
    assert len(shown) == len(ends)
    assert all(re.match(r"\[\d{4}-\d\d-\d\d .*\] \[[A-Z]+\] \S", line) for line in lines if line), lines


def test_a_loss_that_is_never_finite_is_not_shown_as_zero(tiny):
    class Spoil(Hook):
        def before_step(self, trainer):
            for parameter in trainer.model.parameters():
                parameter.set_value(paddle.full_like(parameter, float("nan")))

    class Keep(Hook):
        def after_report(self, trainer, report):
            self.report = report
            raise KeyboardInterrupt

    keep = Keep()
    with pytest.raises(KeyboardInterrupt):
        Trainer(load_config(str(tiny)), hooks=[Spoil(), keep]).train()
    assert math.isnan(keep.report["losses"]["loss"])
