"""The formats that options and messages name are those that can be read."""

from ppdet.data.annotations.recognition import READERS
from ppdet.utils.formats.label_formats import READ_FORMATS


def test_every_format_that_is_named_has_a_reader():
    assert set(READ_FORMATS) == {*READERS, "yolo"} and len(READ_FORMATS) == len(READERS) + 1
