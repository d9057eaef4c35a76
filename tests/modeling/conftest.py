from collections.abc import Iterator

import pytest
from reference import load_fill

from ppdet.core.workspace import load_config
from ppdet.modeling import cpu


@pytest.fixture
def fill(shared):
    """The function that gives every parameter the value it has in all goldens."""
    return load_fill(shared)


@pytest.fixture
def base(fill):
    """FCOS R50 as published, with the goldens' weights."""
    model = load_config("configs/fcos/fcos_r50_fpn_1x_coco.yml").create("FCOS")
    for name, value in model.state_dict().items():
        value.set_value(fill(name, value.shape))
    return model


@pytest.fixture(params=[True, False], ids=["oneDNN", "paddle"])
def layers(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs twice, with oneDNN's layers and with Paddle's."""
    if request.param and not cpu.ready():
        pytest.skip("oneDNN cannot be used on this machine")
    cpu.set_enabled(request.param)
    yield
    cpu.set_enabled(True)
