"""Training twice, and tools that take the folder: the commands' own `main`, as a user's shell would call it."""

import json
import re
import sys
from pathlib import Path

import pytest
from commands import load
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import read_arrays


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with data and run.yml, of one step on small images."""
    folder = tmp_path_factory.mktemp("project")
    write_tiny_coco(folder / "data", images=2, size=(64, 64))
    resize = "sample_transforms: [Decode: {}, Resize: {target_size: [64, 64]}, NormalizeImage: {}, Permute"
    text = TINY_YAML.format(output="output", data="data") + "max_iters: 1\n"
    (folder / "run.yml").write_text(text.replace("sample_transforms: [Decode: {}, NormalizeImage: {}, Permute", resize))
    return folder


@pytest.fixture
def tool(monkeypatch, capsys):
    """Call a tool; return its exit code and what it printed."""

    def call(name, *arguments):
        module = load(f"tools/{name}.py")
        monkeypatch.setattr(sys, "argv", [f"tools/{name}.py", *map(str, arguments)])
        capsys.readouterr()
        try:
            module.main()
            code = 0
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def numbers(text):
    found = [float(number) for number in re.findall(r"maxDets= *\d+ \] = (-?[\d.]+)", text)]
    assert len(found) == 12
    return found


def test_a_day_with_runs(project, tool, monkeypatch, tmp_path):
    monkeypatch.chdir(project)
    large = ["-o", "EvalReader.sample_transforms.1.target_size=[128, 128]", "FCOSHead.nms.score_threshold=0.001"]
    code, log = tool("train", "-c", "run.yml", "--eval", *large)
    assert code == 0 and "earlier run" not in log
    first = read_arrays(Path("output/run/best_model.pdparams"))
    # A mistake, a look and a second process move nothing.
    assert tool("train", "-c", "run.yml", "-o", "TrainDataset.anno_path=none.json")[0] == 2
    code, log = tool("train", "-c", "run.yml", "--dry_run")
    assert code == 0 and "output/run: moves the earlier run to output/run.1" in log
    assert [path.name for path in Path("output").iterdir()] == ["run"]

    code, log = tool("train", "-c", "run.yml", "-o", "seed=1", "pretrain_weights=output/run/best_model")
    assert code == 0 and "output/run had an earlier run, which is now output/run.1" in log
    kept = read_arrays(Path("output/run.1/best_model.pdparams"))
    assert kept.keys() == first.keys() and all((kept[name] == first[name]).all() for name in first)
    assert load_config("output/run/config.yml")["pretrain_weights"] == "output/run.1/best_model"
    assert "which is now output/run.1" in Path("output/run/train.log").read_text()

    # The folder replaces -c, -o and weights, from any directory; without the -o, results differ, with a warning.
    weights = ["-o", "weights=output/run.1/best_model"]
    code, right = tool("eval", "-c", "run.yml", *weights, *large)
    assert code == 0 and "was trained" not in right
    code, wrong = tool("eval", "-c", "run.yml", *weights)
    assert code == 0
    assert re.search(
        r"WARNING\] run\.yml differs .* EvalReader\S+Resize.target_size: \[64, 64\] here, \[128, 128\] there",
        wrong,
    )
    monkeypatch.chdir(tmp_path)
    code, folder = tool("eval", project / "output" / "run.1")
    assert code == 0 and f"run {project}/output/run.1: weights best_model.pdparams" in folder
    assert numbers(folder) == numbers(right) and max(numbers(right)) > 0
    code, log = tool("analyze", project / "output" / "run.1", "--evaluate")
    assert code == 0 and "run.1: best AP" in log
    images = project / "data" / "images"
    code, log = tool("infer", project / "output/run.1", "--infer_dir", images, "--save_results", "true")
    assert code == 0 and len(json.loads(Path("output/bbox.json").read_text())) > 0
    code, log = tool("export_model", project / "output/run.1")
    assert code == 0 and Path("output_inference/run.1/infer_cfg.yml").is_file()


def test_names_and_overwrite(project, tool, monkeypatch):
    monkeypatch.chdir(project)
    for _ in range(2):
        assert tool("train", "-c", "run.yml", "--name", "mine", "--overwrite")[0] == 0
    assert {path.name for path in Path("output").iterdir() if "mine" in path.name} == {"mine"}
    code, log = tool("train", "-c", "run.yml", "--name", "a/b")
    assert code == 2 and log.splitlines()[-1].startswith("error: -o: run_name: expected the name of a folder")
    code, log = tool("train", "-c", "run.yml", "-r", "auto", "--overwrite")
    assert code == 2 and "--resume auto continues the run in the folder: leave --overwrite out" in log


@pytest.mark.parametrize("name", ["eval", "export_model"])
def test_a_run_or_a_file(project, tool, monkeypatch, name):
    monkeypatch.chdir(project)
    for arguments, message in (
        ([], "name either a RUN, such as output/NAME, or a YAML file with -c"),
        (["output/run", "-c", "run.yml"], "or a YAML file with -c"),
        (["-o", "a=1", "output/run"], "output/run was taken for a KEY=VALUE of -o: RUN stands before -o"),
    ):
        code, log = tool(name, *arguments)
        assert code == 2 and log.strip().endswith(message)
    code, log = tool(name, "output/nothing")
    assert code == 2 and log.splitlines()[-1].startswith("error: output/nothing: no such run")
