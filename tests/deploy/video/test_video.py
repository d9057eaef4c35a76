"""Videos: frames are written with boxes, and damaged videos are handled."""

import json
import re
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from patience import wait_until
from toy import read_video, write_varying_video, write_video

from ppdet.cli import detect
from ppdet.deploy.detector import Detector
from ppdet.deploy.video import written_video
from ppdet.deploy.video.detection import VideoResults, detect_video
from ppdet.deploy.video.frame_times import FrameTimes
from ppdet.deploy.video.source import Frame, VideoSource
from ppdet.deploy.video.written_video import VideoFile
from ppdet.utils.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
VALUES = [20, 60, 100, 140, 180, 220, 250]


@pytest.fixture(scope="module")
def detector(folder):
    return Detector(folder, "paddle", threads=1)


def grays(path):
    """The brightness of each frame of a video, outside of the boxes."""
    return [int(frame[120, 180, 0]) for frame in read_video(path)]


def infer(*arguments, code=0):
    command = [sys.executable, "deploy/python/infer.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


def test_command_writes_video_and_lines(folder, tmp_path):
    video = write_video(tmp_path / "gray.mp4", VALUES)
    output = tmp_path / "output"
    log = infer("--model_dir", folder, "--video_file", video, "--output_dir", output, "--batch_size", 3,
                "--threshold", 0.5, "--save_results", "--cpu_threads", 1)  # fmt: skip
    assert "7 frames in" in log and "4 detections with a score of at least 0.5" in log
    assert f"video: {output / 'gray.mp4'}" in log and f"detections: {output / 'gray.jsonl'}" in log
    assert sorted(p.name for p in output.iterdir()) == ["gray.jsonl", "gray.mp4"]
    capture = cv2.VideoCapture(str(output / "gray.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5 and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7
    frames = read_video(output / "gray.mp4")
    lines = [json.loads(line) for line in (output / "gray.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(7))
    assert [line["seconds"] for line in lines] == pytest.approx([i / 12.5 for i in range(7)])
    for value, frame, line in zip(VALUES, frames, lines):
        (found,) = line["detections"]
        # The input is half as large as the frame: 64 of 128 rows.
        assert found["bbox"] == pytest.approx([32, 48, 64, 32]) and found["name"] == "bright"
        assert found["score"] == pytest.approx(value / 255, abs=0.02) and found["category_id"] == 1
        assert frame.shape == (128, 192, 3)
        assert abs(frame[100:, 120:].astype(int) - value).max() < 12  # outside of the box
        colored = np.ptp(frame[70, 28:36].astype(int), axis=1).max() > 60  # the left side of the box
        assert colored == (value / 255 > 0.5)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_are_those_of_the_file(detector, tmp_path, log, suffix):
    lengths = [0.1, 0.1, 1.0, 0.1, 0.5, 0.1, 0.1]  # on average 3.5 frames a second
    video = write_varying_video(tmp_path / f"varying{suffix}", VALUES, lengths)
    detect_video(detector, VideoSource(video), tmp_path / "output", save_results=True)
    lines = [json.loads(line) for line in (tmp_path / "output" / "varying.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines] == pytest.approx([0, 0.1, 0.2, 1.2, 1.3, 1.8, 1.9], abs=1e-3)
    assert [line["frame"] for line in lines] == list(range(7))
    shown = [20, 60, *[100] * 10, 140, *[180] * 5, 220, 250]
    assert grays(tmp_path / "output" / "varying.mp4") == pytest.approx(shown, abs=12)
    assert "not in the written video" not in log.text
    assert "could not be decoded" not in log.text  # a .mkv counts no frames; 10 a second for 2 seconds would be 20


@pytest.mark.parametrize(
    ("lengths", "rate"),
    [
        ([0.1] * 30 + [30.0] + [0.1] * 29, 10),  # one pause: on average 1.67
        ([0.1] * 9 + [0.5] * 40, 10),  # on average 2.35
        ([1 / 240] * 20, 240),
        ([0.001] + [0.1] * 19, 10.5),  # two frames that nearly coincide
        ([0.033, 0.034, 0.033] * 7, 30),  # times in milliseconds
        ([1.0] * 3, 1),
    ],
)
def test_rate_at_which_frames_have_places(tmp_path, lengths, rate):
    source = VideoSource(write_varying_video(tmp_path / "v.mp4", (VALUES * 9)[: len(lengths)], lengths))
    assert source.rate == pytest.approx(rate, rel=0.01) and sum(1 for _ in source) == len(lengths)


def test_frames_that_have_no_place_are_told(detector, tmp_path, log):
    """Frames that come faster later on than those that are read ahead."""
    video = write_varying_video(tmp_path / "later.mp4", VALUES * 10, [1.0] * 60 + [0.1] * 10)
    source = VideoSource(video)
    assert source.rate == pytest.approx(70 / 61, abs=0.01)
    detect_video(detector, source, tmp_path / "output")
    frames = grays(tmp_path / "output" / "later.mp4")
    seen = 1 + sum(abs(after - before) > 20 for before, after in pairwise(frames))
    told = int(re.search(r"(\d+) frames are not in the written video, which has 1.1", log.text).group(1))
    assert len(frames) == round(61 * source.rate) + 1 and seen + told == 70 and told > 5


@pytest.mark.parametrize(
    ("told", "seconds", "is_warned"),
    [
        ([0.0, 0.04, 0.5, 0.5, 0.6], [0.0, 0.04, 0.5, 0.5, 0.6], False),  # two frames at once
        ([0.3, 0.4, 0.5], [0.3, 0.4, 0.5], False),  # the first frames are missing
        ([0.0] * 4, [0.0, 0.1, 0.2, 0.3], True),  # OpenCV 5, bare H.264
        ([-3.68934881474191e17] * 3, [0.0, 0.1, 0.2], True),  # OpenCV 4, Motion JPEG without times
        ([float("nan")] * 3, [0.0, 0.1, 0.2], True),
        ([7.0, 7.5, 7.6, 0.0, 0.5, 0.6], [7.0, 7.5, 7.6, 7.7, 8.2, 8.3], True),  # joined recordings
    ],
)
def test_times_never_go_back(log, told, seconds, is_warned):
    times = FrameTimes("v", 10.0, from_start=True)
    assert [times.seconds(number, value) for number, value in enumerate(told)] == pytest.approx(seconds)
    assert log.text.count("v: the file tells no usable time of frame") == is_warned


def test_opencv_tells_the_next_frames_time_of_motion_jpeg(tmp_path):
    """Its own reader does, which is used where OpenCV was built without FFmpeg."""
    capture = cv2.VideoCapture(str(write_video(tmp_path / "v.avi", VALUES)), cv2.CAP_OPENCV_MJPEG)
    times = FrameTimes("v", 12.5, from_start=False)
    told = []
    while capture.grab():
        told.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    assert told[0] > 0
    seconds = [times.seconds(number, value) for number, value in enumerate(told)]
    assert seconds == pytest.approx([i * 0.08 for i in range(7)])


def test_pause_of_years_is_shortened(tmp_path, log, monkeypatch):
    monkeypatch.setattr(written_video, "MOST_REPEATS", 5)
    with VideoFile(tmp_path / "v", (128, 192), 10.0) as video:
        for value, seconds in [(20, 0.0), (100, 3e7), (180, 3e7 + 0.2)]:
            video.show(np.full((128, 192, 3), value, np.uint8), seconds)
    assert grays(video.path) == pytest.approx([20] * 5 + [100] * 2 + [180], abs=12)
    assert "a pause at 30000000.0 s is too long for the video, and is shortened" in log.text


@pytest.mark.parametrize("turns_by_default", [1.0, 0.0])  # OpenCV 5 does, OpenCV 4.11 does not
def test_frame_turned_by_its_metadata(detector, tmp_path, monkeypatch, turns_by_default):
    def open_video(*arguments, open_with_opencv=cv2.VideoCapture):
        capture = open_with_opencv(*arguments)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, turns_by_default)
        return capture

    video = write_video(tmp_path / "turned.mp4", VALUES)
    data = bytearray(video.read_bytes())
    # The matrix of the track header, of 16.16 numbers after 40 bytes: turned by 90 degrees, as telephones write it.
    at = data.index(b"tkhd") + 4 + 40
    assert data[at : at + 4] == (1 << 16).to_bytes(4, "big")
    matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    video.write_bytes(data)
    monkeypatch.setattr(cv2, "VideoCapture", open_video)
    source = VideoSource(video)
    monkeypatch.undo()
    detect_video(detector, source, tmp_path / "output")
    assert [frame.shape for frame in read_video(tmp_path / "output" / "turned.mp4")] == [(192, 128, 3)] * 7


def test_odd_size_loses_one_row_and_column(detector, tmp_path):
    path = tmp_path / "odd.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10, (193, 129))
    for value in VALUES:
        writer.write(np.full((129, 193, 3), value, np.uint8))
    writer.release()
    source = VideoSource(path)
    assert source.size == (129, 193)
    detect_video(detector, source, tmp_path / "output")
    assert [frame.shape for frame in read_video(tmp_path / "output" / "odd.mp4")] == [(128, 192, 3)] * 7


def test_frames_too_large_for_mpeg4_become_motion_jpeg(tmp_path):
    size = (64, 9000)
    with VideoFile(tmp_path / "wide", size, 10.0) as video:
        video.write(np.full((*size, 3), 90, np.uint8))
        video.write(np.full((32, 4500, 3), 200, np.uint8))  # of another size
    assert video.path == tmp_path / "wide.avi"
    frames = read_video(video.path)
    assert [frame.shape for frame in frames] == [(*size, 3)] * 2 and abs(frames[1].astype(int) - 200).max() < 8
    with pytest.raises(DataError, match="cannot write a video of 70000 x 8 pixels"):
        VideoFile(tmp_path / "wider", (8, 70000), 10.0)
    assert [path.name for path in tmp_path.iterdir()] == ["wide.avi"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such video file"),
        (b"", "not a video that OpenCV can read"),
        (b"no video" * 100, "not a video that OpenCV can read"),
        ("half", "not a video that OpenCV can read"),  # the index of an .mp4 is at its end
        ("none", "not a video that OpenCV can read"),
    ],
)
def test_not_a_video(tmp_path, content, message):
    path = tmp_path / "bad.mp4"
    if content == "none":
        write_video(path, [])
    elif content == "half":
        path.write_bytes(write_video(tmp_path / "good.mp4", VALUES).read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        VideoSource(path)


def test_container_without_a_frame(tmp_path):
    path = write_video(tmp_path / "empty.avi", VALUES)
    path.write_bytes(path.read_bytes()[:5800])  # the header, and the beginning of the first frame
    with pytest.raises(DataError, match="none of its frames can be decoded"):
        VideoSource(path)


def test_results_that_cannot_be_written_are_refused_before_the_model_is_read(tmp_path, capsys):
    """With --backend auto the engines are measured first, which takes long."""
    video = write_video(tmp_path / "own.mp4", VALUES)
    (tmp_path / "file").touch()
    command = ["--model_dir", str(tmp_path / "no_model"), "--video_file", str(video), "--output_dir"]
    for output, message in ((tmp_path, "would overwrite the video itself"), (tmp_path / "file", "file")):
        with pytest.raises(SystemExit) as error:
            detect.main([*command, str(output)])
        assert error.value.code == 2 and message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "own.mp4"]


def test_result_never_replaces_its_source(detector, tmp_path):
    video = write_video(tmp_path / "own.mp4", VALUES)
    before = video.read_bytes()
    with pytest.raises(DataError, match="would overwrite the video itself"):
        detect_video(detector, VideoSource(video), tmp_path, save_results=True)
    assert video.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["own.mp4"]


def test_full_disk_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError, match="is the disk full"), VideoFile(tmp_path / "v", (96, 128), 10.0) as video:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
        try:
            for _ in range(60):
                video.write(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
            video._writer.release()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_interrupted_video_is_whole(folder, tmp_path):
    video = write_video(tmp_path / "long.avi", VALUES * 300)
    output = tmp_path / "output"
    command = [sys.executable, "deploy/python/infer.py", "--model_dir", folder, "--video_file", video, "--save_results",
               "--output_dir", output, "--cpu_threads", "1", "--backend", "paddle"]  # fmt: skip
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: process.poll() is not None or list(output.glob(".long.*.mp4")))
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate()
    assert process.returncode == 143 and "Traceback" not in log, log
    frames = int(re.search(r"stopped after (\d+) frames of 2100", log).group(1))
    assert sorted(p.name for p in output.iterdir()) == ["long.jsonl", "long.mp4"]
    assert len(read_video(output / "long.mp4")) == frames == len((output / "long.jsonl").read_text().splitlines())


def test_camera_keeps_its_time(detector, tmp_path, log, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    source = VideoSource(write_video(tmp_path / "v.avi", VALUES, fps=10))
    source.live, source.name, source.stem = True, "camera 3", "camera_3"
    with ExitStack() as stack:
        results = VideoResults(stack, detector, source, tmp_path, 0.5, True, True)
        for number, (seconds, value) in enumerate([(0.0, 20), (0.5, 140), (0.52, 90), (1.2, 250)]):
            image = np.full((128, 192, 3), value, np.uint8)
            results.add(Frame(number, seconds, image), detector.predict(image))
    assert "no window can be shown" in log.text and not results.wants_to_stop()
    # At 10 frames a second, the frame of 1.2 seconds is the thirteenth, and the last one before it is shown until then.
    assert grays(tmp_path / "camera_3.mp4") == pytest.approx([20] * 5 + [90] * 7 + [250], abs=4)
    assert len((tmp_path / "camera_3.jsonl").read_text().splitlines()) == 4


def test_no_camera_is_one_line(folder):
    if Path("/dev/video9").exists():
        pytest.skip("there is a tenth camera")
    log = infer("--model_dir", folder, "--camera_id", 9, code=2)
    assert log.startswith("error: camera 9: ") and len(log.splitlines()) == 1


def test_frames_have_a_limit_of_pixels(tmp_path, monkeypatch):
    video = write_video(tmp_path / "gray.mp4", VALUES)
    height, width = VideoSource(video).size
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", str(height * width))
    assert VideoSource(video).size == (height, width)
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", str(height * width - 1))
    with pytest.raises(DataError, match=rf"its frames have {height * width} pixels, more than"):
        VideoSource(video)
