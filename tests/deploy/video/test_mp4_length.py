"""What is missing in a video that is damaged or cut; and what is not, though the file counts more frames."""

import re

import cv2
import numpy as np
import pytest
from toy import read_video, write_video

from ppdet.deploy.detector import Detector
from ppdet.deploy.video.detection import detect_video
from ppdet.deploy.video.mp4_length import shown_times
from ppdet.deploy.video.source import VideoSource
from ppdet.utils.errors import DataError

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
    assert shown_times(video) == pytest.approx((0, 2.8))
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
    assert shown_times(video) == pytest.approx((0, 0.56))
    random = np.random.default_rng(0)
    for content in (b"", bytes(100), whole[:-40], b"\0\0\0\1moov" + b"\xff" * 99, b"\0\0\0\x08free" * 20_000 + whole):
        video.write_bytes(content)
        assert shown_times(video) in ((0, 0), pytest.approx((0, 0.56)))
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[random.integers(0, len(whole))] ^= 1 << random.integers(0, 8)
        video.write_bytes(damaged)
        assert min(shown_times(video)) >= 0


def box(kind, content):
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def grow(data, parents, at, content):
    """Insert bytes into boxes, which become longer. The frames are in front of them."""
    for parent in parents:
        begin = data.index(parent.encode()) - 4
        data[begin : begin + 4] = (int.from_bytes(data[begin : begin + 4], "big") + len(content)).to_bytes(4, "big")
    data[at:at] = content


@pytest.mark.parametrize("has_sound", [True, False])
def test_frames_that_begin_after_the_sound(tmp_path, has_sound):
    """An edit list begins with three seconds of nothing. Without another track, the file begins with its frames."""
    video = write_video(tmp_path / "late.mp4", VALUES)
    data = bytearray(video.read_bytes())
    ticks = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    at = data.index(b"elst") + 12
    data[at - 1] = 2  # entries
    grow(data, ("moov", "trak", "edts", "elst"), at, (3 * ticks).to_bytes(4, "big") + b"\xff" * 4 + b"\0\1\0\0")
    head = data.index(b"tkhd") + 24
    data[head : head + 4] = (int.from_bytes(data[head : head + 4], "big") + 3 * ticks).to_bytes(4, "big")
    if has_sound:
        handler = box(b"hdlr", bytes(8) + b"soun" + bytes(13))
        grow(data, ("moov",), data.index(b"trak") - 4, box(b"trak", box(b"mdia", handler)))
    video.write_bytes(data)
    start = 3 if has_sound else 0
    assert shown_times(video) == pytest.approx((start, 0.56))
    source = VideoSource(video)
    assert [frame.seconds for frame in source] == pytest.approx([start + i / 12.5 for i in range(7)])
    assert source.missing == 0 and source.missing_seconds == 0


def test_pixels_that_are_not_square_are_told(tmp_path, log):
    video = write_video(tmp_path / "wide.mp4", VALUES)
    data = bytearray(video.read_bytes())
    assert VideoSource(video).size == (128, 192) and "pixels" not in log.text
    entry = data.index(b"stsd") + 12
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    data[entry + 4 : entry + 8] = b"here"
    shape = box(b"pasp", bytes([0, 0, 0, 2, 0, 0, 0, 1]))
    grow(data, ("moov", "trak", "mdia", "minf", "stbl", "stsd", "here"), end, shape)
    data[entry + 4 : entry + 8] = b"mp4v"
    video.write_bytes(data)
    assert VideoSource(video).size == (128, 192)
    assert f"{video}: its pixels are shown 2:1 wide" in log.text


def test_codec_that_cannot_be_decoded_is_named(tmp_path):
    video = write_video(tmp_path / "v.mp4", VALUES)
    video.write_bytes(video.read_bytes().replace(b"mp4v", b"av01").replace(b"esds", b"free"))
    with pytest.raises(DataError, match=r"cannot decode its codec AV01 here; ffmpeg -i VIDEO -c:v libx264"):
        VideoSource(video)
