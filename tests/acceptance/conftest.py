"""What the tests of the kit share."""

import pytest
from broken import short_context

from ppdet.acceptance import check_registry
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.modeling import cpu


@pytest.fixture
def own_checks():
    """Checks that a test registers are gone after it."""
    check_registry.all_checks()
    before = dict(check_registry.CHECKS)
    yield
    check_registry.CHECKS.clear()
    check_registry.CHECKS.update(before)


@pytest.fixture
def context(tmp_path):
    """As a check is given it in a quick run on the CPU."""
    amp = ("bfloat16",) if cpu.has_bfloat16() else ()
    return Context(Facts("cpu", amp=amp), quick=True, work=tmp_path / "work")


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """A context of short runs on few small images; what the CPU has to say of them is found out once."""
    with pytest.MonkeyPatch.context() as patch:
        yield short_context(patch, Facts("cpu"), tmp_path_factory.mktemp("short"))
