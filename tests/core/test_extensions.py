"""Importing components from outside: files and modules by --import, entry points, and what YAML may not do."""

import logging
import pickle
import subprocess
import sys

import pytest

from ppdet.core import registry
from ppdet.core.config import read_config
from ppdet.core.extensions import ExtensionError, import_extensions, imported, imported_modules, load_entry_points
from ppdet.core.workspace import load_config
from ppdet.utils.errors import ConfigError

SCALE = "from ppdet.core.workspace import register\n\n@register\nclass {name}:\n    {body}\n"
INIT = "def __init__(self, *, factor: float = 2.0) -> None:\n        self.factor = factor"


def component(name, body=INIT):
    return SCALE.format(name=name, body=body)


def test_a_file_is_imported_once_and_its_objects_travel(outside):
    """Its class can be named in YAML, and another process that imports the same files unpickles its objects."""
    outside("scale_parts.py", "LOADED = []\n")
    path = outside("scale_file.py", "import scale_parts\n\nscale_parts.LOADED.append(1)\n" + component("ScaleFile"))
    import_extensions([str(path), str(path)])
    import_extensions([str(path)])
    assert sys.modules["scale_parts"].LOADED == [1]
    assert (imported(), imported_modules()) == ((str(path),), ["scale_file"])
    config = outside("a.yml", "requires: [scale_file]\nScaleFile: {factor: 3}\n")
    scale = load_config(config).create("ScaleFile")
    code = (
        "import pickle, sys\n"
        "from ppdet.core.extensions import import_extensions\n"
        f"import_extensions({imported()!r})\n"
        "print(pickle.load(sys.stdin.buffer).factor)"
    )
    process = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(scale), capture_output=True, check=True)
    assert process.stdout == b"3\n"


def test_a_module_is_imported_by_its_name(outside, monkeypatch, tmp_path):
    outside("scale_package/__init__.py", "")
    outside("scale_package/nets.py", component("ScaleModule"))
    monkeypatch.chdir(tmp_path)
    import_extensions(["scale_package.nets"])
    assert registry.is_component("ScaleModule") and imported() == ("scale_package.nets",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.py", "x = 1\nif x\n", r"--import \S+bad.py: \S+bad.py:2: SyntaxError: expected ':'"),
        ("bad.py", "import os\nos.no_such\n", r"--import \S+: \S+bad.py:2: AttributeError: module 'os' has no .*"),
        ("bad.py", "import no_such\n", r"--import \S+: \S+bad.py:1: ModuleNotFoundError: No module named 'no_such'"),
        ("bad.py", "import sys\nsys.exit(3)\n", r"--import \S+: \S+bad.py:2: the code ends the process: put .*main.*"),
        (
            "bad.py",
            component("ResNet"),
            r"--import \S+: \S+bad.py:3: a component called ResNet is already registered by "
            r"ppdet.modeling.backbones.resnet \(\S+resnet.py\): give the one in bad \(\S+bad.py\) another name",
        ),
        (
            "bad.py",
            component("Rest", "def __init__(self, **rest): ..."),
            r"--import \S+: \S+bad.py:3: Rest: a component's constructor names its parameters, \*\*rest does not",
        ),
        (
            "bad.py",
            "from __future__ import annotations\n" + component("Rest", "def __init__(self, *, x: Tensor): ..."),
            r"--import \S+: \S+bad.py:4: Rest: Tensor is not defined: import the types of the constructor's .*",
        ),
        ("json.py", "", r"--import \S+: there is another module called json, from \S+: rename the file"),
        ("sys.py", "", r"--import \S+: there is another module called sys, which is part of Python: rename the file"),
        ("a.b.py", "", r"--import \S+: a module cannot have a dot in its name: rename the file"),
        ("notes.txt", "", r"--import \S+: expected a Python file, whose name ends in .py"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(outside, name, text, message):
    load_config("configs/fcos/fcos_r50_fpn_1x_coco.yml")
    path = outside(name, text)
    with pytest.raises(ExtensionError, match=f"^{message}$") as error:
        import_extensions([str(path)])
    assert "\n" not in str(error.value)
    assert not imported()


def test_names_that_are_not_there(outside, tmp_path, monkeypatch):
    outside("my_backbone.py", "")
    with pytest.raises(ExtensionError, match=r"my_backbon.py: no such file; did you mean 'my_backbone.py'\?$"):
        import_extensions([str(tmp_path / "my_backbon.py")])
    with pytest.raises(ExtensionError, match=r"^--import no_such.nets: there is no module no_such: name an installed"):
        import_extensions(["no_such.nets"])
    (tmp_path / "plain_folder").mkdir()
    with pytest.raises(ExtensionError, match=r"plain_folder has no __init__.py: name one of its files"):
        monkeypatch.chdir(tmp_path)
        import_extensions(["plain_folder"])
    with pytest.raises(ExtensionError, match=r"^--import my-nets: expected a Python file, .* or a module's name$"):
        import_extensions(["my-nets"])


def test_the_file_from_outside_is_the_one_to_be_renamed(outside):
    """The same if it is imported before the project's own components."""
    path = outside("early.py", component("EarlyNet"))
    import_extensions([str(path)])
    own = type("EarlyNet", (), {"__module__": "ppdet.modeling.nets"})
    with pytest.raises(
        TypeError, match=r"registered by ppdet.modeling.nets: give the one in early \(\S+\) another name"
    ):
        registry.register(own)


def test_installed_packages_register_by_entry_points(outside, tmp_path, caplog):
    """A broken one is reported with its package's name; the others still load."""
    outside("good_nets.py", component("GoodNet"))
    outside("broken_nets.py", "1 / 0\n")
    for name in ("broken_nets", "good_nets"):
        outside(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        outside(f"{name}-1.0.dist-info/entry_points.txt", f"[ppdet.components]\n{name} = {name}\n")
    sys.path.append(str(tmp_path))
    load_entry_points.cache_clear()
    with caplog.at_level(logging.ERROR):
        config = load_config(outside("a.yml", "requires: [good_nets]\nGoodNet: {factor: 5}\n"))
    assert config.create("GoodNet").factor == 5
    assert [record.getMessage() for record in caplog.records] == [
        f"the components of the installed package broken_nets cannot be used: {tmp_path}/broken_nets.py:1: "
        "ZeroDivisionError: division by zero"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requires: [evil]\n", "a.yml:1: requires: the module 'evil' is not imported: add --import evil, or --import"),
        ("requires: [evil]\na: !EvilNet {}\n", "a.yml:1: requires: the module 'evil' is not imported"),
        ("requires:\n- evil.py\n", "a.yml:2: requires: the module 'evil.py' is not imported: write the module's name"),
        ("requires: ['{folder}/evil.py']\n", "write the module's name, 'evil', without a folder and without .py"),
        ("requires: ['evil; import evil']\n", "is not imported"),
        ("requires: evil\n", "a.yml:1: requires: expected list of text, got 'evil'"),
        ("requires: [{name: evil}]\n", "requires.0: expected text"),
        ("requires: [!!python/module:evil '']\n", "a.yml:1:12: the YAML tag !!python/module:evil is refused"),
        ("architecture: evil.EvilNet\n", "there is no component 'evil.EvilNet'"),
        ("import: [evil]\n", "a.yml:1: import: neither a component nor a global setting"),
        ("imports: '{folder}/evil.py'\n", "a.yml:1: imports: neither a component nor a global setting"),
        ("_BASE_: evil.py\n", "evil.py:1"),
        ("ResNet: !evil.EvilNet {}\n", "!evil.EvilNet is not a component that can be a tag"),
    ],
)
def test_a_yaml_file_imports_nothing(outside, monkeypatch, tmp_path, text, message):
    """Whatever it says, with a file of that name beside it, in the working directory, and on Python's path."""
    evil = outside("evil.py", f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    sys.path.append(str(tmp_path))
    outside("a.yml", text.replace("{folder}", str(tmp_path)))
    with pytest.raises(ConfigError) as error:
        load_config("a.yml")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules and evil.exists()


def test_every_file_needs_what_it_requires(outside, monkeypatch, tmp_path):
    """A file's list is added to its base's list."""
    monkeypatch.chdir(tmp_path)
    outside("base.yml", "requires: [no_such]\n")
    outside("a.yml", "_BASE_: base.yml\nrequires: [json]\n")
    with pytest.raises(ConfigError, match=r"^base.yml:1: requires: the module 'no_such' is not imported"):
        read_config("a.yml")


def test_an_unknown_component_tells_of_the_option(outside, tmp_path):
    path = outside("a.yml", "ResNet: {}\nFCOS:\n  backbone: TinyNet\n")
    with pytest.raises(ConfigError, match=r"no component 'TinyNet'.*; a component of your own needs --import FILE"):
        load_config(path)
