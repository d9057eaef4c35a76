"""What is missing in a video that is damaged or cut; and what is not, though the file counts more frames."""

import re

import cv2
import numpy as np
import pytest
from toy import read_video, write_video

from ppdet.deploy.detector import Detector
from ppdet.deploy.mp4_length import shown_seconds
from ppdet.deploy.video_results import detect_video
from ppdet.deploy.video_source import VideoSource

VALUES = [20, 60, 100, 140, 180, 220, 250]


@pytest.fixture(scope="module")
def detector(folder):
    return Detector(folder, "paddle", threads=1)


def test_damaged_video_is_counted(detector, tmp_path, log):
    rng = np.random.default_rng(0)
    video = tmp_path / "damaged.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 10, (128, 96))
    for _ in range(60):
        writer.write(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    writer.release()
    data = bytearray(video.read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    video.write_bytes(data)
    detect_video(detector, VideoSource(video), tmp_path / "output")
    written = len(read_video(tmp_path / "output" / "damaged.mp4"))
    assert 0 < written < 60
    assert f"{60 - written} frames of {video} could not be decoded" in log.text


def test_cut_video(detector, tmp_path, log):
    whole = write_video(tmp_path / "whole.avi", VALUES * 40).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    detect_video(detector, VideoSource(cut), tmp_path / "output")
    missing = float(re.search(rf"{cut}: about ([\d.]+) s may be missing at the end", log.text).group(1))
    written = len(read_video(tmp_path / "output" / "cut.mp4"))
    assert 0 < written < 280 and missing == pytest.approx((280 - written) / 12.5, abs=0.06)
    assert "could not be decoded" not in log.text


def test_cut_video_that_counts_no_frames(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", [(i * 37) % 255 for i in range(250)]).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    source = VideoSource(cut)
    found = sum(1 for _ in source)
    assert 0 < found < 250 and source.missing == 0  # how many it had is not known, but how long it was
    assert source.missing_seconds == pytest.approx((250 - found) / 12.5, abs=0.2)


def test_frames_that_an_edit_list_leaves_out_are_not_missing(detector, tmp_path, log):
    """As after cutting a video without encoding it again: the file keeps and counts the frames that nobody sees."""
    video = write_video(tmp_path / "edited.mp4", VALUES * 10)
    data = bytearray(video.read_bytes())
    ticks = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    half = round(2.8 * ticks).to_bytes(4, "big")
    head, edit = data.index(b"tkhd") + 24, data.index(b"elst") + 12
    assert data[head : head + 4] == data[edit : edit + 4] == round(5.6 * ticks).to_bytes(4, "big")
    data[head : head + 4] = data[edit : edit + 4] = half
    video.write_bytes(data)
    assert shown_seconds(video) == pytest.approx(2.8)
    detect_video(detector, VideoSource(video), tmp_path / "output")
    assert len(read_video(tmp_path / "output" / "edited.mp4")) == 35
    assert "missing" not in log.text and "could not be decoded" not in log.text


def test_places_of_an_avi_without_a_frame_are_not_missing(tmp_path):
    """So AVI has a variable frame rate: chunks without content."""
    video = write_video(tmp_path / "v.avi", VALUES)
    data = bytearray(video.read_bytes())
    index = data.index(b"idx1") + 8
    base = data.index(b"movi")
    for place in (1, 2, 4):
        entry = index + 16 * place
        at = base + int.from_bytes(data[entry + 8 : entry + 12], "little")
        size = int.from_bytes(data[entry + 12 : entry + 16], "little")
        assert data[at : at + 4] == b"00dc" and data[at + 4 : at + 8] == size.to_bytes(4, "little")
        data[at + 4 : at + 16] = bytes(4) + b"JUNK" + (size - 8).to_bytes(4, "little")
        data[entry + 12 : entry + 16] = bytes(4)
    video.write_bytes(data)
    source = VideoSource(video)
    assert [round(frame.seconds * 12.5) for frame in source] == [0, 3, 5, 6]
    assert source.announced == 7 and source.missing == 0 and source.missing_seconds == 0


def test_lengths_of_damaged_mp4(tmp_path):
    video = write_video(tmp_path / "v.mp4", VALUES)
    whole = video.read_bytes()
    assert shown_seconds(video) == pytest.approx(0.56)
    random = np.random.default_rng(0)
    for content in (b"", bytes(100), whole[:-40], b"\0\0\0\1moov" + b"\xff" * 99, b"\0\0\0\x08free" * 20_000 + whole):
        video.write_bytes(content)
        assert shown_seconds(video) in (0, pytest.approx(0.56))
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[random.integers(0, len(whole))] ^= 1 << random.integers(0, 8)
        video.write_bytes(damaged)
        assert shown_seconds(video) >= 0
