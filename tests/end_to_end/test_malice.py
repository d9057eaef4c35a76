"""Weights from a stranger that try to run something: every tool refuses them in one line, and nothing runs."""

import paddle
import pytest
from attacks import attacks
from commands import call, run
from tiny import TINY_YAML, write_tiny_coco

from ppdet.engine.checkpoints.manifest import fingerprint, read_sealed, read_verified, write_sealed
from ppdet.engine.runs.run_folder import RunFolder


@pytest.fixture
def tiny_file(tmp_path):
    write_tiny_coco(tmp_path / "data")
    (tmp_path / "tiny.yml").write_text(TINY_YAML.format(output=tmp_path / "output", data=tmp_path / "data"))
    return tmp_path / "tiny.yml"


def refused(path, *command, execute=call):
    printed = execute(*command, code=2)
    assert "Traceback" not in printed, printed[-3000:]
    last = printed.strip().splitlines()[-1]
    assert last.startswith(f"error: {path}: "), last
    assert not (path.parent / "ran").exists()
    return last


@pytest.mark.parametrize("way", ["os.system", "eval", "np.savetxt", "objects in an array", "text"])
def test_evaluation(tiny_file, tmp_path, way):
    path = tmp_path / "evil.pdparams"
    path.write_bytes(attacks(tmp_path / "ran")[way])
    line = refused(path, "tools/eval.py", "-c", tiny_file, "-o", f"weights={tmp_path}/evil")
    assert "refused: it " in line


def test_start_of_training(tiny_file, tmp_path):
    path = tmp_path / "evil.pdparams"
    path.write_bytes(attacks(tmp_path / "ran")["exec"])
    refused(path, "tools/train.py", "-c", tiny_file, "-o", f"pretrain_weights={path}", execute=run)


def test_resuming(tiny_file, tmp_path):
    """A whole checkpoint, whose manifest agrees with a malicious optimizer state."""
    from ppdet.core.workspace import load_config
    from ppdet.engine.trainer import Trainer

    trainer = Trainer(load_config(str(tiny_file)))
    folder = RunFolder(tmp_path, keep_every=1)
    folder.begin(None, go_on=False)
    prefix = folder.save("evil", trainer.state(0, 0), trainer.model, trainer.optimizer, None)
    path = tmp_path / "evil.pdopt"
    path.write_bytes(attacks(tmp_path / "ran")["os.system"])
    manifest = read_sealed(tmp_path / "evil.json")
    manifest["files"][".pdopt"] = fingerprint(path)
    write_sealed(tmp_path / "evil.json", manifest)
    read_verified(prefix)
    assert "refused" in refused(path, "tools/train.py", "-c", tiny_file, "-r", tmp_path / "evil")
    # The same file without a manifest.
    (tmp_path / "evil.json").unlink()
    printed = call("tools/train.py", "-c", tiny_file, "-r", tmp_path / "evil", code=2)
    assert "only checkpoints that a training run wrote can be resumed" in printed
    assert not (tmp_path / "ran").exists()


def test_the_file_is_one_that_paddle_would_run(tmp_path):
    """Paddle's own loader would execute the attack."""
    path = tmp_path / "evil.pdparams"
    path.write_bytes(attacks(tmp_path / "ran")["os.system"])
    try:
        paddle.load(str(path))
    except Exception as error:
        pytest.skip(f"this Paddle refuses it, too: {error}")
    assert (tmp_path / "ran").exists()
