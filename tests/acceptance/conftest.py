"""What the tests of the kit share."""

import pytest

from ppdet.acceptance import registry
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import Facts
from ppdet.modeling import cpu


@pytest.fixture
def own_checks():
    """Checks that a test registers are gone after it."""
    registry.all_checks()
    before = dict(registry.CHECKS)
    yield
    registry.CHECKS.clear()
    registry.CHECKS.update(before)


@pytest.fixture
def context(tmp_path):
    """As a check is given it in a quick run on the CPU."""
    amp = ("bfloat16",) if cpu.has_bfloat16() else ()
    return Context(Facts("cpu", amp=amp), quick=True, work=tmp_path / "work")
