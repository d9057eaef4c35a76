"""The packages of the optional extras, and the lines that tell how to install them."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest

from ppdet.deploy import serve
from ppdet.utils.errors import DeployError
from ppdet.utils.extras import EXTRAS, absent_packages, not_installed

ROOT = Path(__file__).resolve().parents[2]
NAMES_THE_PACKAGE = re.compile(r"pip install[^\n`]*ppdet-fcos")


def test_they_are_those_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [block] = re.findall(r"\[project.optional-dependencies\]\n(.*?)\n\n", text, re.DOTALL)
    declared = dict(re.findall(r"^(\w+) = \[(.*)\]$", block, re.MULTILINE))
    assert set(declared) - set(EXTRAS) == {"cpu", "audit", "docs", "mutants", "dev"}
    for extra, packages in EXTRAS.items():
        assert sorted(re.findall(r'"([\w\[\]-]+)[>=]', declared[extra])) == sorted(packages)


def test_modules_are_those_of_the_packages():
    """Of the packages that are installed here: each of its files lies in the module's folder."""
    checked = 0
    for packages in EXTRAS.values():
        for package, module in packages.items():
            try:
                files = importlib.metadata.files(package) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            assert any(file.parts[0] == module for file in files), package
            checked += 1
    assert checked


def test_absent_packages_are_named_as_pip_knows_them(monkeypatch):
    find = importlib.util.find_spec
    absent = {"python_multipart", "prometheus_client", "paddle2onnx"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in absent else find(name, *more))
    with pytest.raises(DeployError) as error:
        serve.serve(serve.parse_arguments(["--model_dir", "model"]))
    assert str(error.value) == (
        "prometheus-client, python-multipart are not installed: pip install prometheus-client python-multipart"
    )
    assert not_installed(absent_packages("onnx")) == "paddle2onnx is not installed: pip install paddle2onnx"


def test_no_line_installs_a_package_that_the_index_does_not_have():
    """ppdet-fcos is not on the index; a checkout is installed by `pip install .`, and a wheel by its file."""
    assert NAMES_THE_PACKAGE.search("pip install 'ppdet-fcos[serve]'")
    assert not NAMES_THE_PACKAGE.search("pip install './dist/ppdet_fcos-0.1.0-py3-none-any.whl[serve]'")
    paths = [path for path in ROOT.glob("*") if path.suffix in (".md", ".toml") or path.name == "Makefile"]
    for folder in ("ppdet", "docs", "deploy", "tools", "dataset", "configs", "benchmarks", ".github"):
        paths += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".md", ".py", ".yml", ".html", ".gpu")]
    paths += [ROOT / "deploy" / "serving" / "Dockerfile"]
    faults = []
    for path in paths:
        if "node_modules" not in path.parts:
            text = path.read_text(encoding="utf-8")
            faults += [f"{path.relative_to(ROOT)}: {line}" for line in NAMES_THE_PACKAGE.findall(text)]
    assert len(paths) > 300 and not faults
