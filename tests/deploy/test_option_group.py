"""Options that need another one: which values are read, and what errors say."""

import argparse
from fractions import Fraction

import numpy as np
import pytest

from ppdet.deploy.option_group import OptionGroup, is_real
from ppdet.utils.errors import DeployError

OPTIONS = OptionGroup("zoom", "Zooming", {"zoom_by": "factor", "zoom_to": "place"})


def arguments(**values):
    return argparse.Namespace(**{"zoom": False, "zoom_by": None, "zoom_to": None, **values})


def test_values_by_field():
    assert OPTIONS.read(arguments()) is None
    assert OPTIONS.read(arguments(zoom=True)) == {}
    assert OPTIONS.read(arguments(zoom=True, zoom_by=0.0, zoom_to="")) == {"factor": 0.0, "place": ""}
    with pytest.raises(DeployError, match=r"^--zoom_to has no effect without --zoom: add that, or leave it out$"):
        OPTIONS.read(arguments(zoom_to="left"))


def test_an_error_names_option_and_field():
    with pytest.raises(DeployError, match=r"^--zoom_to \(Zooming.place\) is 'up', expected left or right$"):
        OPTIONS.refuse("place", "up", "left or right")
    with pytest.raises(DeployError) as error:
        OPTIONS.refuse("factor", list(range(10**5)), "a number")
    assert len(str(error.value)) < 300


def test_numbers():
    assert all(map(is_real, (1, 0.5, float("nan"), np.float32(1), np.int64(2), Fraction(1, 3))))
    assert not any(map(is_real, (True, np.bool_(True), "1", None, 1j, [1])))
