"""A checkpoint named without its folder."""

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_trained_model
from ppdet.engine.checkpoints.manifest import resolve_checkpoint
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.utils.disk.download import DownloadError
from ppdet.utils.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder with the checkpoints 0, 3 and model_final, and the weights of the best epoch."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "output" / "tiny"
    folder.mkdir(parents=True)
    for name in ("0", "3", "model_final"):
        for suffix in (".json", ".pdopt", ".pdparams"):
            (folder / f"{name}{suffix}").write_text("{}")
    for name in ("best_model.json", "best_model.pdparams", "run.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_bare_epoch(folder):
    for name in ("0", "0.pdparams", "3", "model_final", "elsewhere/0"):
        with pytest.raises(CheckpointError) as error:
            resolve_checkpoint(name, folder)
        own = folder / name.rpartition("/")[2].removesuffix(".pdparams")
        assert str(error.value) == f"{name}: no such checkpoint; did you mean {own}?"


def test_one_that_is_not_there(folder):
    for name in ("7", f"{folder}/7", str(folder)):
        with pytest.raises(
            CheckpointError, match=r"no such checkpoint; \S+ has 0, 3, model_final: name one, such as \S+/m"
        ):
            resolve_checkpoint(name, folder)
    assert resolve_checkpoint(f"{folder}/3.pdopt", folder) == folder / "3"
    assert resolve_checkpoint("other/7", folder / "none").name == "7", "said by whoever reads it"


def test_weights_of_the_run(folder, tiny):
    for name in ("model_final", "best_model", "3.pdparams"):
        with pytest.raises(DownloadError, match=rf"no such file, nor .*; did you mean {folder}/{name}\?$"):
            build_trained_model(load_config(tiny, [f"weights={name}", f"save_dir={folder.parent}"]))
    with pytest.raises(DownloadError) as error:
        build_trained_model(load_config(tiny, ["weights=other", f"save_dir={folder.parent}"]))
    assert "did you mean" not in str(error.value)


def test_advice_names_the_folder_of_the_config_that_was_named(folder, tiny):
    """A run that was moved aside, and one whose save_dir is another: not the newest run of the name in `output`."""
    aside = folder.parent / "tiny.1"
    folder.rename(aside)
    load_config(tiny, ["run_name=tiny"]).dump(aside / "config.yml")
    own = (f"{aside}/config.yml", [], aside)
    for path, options, place in (own, (tiny, ["save_dir=runs"], "runs/tiny"), (tiny, ["run_name=a"], "output/a")):
        with pytest.raises(ConfigError) as error:
            build_trained_model(load_config(path, ["save_dir=output", *options]))
        advice = f"add -o weights={place}/model_final, or name the run's folder, {place}, in place of -c"
        assert str(error.value) == f"{path}: weights is not set: {advice}"
    with pytest.raises(DownloadError, match=rf"did you mean {aside}/best_model\?$"):
        build_trained_model(load_config(f"{aside}/config.yml", ["weights=best_model"]))
