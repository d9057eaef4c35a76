"""docs/REFERENCE.md and `ppdet config --list` say what the constructors and their docstrings say."""

import pytest

from ppdet.core import reference, registry
from ppdet.core.registry import register
from ppdet.utils.errors import ConfigError


def test_the_page_is_up_to_date(capsys):
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


def test_a_page_that_differs_is_shown_and_written(tmp_path, monkeypatch, capsys):
    old = tmp_path / "REFERENCE.md"
    old.write_text(reference.PAGE.read_text(encoding="utf-8").replace("### FCOSLoss", "### FCOSLos"), encoding="utf-8")
    current = reference.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(reference, "PAGE", old)
    assert reference.main(["--check"]) == 1
    assert "-### FCOSLos\n+### FCOSLoss\n" in capsys.readouterr().out
    assert reference.main([]) == 0 and old.read_text(encoding="utf-8") == current


@pytest.fixture
def undocumented(monkeypatch):
    """Register a component of the package whose parameter `size` has no meaning."""

    class ToyUndocumented:
        """Does nothing.

        Args:
            width: in pixels.
        """

        def __init__(self, *, width: int = 1, size: int = 2) -> None:
            pass

    monkeypatch.setattr(ToyUndocumented, "__module__", "ppdet.metrics.toy")
    register(ToyUndocumented)
    yield ToyUndocumented
    del registry._schemas["ToyUndocumented"]


def test_a_parameter_without_a_meaning_is_an_error(undocumented):
    with pytest.raises(ConfigError, match=r"ppdet\.metrics\.toy: parameters without a meaning: size: add a line for"):
        reference.page()
    undocumented.__doc__ = None
    register(undocumented)
    with pytest.raises(ConfigError, match=r"the class ToyUndocumented has no docstring: add one that says what it"):
        reference.page()


def test_list_of_everything(capsys):
    reference.print_list()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "epoch number of training epochs; null: as many as max_iters requires" in lines
    assert "ToyFlip Flips images" in lines[lines.index("Other components") :], "components from outside are listed too"
    assert lines.index("Backbones") < [line.split(" ")[0] for line in lines].index("ResNet") < lines.index("Necks")
    assert not any(line.startswith("print_flops ") for line in lines)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ToyFlip", ["ToyFlip: Flips images", "prob: float; default: 0.5", "probability of a flip. It is at most 1."]),
        ("ToyFlip", ["trt changes nothing: flips need no TensorRT"]),
        ("ToyResize", ["target_size: list of int; required", "(no meaning)"]),
        ("ToyHead", ["loss: component; default: ToyLoss", "nms: component or null; default: null"]),
        ("auto_lr", ["auto_lr: mapping or null; default: null", "auto_lr.base_batch_size: int; default: 16"]),
        ("norm_type", ["norm_type: one of 'bn', 'sync_bn', 'gn'; default: not set"]),
        ("TrainDataset", ["TrainDataset: data set; default: null", "the data set for training"]),
        ("epochs", ["epochs changes nothing: PaddleDetection's files define it only as a YAML anchor; epoch is the "]),
    ],
)
def test_list_of_one_name(name, expected, capsys):
    reference.print_list(name)
    out = capsys.readouterr().out
    assert all(text in out for text in expected), out


def test_list_of_an_unknown_name():
    advice = (
        r"^ToyFlp: neither a component nor a global setting; did you mean 'ToyFlip'\?; a component of your own needs"
    )
    with pytest.raises(ConfigError, match=advice):
        reference.print_list("ToyFlp")
