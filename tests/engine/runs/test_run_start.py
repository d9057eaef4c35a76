"""What happens to the content of a run's folder before the run starts, and what the run writes there."""

import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import contents, names, run, save, start_point

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_sealed
from ppdet.engine.runs.earlier_run import next_name
from ppdet.engine.runs.run_config import MAX_CHANGES, changes
from ppdet.engine.runs.run_start import RunError, begin_run, preview, require_no_other
from ppdet.utils.disk.lock import LockedError, locked
from ppdet.utils.process.stop import Stopped

pytestmark = pytest.mark.filterwarnings("ignore:The input state dict is empty")
ROOT = Path(__file__).resolve().parents[3]


def test_a_new_run_moves_the_earlier_one_aside_whole(here, log):
    first = run()
    before = contents("output/run")
    log.clear()
    second = run()
    assert contents("output/run.1") == before
    assert [r.getMessage() for r in log.records if "earlier" in r.getMessage()] == [
        "output/run had an earlier run, which is now output/run.1"
    ]
    assert second.folder.id != first.folder.id and contents("output/run")["pictures/a.jpg"] == second.folder.id.encode()
    between = contents("output/run")
    run()
    assert contents("output/run.2") == between and contents("output/run.1") == before
    assert names() == {"run", "run.1", "run.2"}, "no lock, nothing temporary is left"
    assert os.stat("output/run").st_mode == os.stat("output").st_mode


def test_the_next_name_is_after_the_highest(here):
    for name in ("run.2", "run.10", "run.x", "run.1.5", "run.²", "runs.99", "run"):
        Path("output", name).mkdir(parents=True)
    Path("output/run.11").write_text("a file")
    assert next_name(Path("output/run")) == Path("output/run.12")


def test_auto_goes_on_in_place(here):
    first = run()
    again = run(resume="auto")
    assert again.resumed_from == Path("output/run/1") and again.folder.id == first.folder.id
    assert names() == {"run"}


def test_auto_begins_again_in_place_where_nothing_is_lost(here):
    first = run(saves=())
    assert run(resume="auto", saves=()).folder.id == first.folder.id and names() == {"run"}


@pytest.mark.parametrize(
    ("left", "moved"),
    [
        (["0.pdparams", "0.pdopt"], False),  # it was killed before the manifest was written
        (["0.trained.safetensors", "0.safetensors"], False),
        (["0.pdparams", "0.pdopt", "0.json"], True),  # the manifest is damaged, the weights may not be
        (["best_model.pdparams"], True),
    ],
)
def test_auto_begins_again_over_half_a_checkpoint(here, left, moved):
    run(saves=())
    Path("output/run/best_model.pdparams").unlink(missing_ok=True)
    for name in left:
        Path("output/run", name).write_text("half")
    run(resume="auto", saves=())
    assert names() == ({"run", "run.1"} if moved else {"run"})


def test_auto_destroys_no_run_that_it_cannot_go_on_with(here):
    run()
    for path in Path("output/run").glob("*.json"):
        path.unlink()
    before = contents("output/run")
    run(resume="auto")
    assert contents("output/run.1") == before


@pytest.mark.parametrize("made", [(), ("train.log", "config.yml", "run.json", "train_batch.jpg", "notes.txt")])
def test_a_folder_without_weights_and_history_is_no_run(here, made):
    for name in made:
        Path("output/run").mkdir(parents=True, exist_ok=True)
        Path("output/run", name).write_text(f"what is in {name}\n")
    run(saves=())
    assert names() == {"run"} and names("output/run") >= set(made)
    if made:
        assert Path("output/run/train.log").read_text().startswith("what is in train.log\n\n==== ")


@pytest.mark.parametrize("name", ["model_final.pdparams", "3.safetensors", "3.pdema", "3.pdopt", "history.jsonl"])
def test_weights_or_a_history_are_a_run(here, name):
    Path("output/run").mkdir(parents=True)
    Path("output/run", name).write_text("precious")
    run()
    assert contents("output/run.1") == {name: b"precious"}


def test_the_last_checkpoint_goes_on_in_place(here):
    first = run()
    assert run(resume="output/run/1", saves=()).folder.id != first.folder.id
    assert names() == {"run"}
    again = start_point(resume="auto")
    assert again.resumed_from == Path("output/run/1"), "killed before its first checkpoint, it starts there once more"


@pytest.mark.parametrize("spelling", ["output/run/1", "{here}/output/run/1", "output/../output/run/1"])
def test_going_back_keeps_what_came_after(here, log, spelling):
    run(saves=[("0", 4), ("1", 8), ("2", 12), ("model_final", 16)])
    before = contents("output/run")
    log.clear()
    again = run("epoch=9", resume=spelling.format(here=here), saves=[("2", 13)])
    assert f"output/run goes back to {again.resumed_from}: the whole earlier run is now output/run.1" in log.text
    assert "config.yml changes: epoch: 2, now 9" in log.text
    assert contents("output/run.1") == before
    after = contents("output/run")
    for name in ("0", "1"):
        for suffix in (".pdparams", ".pdopt", ".json"):
            assert after[name + suffix] == before[name + suffix]
    assert "model_final.pdparams" not in after and after["2.pdparams"] != before["2.pdparams"]
    text = after["train.log"].decode()
    assert text.startswith(before["train.log"].decode()) and f"continues from {again.resumed_from}: " in text
    assert Path("output/run/1").with_suffix(".pdparams").samefile("output/run.1/1.pdparams"), "takes no room"


def test_going_back_takes_the_best_weights_along_if_they_are_of_then(here):
    run(saves=[("0", 4), ("1", 8)])
    with begin_run(start_point(resume="output/run/0")):
        assert not Path("output/run/best_model.pdparams").exists(), "an AP of 0.8 is not that of epoch 1"
    one = run(saves=[("0", 9)])
    save(one.folder, "1", 10, ap=0.9)
    with begin_run(start_point(resume="output/run/0")):
        assert Path("output/run/best_model.pdparams").read_text() == "best up to 9"


def test_going_back_leaves_later_zeros_behind(here):
    """Of evaluations that found nothing, the latest is the best one."""
    one = run(saves=[("0", 4)])
    for number in (1, 2):
        save(one.folder, str(number - 1), 4 * number, ap=0.0, history=[[epoch + 1, 0.0] for epoch in range(number)])
    with begin_run(start_point(resume="output/run/0")):
        assert not Path("output/run/best_model.pdparams").exists()


def test_a_checkpoint_of_another_run_begins_anew(here):
    run("run_name=other")
    run()
    before = contents("output/run")
    again = run(resume="output/other/0")
    assert contents("output/run.1") == before and again.resumed_from == Path("output/other/0")
    assert names() == {"other", "run", "run.1"}


def test_overwrite_clears(here, log):
    run()
    Path("output/run/old.txt").write_text("")
    run(overwrite=True)
    assert names() == {"run"} and "old.txt" not in names("output/run")
    assert "output/run: the earlier run was removed (--overwrite)" in log.text


def test_overwrite_removes_no_folder_that_no_run_of_ours_made(here):
    Path("output/run").mkdir(parents=True)
    Path("output/run/my.pdparams").write_text("precious")
    run(overwrite=True)
    assert contents("output/run.1") == {"my.pdparams": b"precious"}


def test_weights_in_the_folder_are_found_where_they_went(here):
    run()
    option = "pretrain_weights=output/run/best_model"
    second = run(option, saves=())
    moved = load_config("output/run/config.yml")["pretrain_weights"]
    assert moved == "output/run.1/best_model" and Path(f"{moved}.pdparams").is_file()
    # It is killed before its first checkpoint; the same command starts it once more.
    again = start_point(option, resume="auto")
    assert again.folder.id == second.folder.id and again.start_weights() == moved
    with begin_run(again):
        assert load_config("output/run/config.yml")["pretrain_weights"] == moved
    elsewhere = start_point("pretrain_weights=elsewhere", resume="auto")
    assert elsewhere.start_weights() == "elsewhere"
    with begin_run(elsewhere):
        assert load_config("output/run/config.yml")["pretrain_weights"] == "elsewhere"
    run()
    with pytest.raises(RunError, match="pretrain_weights: best_model is in the folder that --overwrite clears"):
        run(option, overwrite=True)
    assert Path("output/run/best_model.pdparams").is_file()


def test_config_yml_loads_to_the_same(here):
    options = ["run_name=mine", "epoch=7", "ResNet.depth=34", "TrainReader.sample_transforms.2.prob=0.25"]
    one = run(*options)
    read = load_config("output/mine/config.yml")
    of_the_machine = {"use_gpu": False}
    assert read.name == "mine" and {**dict(read), **of_the_machine} == dict(one.cfg)
    assert {**read.to_dict(), **of_the_machine} == one.cfg.to_dict()
    Path("moved").mkdir()
    run("save_dir=moved")
    assert load_config("moved/run/config.yml").name == "run", "not config"


def test_no_file_of_a_run_has_a_password(here, log, monkeypatch):
    url = "https://me:secret@host/a.pdparams?sig=secret"
    monkeypatch.setattr(sys, "argv", ["ppdet", "train", "-o", f"pretrain_weights={url}"])
    start = run(f"pretrain_weights={url}")
    assert start.start_weights() == start.cfg["pretrain_weights"] == url
    assert load_config("output/run/config.yml")["pretrain_weights"] == "https://***@host/a.pdparams?***"
    assert "pretrain_weights=https://***@host/a.pdparams?***" in Path("output/run/train.log").read_text()
    assert not any(b"secret" in path.read_bytes() for path in Path("output/run").rglob("*") if path.is_file())
    run(f"pretrain_weights={url}", resume="auto")
    assert "changes" not in log.text


def test_a_run_goes_on_on_another_device_without_a_word(here, log):
    """Also where its config.yml has the device of an earlier version."""
    run("device=cpu", "use_npu=true")
    path = Path("output/run/config.yml")
    assert not any(load_config(path).is_set(key) for key in ("device", "use_gpu", "use_npu"))
    path.write_text(path.read_text() + "device: gpu:1\nuse_xpu: true\n")
    log.clear()
    assert run(resume="auto").cfg["use_gpu"] is False
    run("device=gpu:3", resume="auto")
    assert "changes" not in log.text and not [r for r in log.records if r.levelname == "WARNING"]
    assert not any(load_config(path).is_set(key) for key in ("device", "use_gpu", "use_npu", "use_xpu"))


def test_what_changes_when_a_run_goes_on_is_told(here, log):
    run("epoch=7")
    log.clear()
    run("epoch=7", resume="auto")
    assert "changes" not in log.text
    run("epoch=9", "ResNet.depth=34", "TrainReader.batch_transforms.0.pad_to_stride=64", resume="auto")
    line = "output/run/config.yml changes: epoch: 7, now 9; ResNet.depth: 18, now 34; "
    line += "TrainReader.batch_transforms.0.PadBatch.pad_to_stride: 32, now 64"
    assert line in log.text and line in Path("output/run/train.log").read_text()
    Path("output/run/config.yml").write_text("a: [")
    run(resume="auto")
    assert "output/run/config.yml was damaged, and is written again: output/run/config.yml:1:5: YAML" in log.text
    assert load_config("output/run/config.yml").name == "run"


def test_changes():
    assert changes({"a": {}, "b": [1, 2], "c": {"d": None}}, {"a": {}, "b": [1], "e": [{"f": 0}]}) == [
        "b: [1, 2], now [1]",
        "c.d: None, now unset",
        "e.0.f: unset, now 0",
    ]
    many = changes({"0": 0}, {"0": 0} | {str(number): number for number in range(MAX_CHANGES + 4)})
    assert many[-2:] == [f"{MAX_CHANGES}: unset, now {MAX_CHANGES}", "3 more"] and len(many) == MAX_CHANGES + 1


def test_the_last_checkpoint_keeps_its_weights_when_the_run_goes_on(here):
    run(saves=[("model_final", 8)])
    before = contents("output/run")
    run(resume="output/run/model_final", saves=[("model_final", 16)])
    after = contents("output/run")
    assert names() == {"run"} and after["snapshot_8.pdparams"] == before["model_final.pdparams"]
    assert after["model_final.pdparams"] != before["model_final.pdparams"]


def test_a_command_in_the_folder_itself(here, monkeypatch):
    """Data sets without a folder of their own are no reason to refuse."""
    data = [f"{slot}.dataset_dir={here}/data" for slot in ("TrainDataset", "EvalDataset")]
    data += ["TestDataset={anno_path: names.txt, dataset_dir: null}"]
    run(*data)
    monkeypatch.chdir("output/run")
    (here / "run.yml").rename("run.yml")
    run("save_dir=..", *data)
    assert names(here / "output") == {"run", "run.1"}


def test_train_log(here, capsys):
    with begin_run(start_point("run_name=other")):
        pass
    logging.getLogger("ppdet").warning("before the folder existed")
    with pytest.raises(ZeroDivisionError), begin_run(start_point()):
        logging.getLogger("ppdet.a").info("first")
        raise ZeroDivisionError("a defect")
    with pytest.raises(RunError), begin_run(start_point(resume="auto")):
        raise RunError("a\nmistake")
    with pytest.raises(KeyboardInterrupt), begin_run(start_point(resume="auto")):
        raise KeyboardInterrupt
    with pytest.raises(Stopped), begin_run(start_point(resume="auto")):
        raise Stopped(15)
    run()
    with begin_run(start_point(resume="output/run/1")):
        logging.getLogger("ppdet.a").info("last")
    text = Path("output/run/train.log").read_text()
    command = re.escape(shlex.join(sys.argv))
    start = rf"(?m)^==== \d{{4}}-\d\d-\d\d [\d:]{{8}} (.*): {command} \(process {os.getpid()} on .*\)$"
    text = re.sub(r"(?m)^  File.*\n.*\n", "", re.sub(start, r"==== \1", text))
    assert re.sub(r"(?m)^\[[\d :-]{19}\] | of [0-9a-f]{32}$", "", text).splitlines() == [
        "==== begins",
        "[WARNING] before the folder existed",
        "[INFO] first",
        "==== Traceback (most recent call last):",
        "ZeroDivisionError: a defect",
        "",
        "==== begins",
        "==== error: a mistake",
        "",
        "==== begins",
        "==== interrupted",
        "",
        "==== begins",
        "==== ended with exit code 143",
        "",
        "==== begins",
        "[INFO]",
        "",
        "==== continues from output/run/1",
        "[INFO] last",
    ]
    shown = [line for line in capsys.readouterr().err.splitlines() if line]
    assert shown == [line for line in Path("output/run/train.log").read_text().splitlines() if line.startswith("[")]


def test_another_process_is_told_apart(here):
    run()
    before = contents("output")
    code = "import sys, time; from pathlib import Path; from ppdet.utils.disk.lock import locked\n"
    code += "with locked(Path('output/.run.lock'), what='', advice=''): print('x', flush=True); time.sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        other.stdout.readline()
        message = rf"^output/run: a training run: process {other.pid} on .* is at work there: .* --name$"
        with pytest.raises(RunError, match=message):
            run()
        with pytest.raises(LockedError, match=message):
            require_no_other(load_config("run.yml"))
        require_no_other(load_config("run.yml", ["run_name=other"]))
        run("run_name=other")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert {k: v for k, v in contents("output").items() if not k.startswith(("other", "."))} == before
    run()
    assert names() == {"run", "run.1", "other"}


def test_the_lock_is_held_while_a_run_trains(here):
    with begin_run(start_point()), pytest.raises(LockedError):
        locked(Path("output/.run.lock"), what="", advice="").__enter__()


def test_nothing_is_moved_when_files_cannot_be_written(here, monkeypatch):
    run()
    before = contents("output")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ppdet.engine.runs.run_folder.write_sealed", full)
    with pytest.raises(RunError, match=r"^output/run: the run cannot begin: No space left on device$"):
        run()
    assert contents("output") == before and names() == {"run"}


def test_a_folder_that_cannot_be_renamed(here, monkeypatch):
    """It is where a disk is mounted, say."""
    run()
    before = contents("output")

    def busy(self, target):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", busy)
    message = r"^output/run has an earlier run and cannot be renamed to run\.1 \(Device or resource busy\): .* --name$"
    with pytest.raises(RunError, match=message):
        run()
    assert contents("output") == before and names() == {"run"}


def test_data_in_the_folder_stays_where_it_is(here):
    run()
    for options in (["TrainDataset.dataset_dir=output"], ["EvalDataset.dataset_dir=output/run"]):
        with pytest.raises(RunError, match=r"has an earlier run and the images of (Train|Eval)Dataset"):
            run("TrainDataset.image_dir=run/images", *options)
    assert names() == {"run"}


def test_a_link_means_the_folder_that_it_leads_to(here):
    """Whether that exists or not: new runs stay on the disk that the user chose."""
    Path("disk").mkdir()
    Path("output").mkdir()
    Path("output/run").symlink_to(here / "disk" / "run")
    run()
    before = contents("disk/run")
    run()
    assert Path("output/run").is_symlink() and names() == {"run"} and names("disk") == {"run", "run.1"}
    assert contents("disk/run.1") == before != contents("output/run")


def test_what_a_dry_run_says(here):
    assert preview(start_point()) == "keeps what is there"
    run()
    before = contents("output")
    assert preview(start_point()) == "moves the earlier run to output/run.1"
    assert preview(start_point(overwrite=True)) == "clears the earlier run"
    assert preview(start_point(resume="auto")) == "keeps what is there"
    assert contents("output") == before


def test_where_a_run_was_started_is_known(here):
    run("save_dir=deep/output")
    found = read_sealed(Path("deep/output/run/run.json"))
    assert found["started_in"] == [os.path.join("..", "..", ".."), str(here)]
