"""Two runs that have to do with each other: one trains while the other is prepared, or moves what that started from."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from paddle import nn
from small_runs import contents, names, run, save, trainer

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_sealed, remove, write_sealed
from ppdet.engine.checkpoints.weights import CheckpointError, load_weights
from ppdet.engine.runs.earlier_run import cleared_bytes
from ppdet.engine.runs.run_config import start_weights
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.runs.run_start import RunError, announce, begun, find_checkpoint, require_no_other
from ppdet.utils.disk.download import MissingFileError
from ppdet.utils.disk.lock import LockedError
from ppdet.utils.process.stop import Stopped

pytestmark = pytest.mark.filterwarnings("ignore:The input state dict is empty")
WHOLE = (".pdparams", ".pdopt", "0.json", "1.json", ".jsonl", ".jpg")
AGAIN = "was changed by another run since this one was started: run the same command again"


def started(*options, resume):
    """A trainer that has looked for its start, as the real one does before it reads data."""
    one = trainer(*options)
    one.resume, one.resumed_from = resume, find_checkpoint(one.folder, resume)
    return one


@pytest.mark.parametrize("resume", ["auto", "output/run/0"])
def test_a_run_that_trained_meanwhile_is_not_written_over(here, resume):
    run(saves=[("0", 4)])
    late = started(resume=resume)
    with begun(started(resume="auto")) as _:
        pass
    goes_on = started(resume="auto")
    with begun(goes_on):
        save(goes_on.folder, "model_final", 8)
    before = contents("output")
    with pytest.raises(RunError, match=f"^output/run {AGAIN}$"), begun(late):
        pass
    assert contents("output") == before
    again = started(resume="auto")
    assert again.resumed_from == Path("output/run/model_final")
    with begun(again):
        assert again.folder.id == goes_on.folder.id


def test_auto_before_the_first_run_and_another_was_first(here):
    late = started(resume="auto")
    run()
    before = contents("output")
    with pytest.raises(RunError, match=f"^output/run {AGAIN}$"), begun(late):
        pass
    assert contents("output") == before


def test_a_checkpoint_that_goes_while_the_run_is_prepared(here):
    run(saves=[("0", 4), ("1", 8)])
    late, unseen = started(resume="output/run/0"), trainer(resume="output/run/0")
    remove(Path("output/run/0"))
    before = contents("output")
    with pytest.raises(RunError, match=f"^output/run {AGAIN}$"), begun(late):
        pass
    with pytest.raises(RunError, match=r"^output/run/0 has gone since this run was started: "), begun(unseen):
        pass
    assert contents("output") == before and names() == {"run"}


def test_another_runs_checkpoint_that_is_replaced_while_the_run_is_prepared(here):
    run("run_name=a", saves=[("0", 4)])
    late = started("run_name=b", resume="output/a/0")
    run("run_name=a", saves=[("0", 5)])
    with pytest.raises(RunError, match=f"^output/a/0 {AGAIN}$"), begun(late):
        pass
    assert names() == {"a", "a.1"}


def killed_before_its_first_checkpoint():
    """Run b, which goes on from a's checkpoint 0."""
    run("run_name=a", saves=[("0", 4)])
    with begun(started("run_name=b", resume="output/a/0")):
        pass


def test_auto_finds_the_checkpoint_where_it_was_moved(here, log):
    killed_before_its_first_checkpoint()
    for iteration in (5, 6):
        run("run_name=a", saves=[("0", iteration)])
    found = started("run_name=b", resume="auto")
    assert found.resumed_from == Path("output/a.1/0").absolute()
    assert read_sealed(Path(f"{found.resumed_from}.json"))["state"]["iteration"] == 4
    assert f"/output/a/0, which the run went on from, is {here}/output/a.1/0 now" in log.text
    with begun(found):
        pass
    assert read_sealed(Path("output/b/run.json"))["resumed_from"] == str(here / "output/a.1/0")


def test_auto_finds_the_checkpoint_under_another_name(here):
    run("run_name=a", saves=[("model_final", 4)])
    with begun(started("run_name=b", resume="output/a/model_final")):
        pass
    run("run_name=a", resume="auto", saves=[("model_final", 8)])
    assert started("run_name=b", resume="auto").resumed_from == Path("output/a/snapshot_4").absolute()


def test_auto_takes_no_other_checkpoint_of_that_name(here):
    killed_before_its_first_checkpoint()
    run("run_name=a", saves=[("0", 5)], overwrite=True)
    with pytest.raises(CheckpointError, match=r"output/b/run\.json: the run there went on from .*/output/a/0, has no"):
        started("run_name=b", resume="auto")


def test_a_run_json_of_before_names_the_checkpoint_alone(here):
    killed_before_its_first_checkpoint()
    content = read_sealed(Path("output/b/run.json"))
    assert content.pop("resumed_files")
    write_sealed(Path("output/b/run.json"), content)
    assert RunFolder(Path("output/b"), keep_every=1).newest() == here / "output/a/0"


def test_auto_starts_again_from_the_weights_of_the_same_run(here):
    option = "pretrain_weights=output/a/best_model"
    run("run_name=a")
    assert start_weights(trainer("run_name=b", option)) == "output/a/best_model"
    with begun(trainer("run_name=b", option)):
        pass
    run("run_name=a", resume="auto")
    assert start_weights(trainer("run_name=b", option, resume="auto")) == "output/a/best_model", "the same run's"
    run("run_name=a")
    for _ in range(2):
        again = trainer("run_name=b", option, resume="auto")
        assert start_weights(again) == "output/a.1/best_model"
        with begun(again):
            assert load_config("output/b/config.yml")["pretrain_weights"] == "output/a.1/best_model"
    other = trainer("run_name=b", "pretrain_weights=output/a/0", resume="auto")
    assert start_weights(other) == "output/a/0", "what the user asks for now"
    shutil.rmtree("output/a.1")
    with pytest.raises(CheckpointError, match=r"^pretrain_weights: output/a/best_model is another run's now than outp"):
        start_weights(trainer("run_name=b", option, resume="auto"))
    assert start_weights(trainer("run_name=b", option)) == "output/a/best_model", "a run of its own"
    with begun(trainer("run_name=b", option)):
        pass
    assert start_weights(trainer("run_name=b", option, resume="auto")) == "output/a/best_model"


@pytest.mark.parametrize("link", ["real", "{here}/output/real", "between"])
def test_a_link_to_the_folder_of_a_run_that_trains(here, link):
    run("run_name=real")
    Path("output/between").symlink_to("real")
    Path("output/run").symlink_to(link.format(here=here))
    before = contents("output/real")
    for first, second in (("run", "real"), ("real", "run")):
        with begun(trainer(f"run_name={first}", resume="auto")):
            message = rf"^output/{second}(, a link to {here}/output/real)?: a training run: process \d+ on .* --name$"
            with pytest.raises(LockedError, match=message):
                require_no_other(load_config("run.yml", [f"run_name={second}"]))
            with pytest.raises(RunError, match=message), begun(trainer(f"run_name={second}")):
                pass
        assert contents("output/real").items() >= {k: before[k] for k in before if k.endswith(WHOLE)}.items()
    assert names() == {"run", "real", "between"}


def test_a_moved_link_still_keeps_others_out(here):
    """The name is a folder of its own then, and what the link led to is the earlier run's."""
    run("run_name=real")
    Path("output/run").symlink_to("real")
    with begun(trainer()):
        assert not Path("output/run").is_symlink() and Path("output/run.1").is_symlink()
        for name in ("run", "real"):
            with pytest.raises(LockedError):
                require_no_other(load_config("run.yml", [f"run_name={name}"]))


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_signal_while_folders_are_renamed(here, monkeypatch, moment):
    """What a signal raises may come up in front of, between and after the two names' changes."""
    run()
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(target.name)
        if moment == "before" and len(calls) == 1:
            raise Stopped(15)
        found = rename(self, target)
        if calls == (["run.1"] if moment == "between" else ["run.1", "run"]):
            raise Stopped(15)
        return found

    before = contents("output/run")
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(Stopped):
        run()
    assert Path("output/run").is_dir() and names() == ({"run", "run.1"} if moment == "after" else {"run"})
    assert contents("output/run.1" if moment == "after" else "output/run") == before


def test_a_real_signal_waits_until_both_are_renamed(here, monkeypatch):
    first, rename = run(), Path.rename
    before, taken = contents("output/run"), []

    def slow(self, target):
        found = rename(self, target)
        if target.name == "run.1":
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return found

    monkeypatch.setattr(Path, "rename", slow)
    earlier = signal.signal(signal.SIGTERM, lambda *_: taken.append(names()))
    try:
        second = run()
    finally:
        signal.signal(signal.SIGTERM, earlier)
    assert taken == [{"run", "run.1"} | {".run.lock"}] and contents("output/run.1") == before
    assert second.folder.id != first.folder.id


def test_weights_of_a_run_that_was_moved_aside_are_named(here):
    for count in range(3):
        run(saves=[("0", 4)])
        if count == 1:
            Path("output/run/best_model.pdparams").unlink()
    Path("output/run/best_model.pdparams").unlink()
    model, expected = nn.Linear(1, 1), "output/run.1/best_model, where a newer run has moved it?"
    for name, found in (("best_model", expected), ("best_model.pdparams", expected.replace("del,", "del.pdparams,"))):
        with pytest.raises(MissingFileError) as error:
            load_weights(model, f"output/run/{name}", strict=False)
        assert str(error.value).startswith(f"output/run/{name}: no such file, ")
        assert str(error.value).endswith(f"; did you mean {found}")
    with pytest.raises(MissingFileError) as error:
        load_weights(model, "output/run/model_final", strict=False)
    assert "did you mean" not in str(error.value)


def test_a_dry_run_says_what_the_run_does(here):
    Path("output/run").mkdir(parents=True)
    Path("output/run/my.pdparams").write_text("precious")
    assert announce(trainer(overwrite=True)) == "moves the earlier run to output/run.1"
    assert cleared_bytes(trainer(overwrite=True)) == 0
    run(overwrite=True)
    assert names() == {"run", "run.1"}, "as it was said"
    sizes = sum(len(content) for content in contents("output/run").values())
    assert announce(trainer(overwrite=True)) == "clears the earlier run"
    assert cleared_bytes(trainer(overwrite=True)) == sizes
    assert cleared_bytes(trainer()) == cleared_bytes(trainer(resume="auto")) == 0
    os.link("output/run/0.pdparams", "elsewhere")
    freed = cleared_bytes(trainer(overwrite=True))
    assert freed == sizes - Path("elsewhere").stat().st_size, "the room of a file that has another name stays taken"
    with begun(trainer("run_name=other")):
        assert announce(trainer("run_name=other")).startswith(
            "the run would be refused: output/other: a training run: "
        )
    refused = announce(trainer("pretrain_weights=output/run/best_model", overwrite=True))
    assert refused.startswith(
        "the run would be refused: pretrain_weights: best_model is in the folder that --overwrite"
    )
    refused = announce(trainer("TrainDataset.dataset_dir=output/run"))
    assert refused.startswith("the run would be refused: output/run has an earlier run and the images of TrainDataset")
