"""Fixtures of the tests of the acceptance kit."""

import pytest
from broken import short_context

from ppdet.acceptance import check_registry
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.modeling import cpu


@pytest.fixture
def own_checks():
    """Remove the checks that a test registers after the test."""
    check_registry.all_checks()
    before = dict(check_registry.CHECKS)
    yield
    check_registry.CHECKS.clear()
    check_registry.CHECKS.update(before)


@pytest.fixture
def context(tmp_path):
    """The context of a check in a quick run on the CPU."""
    amp = ("bfloat16",) if cpu.has_bfloat16() else ()
    return Context(Facts("cpu", amp=amp), quick=True, work=tmp_path / "work")


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """The context of short runs on a few small images; results of the CPU are computed once per session."""
    with pytest.MonkeyPatch.context() as patch:
        yield short_context(patch, Facts("cpu"), tmp_path_factory.mktemp("short"))
