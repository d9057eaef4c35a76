"""Detection that is stopped, or whose disk is full, keeps the results so far."""

import json
import os
import resource
import signal

import cv2
import numpy as np
import pytest

from ppdet.deploy.results import write_results
from ppdet.utils.process.stop import Stopped

ROW = np.array([[0, 0.9, 1.0, 2.0, 11.0, 22.0]], np.float32)


@pytest.fixture
def paths(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4, 60, 80, 3), dtype=np.uint8)
    for number, image in enumerate(noise):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    return [str(tmp_path / f"{number}.png") for number in range(4)]


def write(detections, paths, output, **options):
    write_results(detections, paths, str(output), class_names=["cell"], category_ids=[7], save_results=True, **options)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_done_when_a_signal_came_is_written(paths, tmp_path, number, code, log, capfd):
    closed = []

    def detections():
        try:
            yield 0, ROW
            os.kill(os.getpid(), number)  # while the second image is detected on
            yield 1, ROW
            yield 2, ROW
        finally:
            closed.append(True)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        write(detections(), paths, tmp_path / "out")
    assert caught.value.code == code and closed == [True] and signal.getsignal(number) is before
    assert [row["image_id"] for row in json.loads((tmp_path / "out" / "bbox.json").read_text())] == [0, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "bbox.json"]
    assert "stopped after 2 of 4 images" in log.text and "could not be read" not in log.text
    assert "finishing this image, then writing what is done" in capfd.readouterr().err


@pytest.mark.parametrize("bytes_", [0, 5000])
def test_a_picture_without_room_is_an_error_and_none_is_left(paths, tmp_path, bytes_):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        with pytest.raises(OSError, match=r"out/0\.png: the picture cannot be written \(File too large\)"):
            write(iter([(0, ROW)]), paths, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out").iterdir())


def test_results_without_room_are_an_error_that_names_them(paths, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write(iter([(0, ROW)]), paths, tmp_path / "out", visualize=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "out" / "bbox.json")
    assert not list((tmp_path / "out").iterdir())


def test_a_picture_too_long_for_jpeg_is_a_png(tmp_path, log):
    """The library of JPEG writes sides of 65,500 pixels at most, and that of PNG 1,000,000."""
    names = ["fits.bmp", "long.bmp", "longest.bmp"]
    for name, width in zip(names, (65_500, 65_501, 1_000_001)):
        cv2.imwrite(str(tmp_path / name), np.zeros((1, width, 3), np.uint8))
    paths = [str((tmp_path / name).rename(tmp_path / name.replace("bmp", "jpg"))) for name in names]
    write(iter([(0, ROW), (1, ROW), (2, ROW)]), paths, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bbox.json", "fits.jpg", "long.jpg.png"]
    assert cv2.imread(str(tmp_path / "out" / "long.jpg.png")).shape == (1, 65_501, 3)
    assert "longest.jpg: not drawn: no format has pictures of 1 x 1000001 pixels" in log.text
