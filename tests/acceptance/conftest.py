"""What the tests of the kit share."""

import pytest

from ppdet.acceptance import made, registry
from ppdet.acceptance.checks import guard, training
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import Facts
from ppdet.modeling import cpu

SMALL = {"TrainReader.batch_size": 2, "auto_lr": None, "LearningRate.schedulers": []}


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


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """A context of short runs on few small images; what the CPU has to say of them is found out once."""
    settings = made.settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "TRAIN_IMAGES", 24)
        patch.setattr(made, "VAL_IMAGES", 4)
        patch.setattr(made, "SIDE", 96)
        patch.setattr(made, "settings", lambda *a: {**settings(*a), **SMALL})
        patch.setattr(training, "QUICK_STEPS", 6)
        patch.setattr(guard, "STEPS", 4)
        patch.setattr(guard, "BAD", (0, 2))
        yield Context(Facts("cpu"), quick=True, work=tmp_path_factory.mktemp("short"))
