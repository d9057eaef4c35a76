"""Records that are made when they are asked for are those of a list."""

import pickle

import numpy as np
import pytest

from ppdet.data.sources.records import Records
from ppdet.utils.packed_texts import PackedTexts

NAMES = ["a.png", "", "é/图.png", "\ud800\udcff.png", "b\nc.png"]


@pytest.mark.parametrize("texts", [NAMES, [], [""]])
def test_packed_texts(texts):
    packed = PackedTexts.of(texts)
    assert list(packed) == texts and len(packed) == len(texts)
    assert [packed[-1 - i] for i in range(len(texts))] == texts[::-1]
    assert packed[1:] == texts[1:] and packed[::-2] == texts[::-2]
    for place in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            packed[place]


def expected(i, boxes, classes, starts):
    span = slice(starts[i], starts[i + 1])
    return {
        "im_id": np.array([10 - i]),
        "im_file": NAMES[i],
        "h": 100 + i,
        "w": 200 + i,
        "gt_bbox": boxes[span],
        "gt_class": classes[span],
    }


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    starts = np.array([0, 2, 2, 3, 7, 9])
    boxes = rng.uniform(0, 50, (9, 4)).astype(np.float32)
    classes = rng.integers(0, 3, (9, 1)).astype(np.int32)
    sizes = np.stack([100 + np.arange(5), 200 + np.arange(5)], axis=1)
    kept = np.tile([0, 2, 3], 2)
    records = Records(
        ids=10 - np.arange(5),
        files=NAMES,
        sizes=sizes,
        starts=starts,
        boxes={"gt_bbox": boxes, "gt_class": classes},
        kept=kept,
    )
    return records, [expected(i, boxes, classes, starts) for i in kept.tolist()]


def check(records, wanted):
    assert len(records) == len(wanted)
    for one, other in zip(records, wanted, strict=True):
        assert list(one) == list(other)
        for name, value in other.items():
            assert type(one[name]) is type(value), name
            np.testing.assert_array_equal(one[name], value, err_msg=name)


def test_records(case):
    records, wanted = case
    check(records, wanted)
    check(pickle.loads(pickle.dumps(records)), wanted)
    check(records[1:4], wanted[1:4])
    check(records[::-1], wanted[::-1])
    check([records[-1], records[np.int64(2)]], [wanted[-1], wanted[2]])
    for place in (6, -7):
        with pytest.raises(IndexError):
            records[place]


def test_a_record_belongs_to_whoever_asked_for_it(case):
    records, wanted = case
    records[0]["im_file"] = "other"
    del records[0]["h"]
    check(records, wanted)


def test_renumbered_classes(case):
    records, wanted = case
    some = records[:2]
    new = np.array([2, 0, 1], dtype=np.int32)
    records.renumber(new)
    check(records, [{**record, "gt_class": new[record["gt_class"]]} for record in wanted])
    check(some, wanted[:2])


def test_records_of_images_alone():
    records = Records(ids=np.arange(2), files=NAMES[:2])
    check(records, [{"im_id": np.array([i]), "im_file": NAMES[i]} for i in range(2)])
    records.renumber(np.array([1, 0]))
    check(records, [{"im_id": np.array([i]), "im_file": NAMES[i]} for i in range(2)])
