"""Commands of README.md and of the pages on deployment: options, files and names, and the first examples for real."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from commands import call, load
from noise import noisy
from tiny import TINY_YAML, write_tiny_coco

from ppdet.cli.commands import COMMANDS
from ppdet.cli.commands import load as load_command
from ppdet.core.shipped_configs import shipped_configs
from ppdet.data.shapes import generate
from ppdet.engine.export.graph import export_model

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("AUGMENTATION", "DEPLOY", "LABELLING", "SLICING", "SMALL_DATA", "TRAINING", "TROUBLESHOOTING", "TTA")
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in NAMES),
    *sorted((ROOT / "deploy").glob("*/README.md")),
]
IMAGE = "dataset/shapes/data/images/val/000041.jpg"
# What the quick start leaves behind, beside its checkpoints.
QUICK_START = re.compile(
    r"(output|output_inference)/fcos_r18_fpn_shapes(/\d+)?|dataset/shapes/data/annotations/val\.json"
    r"|dataset/shapes/data/images/val(/0000\d\d\.jpg)?"
)
# Only their options are not parsed here: each first word, or pair of words, and the reason.
OTHER_PROGRAMS = {
    "pip install": "test_extras.py reads these lines; installing needs a network",
    "apt-get": "it changes the machine",
    "cmake": "test_cpp.py builds the examples",
    "curl": "tests/deploy/serving/test_readme.py runs these lines",
    "base64": "tests/deploy/serving/test_readme.py runs these lines",
    "docker": "it starts Triton's server, which is not installed",
    "npm": "test_web.py runs the page if its packages are installed",
    "python -m http.server": "a module of Python",
    "python -m paddle.distributed.launch": "its options are Paddle's",
    "visualdl": "a program of another package",
    "tensorboard": "a program of another package",
}
MADE_BY_A_USER = {
    "output/NAME": "stands for any run",
    "output/again": "a second run, which a command before it trains",
    "output/pick/pick.txt": "ppdet data pick writes it, see tests/engine/picking",
    "output_amp/fcos_r18_fpn_shapes": "stands for a second run in another folder",
    "output/fcos_r18_fpn_shapes.1": "the run before, which training again keeps",
}
# Of the hundred images; detecting in all of them takes longer and shows no more.
KEPT = ("000041.jpg", "000078.jpg")
WRITTEN = ("--output", "--output_dir", "--picture", "--vdl_log_dir", "--logdir")


def lines_of(page: Path) -> list[list[str]]:
    """The words of each command of a page, with its variables replaced."""
    found = []
    variables: dict[str, str] = {}
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = re.sub(rf"\${name}\b", value, line)
            if assignment := re.fullmatch(r"([A-Z]+)=(\S+)", line.strip()):
                variables[assignment[1]] = assignment[2]
            elif words := shlex.split(line, comments=True):
                found.append(words)
    return found


def parse(words: list[str], monkeypatch) -> bool:
    """Parse a command with the parser of its tool; False: it is no tool of this project."""
    if words[0] == "ppdet":
        return parse_with(load_command(words[1]), words[2:], monkeypatch)
    if words[0] != "python":
        return False
    if words[1] == "-m":
        modules = {COMMANDS[name].module.removesuffix(".__main__"): name for name in COMMANDS}
        return words[2] in modules and parse_with(load_command(modules[words[2]]), words[3:], monkeypatch)
    if words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), words[1]
        monkeypatch.syspath_prepend((ROOT / words[1]).parent)
        return parse_with(load(words[1]), words[2:], monkeypatch)
    return False


def parse_with(module, arguments: list[str], monkeypatch) -> bool:
    if not hasattr(module, "parse_arguments"):
        assert "--" not in " ".join(arguments), f"{module.__name__} cannot parse without running"
    elif module.parse_arguments.__code__.co_argcount:
        module.parse_arguments(arguments)
    else:
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        module.parse_arguments()
    return True


def test_options_exist_and_files_are_there_after_the_quick_start(monkeypatch, capsys):
    used = set()
    count = 0
    for page in PAGES:
        written: set[str] = set()
        for words in lines_of(page):
            place = f"{page.relative_to(ROOT)}: {' '.join(words)}"
            try:
                parsed = parse(words, monkeypatch)
            except SystemExit:
                pytest.fail(f"{place}\n{capsys.readouterr().err[-500:]}")
            if not parsed:
                known = [name for name in OTHER_PROGRAMS if " ".join(words).startswith(name)]
                used.update(known)
                if not known:
                    assert re.match(r"\(umask|build/|\|", words[0]), place
            count += parsed
            if {"eval", "infer", "export", "tools/eval.py", "tools/infer.py", "tools/export_model.py"} & set(words[:2]):
                is_trained = "-c" not in words or any(word.startswith("weights=") for word in words)
                assert is_trained, f"{place}\nthe configuration alone has no weights of a trained detector"
            for option, word in zip(["", *words], words, strict=False):
                if option == "-c" and "/" not in word and word != "FILE":
                    assert word in shipped_configs(), place
                path = word.removeprefix("image=").removeprefix("@")
                if option in WRITTEN:
                    written.add(path)
                elif path in MADE_BY_A_USER:
                    used.add(path)
                elif re.match(r"(output|output_inference|dataset|configs|tools|deploy|benchmarks)/", path):
                    is_there = QUICK_START.fullmatch(path) or path in written or (ROOT / path).exists()
                    assert is_there, f"{place}\nnobody has {path} after the quick start"
                else:
                    assert not re.search(r"\.(jpg|png|mp4)$", path) or option in ("-o", "--output"), place
    assert count > 30
    unused = (OTHER_PROGRAMS.keys() | MADE_BY_A_USER.keys()) - used
    assert not unused, "these entries are not needed any more"


def test_options_of_all_other_pages_exist(monkeypatch, capsys):
    pages = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "zh").glob("*.md")} - set(PAGES)
    count = 0
    for page in sorted(pages):
        for words in lines_of(page):
            if not words[1:2] or words[1].startswith("benchmarks/"):  # most of these parse where they run
                continue
            try:
                count += parse(words, monkeypatch)
            except SystemExit:
                pytest.fail(f"{page.relative_to(ROOT)}: {' '.join(words)}\n{capsys.readouterr().err[-500:]}")
    assert count > 50


@pytest.fixture(scope="module")
def after_the_quick_start(tmp_path_factory):
    """A folder with the images of the quick start, and a detector with random weights in the place of its export."""
    folder = tmp_path_factory.mktemp("quick_start")
    content = generate(folder / "dataset" / "shapes" / "data", train=1, val=100)
    assert content is not None and (folder / IMAGE).is_file()
    for path in (folder / IMAGE).parent.glob("*.jpg"):
        if path.name not in KEPT:
            path.unlink()
    data = write_tiny_coco(folder / "data", images=1)
    config = folder / "fcos_r18_fpn_shapes.yml"
    config.write_text(TINY_YAML.format(output=folder / "output", data=data))
    options = ["FCOSHead.class_threshold=0.4", "FCOSHead.level_top_k=20", "FCOSHead.nms.score_threshold=0"]
    exported = export_model(noisy(config, options), str(folder / "output_inference"))
    assert Path(exported).name == "fcos_r18_fpn_shapes"
    return folder


def test_the_first_example_of_deploy_prints_detections(after_the_quick_start, monkeypatch, capsys):
    monkeypatch.chdir(after_the_quick_start)
    labels = json.loads(Path("dataset/shapes/data/annotations/val.json").read_text())
    [number] = [image["id"] for image in labels["images"] if image["file_name"] == Path(IMAGE).name]
    boxes = [one for one in labels["annotations"] if one["image_id"] == number]
    assert len(boxes) == 4 and min(min(one["bbox"][2:]) for one in boxes) > 30, "an image of several large objects"
    text = (ROOT / "docs" / "DEPLOY.md").read_text(encoding="utf-8")
    code = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    assert IMAGE in code and "output_inference/fcos_r18_fpn_shapes" in code
    values: dict = {}
    exec(code, values)
    lines = capsys.readouterr().out.splitlines()
    count = len(values["detections"].scores)
    assert count > 0 and len(lines) == count + 1 and lines[0] == f"{count} detections"


def test_detection_as_the_readmes_call_it(after_the_quick_start, monkeypatch, tmp_path):
    """With absolute paths, because `call` starts in the repository, which has no quick start's detector."""
    for page in ("README.md", "deploy/python/README.md"):
        words = next(line for line in lines_of(ROOT / page) if line[:2] == ["ppdet", "detect"] or "infer.py" in line[1])
        arguments = [str(after_the_quick_start / word) if QUICK_START.fullmatch(word) else word for word in words[2:]]
        if "--output_dir" in arguments:
            del arguments[arguments.index("--output_dir") :][:2]
        arguments += ["--output_dir", tmp_path / page]
        call("deploy/python/infer.py", *arguments)
        assert len(list((tmp_path / page).glob("*.jpg"))) == (2 if "--image_dir" in words else 1), page
