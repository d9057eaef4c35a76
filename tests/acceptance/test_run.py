"""The command line of the kit, the duration of a run, and what a killed run leaves."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import commands
import pytest
from patience import wait_until
from processes import wait_for_end

from ppdet.acceptance import kit, runner
from ppdet.acceptance.check_registry import CHECKS, GROUPS, SHARED, all_checks, expected_seconds, select
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.documentation import made_in
from ppdet.acceptance.report_files import Report
from ppdet.acceptance.text_report import markdown_report
from ppdet.utils.disk.lock import LockedError

FAULTY = str(Path(__file__).with_name("faulty.py"))
VOLTA = Facts("gpu", capability=(7, 0), amp=("float16",))
KILLED = """
import sys
from ppdet.acceptance import kit, runner
from ppdet.acceptance.device_facts import Facts

runner.GRACE = 1e6
kit.ask_for_facts = lambda device, *_: Facts(device, paddle="x")
kit.run_kit("cpu", ["nms/faulty_fine", "nms/faulty_hangs"], kit.Path(sys.argv[1]), imports=[sys.argv[2]])
"""


def test_a_killed_run_leaves_its_report_and_no_process(tmp_path):
    """SIGKILL ends only the main process, which cannot clean up; neither can it when a terminal is closed."""
    command = [sys.executable, "-c", KILLED, tmp_path, FAULTY]
    parent = subprocess.Popen(command, cwd=commands.ROOT, env={**os.environ, "PYTHONPATH": str(commands.ROOT)})
    events = tmp_path / "work" / "process" / "events.jsonl"
    wait_until(lambda: events.exists() and '"start": "nms/faulty_hangs"' in events.read_text(), "the check that hangs")
    wait_until(lambda: "| nms/faulty_fine | pass |" in (tmp_path / "report.md").read_text(), "the first result")
    with pytest.raises(LockedError, match=r"a run of the kit: process \d+ on .* is at work there: wait for it"):
        kit.run_kit("cpu", ["nms/boxes_1"], tmp_path)
    parent.kill()
    parent.wait()
    content = json.loads((tmp_path / "report.json").read_text())
    assert not content["finished"] and content["not_run"] == ["nms/faulty_hangs"]
    wait_for_end([content["checks"][0]["numbers"]["pid"]])


def test_the_command_lists_checks_and_refuses_what_is_none(tmp_path):
    listed = commands.call("tools/check_device.py", "--list", "--only", "environment")
    assert listed.startswith("environment/paddle ")
    output = commands.call("tools/check_device.py", "--list", "--only", "enviroment", code=2)
    assert output == "error: no check is called 'enviroment'; did you mean 'environment'?; --list shows all checks\n"
    output = commands.call("tools/check_device.py", "--import", tmp_path / "no.py", code=2)
    assert output == f"error: --import {tmp_path / 'no.py'}: no such file\n"
    assert "at least 1" in commands.call("tools/check_device.py", "--minutes", "-1", code=2)


def test_the_command_runs_on_the_device_that_is_asked_for(tmp_path):
    """The default device cannot be tested, because it depends on the machine."""
    output = commands.call("tools/check_device.py", "--device", "abacus", "--output", tmp_path, code=2)
    assert "--device abacus: there is no such device: paddle" in output


def test_a_lost_facts_process_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(runner.sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match=r"could not be asked for its devices: the process ended with exit code 1"):
        runner.ask_for_facts("cpu", [], tmp_path)


@pytest.mark.parametrize(
    ("device", "hint"),
    [
        ("gpu:1", "; CUDA_VISIBLE_DEVICES=1 in front of the command chooses the card"),
        ("npu:0", ""),
        ("", ""),
        (":1", ""),
    ],
)
def test_a_device_is_a_type(tmp_path, device, hint):
    output = commands.call("tools/check_device.py", "--device", device, "--output", tmp_path, code=2)
    expected = f"error: --device {device!r}: expected a type such as gpu, xpu or cpu, without a number{hint}\n"
    assert output == expected and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a_file", "a_file/below", "/proc/x"])
def test_a_folder_that_cannot_be_written(tmp_path, name):
    (tmp_path / "a_file").write_text("mine")
    path = tmp_path / name
    output = commands.call("tools/check_device.py", "--device", "cpu", "--output", path, code=2)
    assert output.startswith(f"error: --output {path}: expected a folder that can be written: "), output
    assert (tmp_path / "a_file").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere", ":1: ModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1\n1 / 0", ":2: ZeroDivisionError: division by zero"),
        ("x = 1\nif x\n  x", ":2: SyntaxError: "),
        (
            "from ppdet.acceptance.check_registry import check\ncheck('no/a', title='t', advice='a')(print)",
            ":2: ValueError: check 'no/a': its group is not in GROUPS of ppdet/acceptance/check_registry.py",
        ),
        (
            "from ppdet.acceptance.check_registry import check\n"
            "check('nms/a', title='t', advice='a', uses=['x'])(print)",
            ":2: ValueError: check 'nms/a': uses ['x'], not in SHARED of ppdet/acceptance/check_registry.py",
        ),
        ("from ppdet.utils.errors import DataError\nraise DataError('plug it in')", "plug it in"),
    ],
)
def test_a_file_of_the_user_that_ends_in_an_error(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_text(text)
    for more in ([], ["--list"]):
        command = ["tools/check_device.py", "--output", tmp_path / "out", "--import", path, *more]
        output = commands.call(*command, code=2)
        expected = f"error: {said}" if said == "plug it in" else f"error: --import {path}: {path}{said}"
        assert output.startswith(expected) and output.count("\n") == 1


def test_the_examples_of_the_help_select_checks():
    parser = commands.load("tools/check_device.py")
    examples = parser.__doc__.replace("{program}", "python tools/check_device.py")
    lines = [line.partition("#")[0] for line in examples.splitlines() if "python " in line]
    assert len(lines) >= 5
    for line in lines:
        _, file, *arguments = shlex.split(line)
        assert "/" in commands.call(file, *arguments, "--list")


def test_the_time_of_a_run_is_that_of_its_checks():
    """The time is enough for a T4, which needs twice as long for `speed` and `memory`, and for two cards."""
    one, two = VOLTA, Facts("gpu", cards=2, capability=(8, 0), amp=("float16", "bfloat16"))
    checks = all_checks()
    half_speed = sum(check.seconds for check in checks if check.group in ("speed", "memory"))
    for facts in (one, two):
        needed = expected_seconds(kit.runnable(checks, facts))
        assert 60 * kit.default_minutes(checks, facts) > needed + half_speed
    assert kit.default_minutes(checks, two) > kit.default_minutes(checks, one) > 10
    assert kit.default_minutes(select(["nms"]), one) == 10


def test_what_checks_have_in_common_is_counted_once(tmp_path):
    checks = select(["training/float32_adamw", "training/o1_float16_adamw"])
    assert expected_seconds(checks) == 4 + 4 + SHARED["cpu_adamw"].seconds
    context = Context(VOLTA, False, tmp_path)
    context.shared_value("cpu_adamw", lambda: [])
    assert expected_seconds(checks, context) == 8
    assert sorted(name for group in GROUPS for name in made_in(group)) == sorted(SHARED)


@pytest.mark.parametrize(
    "name", ["engines/paddle_fp16", "detect/infer", "detect/eval_amp", "training/o1_float16_adamw"]
)
def test_a_check_alone_has_the_time_for_what_it_shares(tmp_path, name):
    """The limit is at least twice the expected time; once the shared objects exist, it is the check's own."""
    (one,), context = select([name]), Context(VOLTA, False, tmp_path)
    assert one.limit_in(context) >= 2 * expected_seconds([one])
    for shared in one.uses:
        context.shared_value(shared, lambda: 0)
    assert one.limit_in(context) == one.limit >= 2 * one.seconds


def test_what_a_check_makes_is_among_what_it_uses(tmp_path, monkeypatch):
    """The name that `shared_value` is given is among the check's `uses`."""
    from ppdet.acceptance.checks import training_checks

    made = []
    monkeypatch.setattr(Context, "shared_value", lambda self, name, make: made.append(name))
    for variant in training_checks.VARIANTS:
        training_checks.cpu_losses(Context(VOLTA, False, tmp_path), variant)
        assert made.pop() in CHECKS[f"training/{variant.name}"].uses


@pytest.mark.parametrize(("quick", "said"), [(True, "Quick run: fewer steps"), (False, "Full run.")])
def test_the_report_says_whether_the_run_was_a_quick_one(tmp_path, quick, said):
    content = Report(tmp_path, VOLTA, [], command="c", quick=quick).content(True)
    text = markdown_report(content)
    assert said in text and ("in a quick run" in text.splitlines()[0]) == quick
