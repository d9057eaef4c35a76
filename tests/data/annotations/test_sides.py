"""Splitting into parts: shares, classes, groups and seeds."""

from collections import Counter

import numpy as np
import pytest

from ppdet.data.annotations.sides import shares_of, split_groups
from ppdet.utils.errors import DataError


def test_shares():
    assert shares_of("0.8/0.2") == [0.8, 0.2] and shares_of("70/20/10") == [0.7, 0.2, 0.1]


@pytest.mark.parametrize(
    "text", ["1", "0.8", "0.8/0.3", "0.8/-0.2", "a/b", "nan/1", "inf/1", "0.1/0.2/0.3/0.4", "1/0", ""]
)
def test_what_is_no_shares(text):
    with pytest.raises(DataError, match="--split"):
        shares_of(text)


def test_each_class_has_its_share_and_groups_stay_together():
    random = np.random.default_rng(0)
    classes = [
        Counter(
            {
                name: int(random.integers(1, 5))
                for name, rate in (("a", 0.9), ("b", 0.3), ("c", 0.05))
                if random.random() < rate
            }
        )
        for _ in range(400)
    ]
    groups = [list(range(start, min(start + 3, 400))) for start in range(0, 400, 3)]
    part = split_groups(classes, groups, [0.7, 0.2, 0.1], seed=1)
    assert all(len({part[image] for image in group}) == 1 for group in groups)
    total = sum(classes, Counter())
    for side, share in enumerate((0.7, 0.2, 0.1)):
        boxes = sum((classes[image] for image in range(400) if part[image] == side), Counter())
        assert part.count(side) == pytest.approx(400 * share, abs=12)
        for name in total:
            assert boxes[name] == pytest.approx(total[name] * share, abs=6)
    assert split_groups(classes, groups, [0.7, 0.2, 0.1], seed=1) == part
    assert split_groups(classes, groups, [0.7, 0.2, 0.1], seed=2) != part


def test_no_part_is_empty_and_a_class_with_one_image_is_trained_on():
    classes = [Counter(a=1)] * 4 + [Counter(b=1)]
    part = split_groups(classes, [[i] for i in range(5)], [0.98, 0.02], seed=1)
    assert set(part) == {0, 1} and part[4] == 0
    with pytest.raises(
        DataError, match=r"look alike: 1, too few to split into 2 parts: .* come apart with --split_similar"
    ):
        split_groups(classes, [[0, 1, 2, 3, 4]], [0.5, 0.5], seed=1)


def test_a_part_that_misses_its_share_is_named(log):
    """29 of 30 images look alike, as those of a fixed camera do, and stay together."""
    part = split_groups([Counter(a=1)] * 30, [list(range(29)), [29]], [0.8, 0.2], seed=1)
    assert part.count(0) == 29
    assert "val has 1 of 30 images, 3 % instead of 20 %: 29 images look alike" in log.text
    assert "with --split_similar they come apart" in log.text and "train has" not in log.text


def test_small_shares_are_no_reason_to_warn(log):
    split_groups([Counter(a=1)] * 12, [[2 * i, 2 * i + 1] for i in range(6)], [0.8, 0.2], seed=1)
    split_groups([Counter(a=1)] * 3, [[0], [1], [2]], [0.9, 0.1], seed=1)  # a third is much, but no image looks alike
    assert "instead of" not in log.text
