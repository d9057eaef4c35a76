"""A graph of fixed size has to have room for what its images are resized to."""

import pytest

from ppdet.data.transforms import Resize
from ppdet.engine.export.infer_cfg import warn_if_too_small
from ppdet.engine.export.refusals import graph_size


@pytest.mark.parametrize(
    ("target", "keep_ratio", "shape", "told"),
    [
        ([320, 427], True, [3, 320, 448], False),
        ([320, 427], True, [3, 448, 320], False),  # for upright images
        ([480, 640], True, [3, 320, 448], True),
        ([320, 640], True, [3, 320, 448], True),
        ([330, 427], True, [3, 320, 448], True),
        (300, False, [3, 320, 448], False),
        ([448, 320], False, [3, 320, 448], True),
        ([480, 640], True, None, False),
        ([480, 640], True, [3, -1, -1], False),
    ],
)
def test_too_small_a_graph_is_told(log, target, keep_ratio, shape, told):
    size = graph_size({"image_shape": shape} if shape else None, "x.yml")
    warn_if_too_small(size, [Resize(target_size=target, keep_ratio=keep_ratio)])
    assert ("the graph takes 320x448 at most and will refuse larger ones: set input_size" in log.text) is told


def test_without_resizing_nothing_is_known(log):
    warn_if_too_small((32, 32), [])
    assert not log.records
