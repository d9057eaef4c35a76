"""What a job tells of itself: steps from its beginning, and a speed only if one can be told."""

import sys

import pytest

from ppdet.deploy.batch import progress
from ppdet.deploy.batch.progress import Progress, Speed, count_of


class Terminal:
    """Standard error of a terminal: keeps what is written."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_one_and_several():
    assert [count_of(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [count_of(number, "box", "boxes") for number in (0, 1, 2)] == ["0 boxes", "1 box", "2 boxes"]


def test_the_first_task_of_each_worker_does_not_count():
    """Two workers that take 60 s to start, and then 16 images in 4 s each: 8 images/s together."""
    speed = Speed(2)
    for now in (64, 64.5):
        speed.add(16, now)
        assert speed.per_second is None
    for round_ in range(1, 5):
        for late in (0, 0.5):
            speed.add(16, 64 + 4 * round_ + late)
    assert speed.per_second == pytest.approx(8 * 16 / 16)


@pytest.mark.parametrize(("images", "seconds", "told"), [(99, 9, False), (100, 9, True), (99, 10, True), (1, 10, True)])
def test_small_jobs_have_no_speed(images, seconds, told):
    speed = Speed(1)
    speed.add(16, 5.0)
    speed.add(images, 5.0 + seconds)
    assert speed.per_second == (pytest.approx(images / seconds) if told else None)


def test_lines_of_the_log(log):
    now = 0.0
    with Progress(lambda: now) as shown:
        shown.step("listing the images", " of photos")
        assert [record.getMessage() for record in log.records] == ["listing the images of photos"]
        shown.step("loading the model")
        for second in (1.0, 29.0, 31.0, 45.0):
            now = second
            shown.add(0)
        shown.count(100, 1000, 1)
        for second, images in ((62.0, 0), (70.0, 16), (80.0, 60), (90.0, 60), (95.0, 60)):
            now = second
            shown.add(images)
        assert shown.speed == pytest.approx(180 / 25) and shown.seconds == 95
    assert [record.getMessage() for record in log.records[1:]] == [
        "loading the model",
        "loading the model: 31 s since the start",
        "100 of 1000 images",
        "296 of 1000 images, 7.20 images/s, 2 min left",
    ]


def test_a_bar_on_a_terminal(monkeypatch):
    terminal, now = Terminal(), 0.0
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "is_watched", lambda: True)
    with Progress(lambda: now) as shown:
        shown.step("starting Ray")
        assert "starting Ray [00:00" in terminal.text
        shown.count(0, 1016, 1)
        shown.add(0)
        shown.add(16)
        last = terminal.text.split("\r")[-1]
        assert "| 16/1016 images [" in last and last.rstrip().endswith("<?]")
        now = 20.0
        shown.add(500)
        last = terminal.text.split("\r")[-1]
        assert "| 516/1016 images [" in last and last.rstrip().endswith("<00:20, 25.00image/s]")
