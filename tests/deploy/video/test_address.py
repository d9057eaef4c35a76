"""What is shown of addresses, and the names of the files of streams: both without secrets."""

import re

import pytest

from ppdet.deploy.video.address import file_stem, shown


@pytest.mark.parametrize(
    ("address", "name", "stem"),
    [
        ("rtsp://u:p@cam.local:554/stream1?x=1", "rtsp://cam.local:554/stream1", "cam.local_554_stream1_#"),
        ("rtsp://u@cam/", "rtsp://cam/", "cam"),
        ("http://[::1]:8080/a b", "http://[::1]:8080/a b", "1_8080_a_b"),
        ("rtsp://cam/user=admin_password=tl_channel=1.sdp", "rtsp://cam/***", "cam_#"),
        ("rtsp://h/monkey_house", "rtsp://h/monkey_house", "h_monkey_house"),  # "key" and "pass" within words
        ("rtsp://h/passage/east", "rtsp://h/passage/east", "h_passage_east"),
        ("http://h/myPass/1", "http://h/myPass/1", "h_myPass_1"),
        ("http://h/stream_key/x", "http://h/***", "h_#"),
        ("http://h/StreamKeys/x", "http://h/***", "h_#"),
        ("https://h/live/KEY123", "https://h/***", "h_#"),
        ("rtsp://u:p/w@cam/x", "rtsp://***", "stream"),  # a password with a slash
        ("rtsp://u:p?w@cam/x", "rtsp://***", "stream"),
        ("rtsp://u:p#w@cam/x", "rtsp://***", "stream"),
        ("rtsp://u:p@w@cam/x", "rtsp://cam/x", "cam_x"),
        ("rtmp://h/" + "a" * 300, "rtmp://h/" + "a" * 300, "h_" + "a" * 98 + "_#"),
        ("http://h/a\nb", "http://h/***", "h_#"),
        ("http://", "http://***", "stream"),
    ],
)
def test_what_is_shown_of_addresses(address, name, stem):
    assert shown(address) == name and re.sub(r"_[0-9a-f]{8}$", "_#", file_stem(address)) == stem


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("http://h/video?cam=1", "http://h/video?cam=2", False),
        ("http://h?cam=1", "http://h?cam=2", False),
        ("rtsp://h/user=a_password=b_channel=1.sdp", "rtsp://h/user=a_password=b_channel=2.sdp", False),
        ("rtsp://h/" + "a" * 300, "rtsp://h/" + "a" * 301, False),
        # Nothing that could be guessed from the name of the file goes into it.
        ("rtsp://u:p@h/a?x=1", "rtsp://v:q@h/a?x=1", True),
        ("http://h/v?token=a&cam=1", "http://h/v?token=b&cam=1", True),
        ("http://h/live/token/a/1", "http://h/live/token/b/1", True),
        ("rtsp://h/user=a_password=b_channel=1.sdp", "rtsp://h/user=a_password=c_channel=1.sdp", True),
    ],
)
def test_two_cameras_have_two_files(one, other, are_same):
    assert (file_stem(one) == file_stem(other)) == are_same
