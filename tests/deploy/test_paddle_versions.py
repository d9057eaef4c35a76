"""Paddle 2 cannot read a graph of Paddle 3: one line says so, in place of a segmentation fault."""

import paddle
import pytest
import yaml
from toy import write_toy

from ppdet.deploy import Detector
from ppdet.deploy.backends import load_backend
from ppdet.deploy.backends.base import Options
from ppdet.utils.errors import DeployError


def toy(folder, graph, settings):
    write_toy(folder, **settings)
    written = next(path for path in folder.iterdir() if path.name in ("model.json", "model.pdmodel"))
    written.rename(folder / graph)
    return folder


@pytest.mark.parametrize(
    ("settings", "exporter"),
    [
        ({"versions": {"ppdet": "0.1.0", "paddle": "3.3.1"}}, "3.3.1"),
        ({}, "3"),  # PaddleDetection's folders, and those of earlier versions
        ({"versions": "unknown"}, "3"),
    ],
)
@pytest.mark.parametrize("backend", ["paddle", "auto"])
def test_a_graph_of_paddle_3_in_paddle_2(tmp_path, monkeypatch, settings, exporter, backend):
    folder = toy(tmp_path, "model.json", settings)
    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    message = (
        rf"model\.json: exported with Paddle {exporter}, and this is Paddle 2\.6\.2, [^\n]*: install paddlepaddle 3"
    )
    with pytest.raises(DeployError, match=message):
        Detector(folder, backend)


class Failing:
    """A predictor of Paddle 3 for a graph of Paddle 2 in bf16."""

    def run(self):
        raise RuntimeError("C++ Traceback\n  [operator < elementwise_add > error]")


@pytest.mark.parametrize(("graph", "what"), [("model.pdmodel", "this graph of Paddle 2"), ("model.json", "this graph")])
def test_a_graph_that_cannot_be_computed_in_bf16(tmp_path, monkeypatch, graph, what):
    backend = load_backend(write_toy(tmp_path), "paddle", Options(threads=1))
    written = next(path for path in tmp_path.iterdir() if path.name in ("model.json", "model.pdmodel"))
    written.rename(tmp_path / graph)
    monkeypatch.setattr(backend, "options", Options(precision="bf16"))
    monkeypatch.setattr(backend, "predictor", Failing())
    monkeypatch.setattr(paddle, "__version__", "3.3.1")
    with pytest.raises(DeployError, match=rf"Paddle 3\.3\.1 cannot compute {what} in bf16: [^\n]*use precision fp32"):
        backend.run({})


def test_the_version_that_exported_is_written(tmp_path):
    from noise import noisy, write_padded

    import ppdet
    from ppdet.engine.export.graph import export_model

    folder = export_model(noisy(write_padded(tmp_path, images=1)), tmp_path / "exported")
    settings = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    assert settings["versions"] == {"ppdet": ppdet.__version__, "paddle": paddle.__version__}
    assert settings["stride"] == 32
