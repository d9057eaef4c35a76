"""Two runs that interact: one trains while the other starts, or moves what the other started from."""

import os
import signal
import threading
from pathlib import Path

import pytest
from small_runs import contents, names, run, save, start_point

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_sealed, remove_checkpoint, write_sealed
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.runs.earlier_run import deleted_bytes
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.runs.run_start import RunError, begin_run, preview, require_no_other
from ppdet.engine.runs.start_point import StartPoint
from ppdet.utils.disk.lock import LockedError
from ppdet.utils.process.stop import Stopped

pytestmark = pytest.mark.filterwarnings("ignore:The input state dict is empty")
WHOLE = (".pdparams", ".pdopt", "0.json", "1.json", ".jsonl", ".jpg")
AGAIN = "was changed by another run since this one was started: run the same command again"


def started(*options, resume):
    """A run that has looked for its start, as a trainer does before it reads data."""
    return StartPoint.find(load_config("run.yml", options), resume=resume)


@pytest.mark.parametrize("resume", ["auto", "output/run/0"])
def test_a_run_that_trained_meanwhile_is_not_written_over(here, resume):
    run(saves=[("0", 4)])
    late = started(resume=resume)
    with begin_run(started(resume="auto")) as _:
        pass
    goes_on = started(resume="auto")
    with begin_run(goes_on):
        save(goes_on.folder, "model_final", 8)
    before = contents("output")
    with pytest.raises(RunError, match=f"^output/run {AGAIN}$"), begin_run(late):
        pass
    assert contents("output") == before
    again = started(resume="auto")
    assert again.resumed_from == Path("output/run/model_final")
    with begin_run(again):
        assert again.folder.id == goes_on.folder.id


def test_auto_before_the_first_run_and_another_was_first(here):
    late = started(resume="auto")
    run()
    before = contents("output")
    with pytest.raises(RunError, match=f"^output/run {AGAIN}$"), begin_run(late):
        pass
    assert contents("output") == before


def test_a_checkpoint_that_goes_while_the_run_is_prepared(here):
    run(saves=[("0", 4), ("1", 8)])
    late, unseen = started(resume="output/run/0"), start_point(resume="output/run/0")
    remove_checkpoint(Path("output/run/0"))
    before = contents("output")
    with pytest.raises(RunError, match=f"^output/run {AGAIN}$"), begin_run(late):
        pass
    with pytest.raises(RunError, match=r"^output/run/0 has gone since this run was started: "), begin_run(unseen):
        pass
    assert contents("output") == before and names() == {"run"}


def test_another_runs_checkpoint_that_is_replaced_while_the_run_is_prepared(here):
    run("run_name=a", saves=[("0", 4)])
    late = started("run_name=b", resume="output/a/0")
    run("run_name=a", saves=[("0", 5)])
    with pytest.raises(RunError, match=f"^output/a/0 {AGAIN}$"), begin_run(late):
        pass
    assert names() == {"a", "a.1"}


def killed_before_its_first_checkpoint():
    """Run b, which continues from a's checkpoint 0."""
    run("run_name=a", saves=[("0", 4)])
    with begin_run(started("run_name=b", resume="output/a/0")):
        pass


@pytest.mark.parametrize("overwrite", [False, True])
def test_auto_takes_no_other_checkpoint_of_that_name(here, overwrite):
    killed_before_its_first_checkpoint()
    run("run_name=a", saves=[("0", 5)], overwrite=overwrite)
    message = (
        r"output/b/run\.json: this run was resumed from .*/output/a/0, which is gone or was replaced, and it has no"
    )
    with pytest.raises(CheckpointError, match=message):
        started("run_name=b", resume="auto")


def test_a_run_json_of_before_names_the_checkpoint_alone(here):
    killed_before_its_first_checkpoint()
    content = read_sealed(Path("output/b/run.json"))
    assert content.pop("resumed_files")
    write_sealed(Path("output/b/run.json"), content)
    assert RunFolder(Path("output/b"), keep_every=1).newest() == here / "output/a/0"


@pytest.mark.parametrize("link", ["real", "{here}/output/real", "between"])
def test_a_link_to_the_folder_of_a_run_that_trains(here, link):
    run("run_name=real")
    Path("output/between").symlink_to("real")
    Path("output/run").symlink_to(link.format(here=here))
    before = contents("output/real")
    for first, second in (("run", "real"), ("real", "run")):
        with begin_run(start_point(f"run_name={first}", resume="auto")):
            message = rf"^({here}/)?output/real: a training run: process \d+ on .* --name$"
            with pytest.raises(LockedError, match=message):
                require_no_other(load_config("run.yml", [f"run_name={second}"]))
            with pytest.raises(RunError, match=message), begin_run(start_point(f"run_name={second}")):
                pass
        assert contents("output/real").items() >= {k: before[k] for k in before if k.endswith(WHOLE)}.items()
    assert names() == {"run", "real", "between"}


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


def test_a_dry_run_says_what_the_run_does(here):
    Path("output/run").mkdir(parents=True)
    Path("output/run/my.pdparams").write_text("precious")
    assert preview(start_point(overwrite=True)) == "moves the earlier run to output/run.1"
    assert deleted_bytes(start_point(overwrite=True)) == 0
    run(overwrite=True)
    assert names() == {"run", "run.1"}, "as it was said"
    sizes = sum(len(content) for content in contents("output/run").values())
    assert preview(start_point(overwrite=True)) == "clears the earlier run"
    assert deleted_bytes(start_point(overwrite=True)) == sizes
    assert deleted_bytes(start_point()) == deleted_bytes(start_point(resume="auto")) == 0
    os.link("output/run/0.pdparams", "elsewhere")
    freed = deleted_bytes(start_point(overwrite=True))
    assert freed == sizes - Path("elsewhere").stat().st_size, "the room of a file that has another name stays taken"
    with begin_run(start_point("run_name=other")):
        assert preview(start_point("run_name=other")).startswith(
            "the run would be refused: output/other: a training run: "
        )
    refused = preview(start_point("pretrain_weights=output/run/best_model", overwrite=True))
    assert refused.startswith(
        "the run would be refused: pretrain_weights: best_model is in the folder that --overwrite"
    )
    refused = preview(start_point("TrainDataset.dataset_dir=output/run"))
    assert refused.startswith("the run would be refused: output/run has an earlier run and the images of TrainDataset")
