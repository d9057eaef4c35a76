"""The kernels of the trainer's own step on a device behind the host, as benchmarks/kernels.py counts them."""

import collections
import re
import shlex
import sys

import pytest
from counting import Kernels, kernels

from ppdet.core.workspace import load_config

SHAPES = kernels.ROOT / "configs" / "fcos" / "fcos_r18_fpn_shapes.yml"
COMMANDS = kernels.EXAMPLES.replace("\\\n", " ").splitlines()[1:]


def test_what_surrounds_the_passes_is_as_few_kernels_for_any_depth():
    """What is joined stays joined: the check is at most 3 launches, the average 10, and no gradient is filled."""
    with Kernels():
        pass  # skips the test where nothing can be recorded
    few, many = (
        kernels.count_step(SHAPES, ["use_ema=true", f"ResNet.depth={depth}"], (1, 64, 64), scaled=depth == 34).counts
        for depth in (18, 34)
    )
    assert few["optimizer"]["adamw"] + 40 < many["optimizer"]["adamw"]
    for counts in (few, many):
        assert 1 <= kernels.launches(counts["unscale and finite check"]) <= 3
        assert 1 <= kernels.launches(counts["average of weights"]) <= 10
        assert kernels.launches(counts["clear_grad"]) == 0
    around = ["unscale and finite check", "guard: before the forward pass", "guard: keep and roll back"]
    assert all(few[part] == many[part] for part in [*around, "average of weights"])
    assert sum(kernels.launches(many[part]) for part in [*around, "loss scale"]) <= 25


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_examples_are_commands_that_run(command, monkeypatch, capsys):
    """Up to the step itself: its configuration is read, and its optimizer is made."""

    def count(config, options, shape, *, scaled):
        load_config(config, options).create("OptimizerBuilder")
        counted.append(scaled)
        found = kernels.Kernels()
        found.counts.update({part: collections.Counter(one=1) for part in ("forward: network", *kernels.UPDATE)})
        return found

    counted = []
    monkeypatch.chdir(kernels.ROOT)
    monkeypatch.setattr(kernels, "count_step", count)
    python, file, *arguments = shlex.split(command, comments=True)
    assert (python, file) == ("python", "benchmarks/kernels.py")
    monkeypatch.setattr(sys, "argv", [file, *arguments])
    kernels.main()
    assert counted == ["--loss-scale" in arguments] and " one " in capsys.readouterr().out


def test_the_guards_share_is_what_its_bytes_take_of_a_step():
    """docs/PERFORMANCE.md: 2.23 GB of a step of 2 images, at the images per second of docs/GPU.md."""
    pages = [(kernels.ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("PERFORMANCE.md", "GPU.md")]
    weights, large = 32.02e6, 0.45
    moved = [4 * weights * (2 + tensors * (large * 5.5 + (1 - large) * 9.5)) for tensors in (2, 3)]  # and gradients
    text = " ".join(pages[0].split())
    assert "{:.2f} GB are moved with momentum, and {:.2f} GB with AdamW".format(*(n / 1e9 for n in moved)) in text
    rows = re.findall(
        r"^\| (.+?) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([\d.]+) to ([\d.]+) \|$", pages[0], re.M
    )
    speeds = re.findall(r"^\| (.+?) \| [\d.]+ \|.*\| (\d+) to (\d+) \(.*\| (\d+) to (\d+) \(.* \|$", pages[1], re.M)
    assert [row[0] for row in rows] == [row[0] for row in speeds] and len(rows) == 5
    for (name, bandwidth, ms, *shares), (_, *per_second) in zip(rows, speeds):
        expected = moved[0] / float(bandwidth.replace(",", "")) / 1e6
        assert float(ms) == pytest.approx(expected, abs=0.006), name
        found = [100 * expected * float(images) / 2000 for images in per_second]
        assert [float(share) for share in shares] == pytest.approx(found, abs=0.06), name
