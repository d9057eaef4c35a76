"""The kit runs checks that fail, raise, hang or crash, and reports each of them."""

import io
import json
import os
import time
import types
from pathlib import Path

import pytest

from ppdet.acceptance import check_process, kit, runner
from ppdet.acceptance.check_registry import CHECKS, GROUPS, Check, all_checks, check, select
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import GPU, Facts, amp, cards
from ppdet.acceptance.outcomes import Outcome, Result, to_plain_json
from ppdet.acceptance.report_files import Report

FAULTY = str(Path(__file__).with_name("faulty.py"))
ON_CPU = Facts("cpu", paddle="x")


@pytest.fixture(scope="module")
def faulty_run(tmp_path_factory):
    """The exit code, the screen and the folder of a run of the faulty checks."""
    all_checks()
    before, folder, screen = dict(CHECKS), tmp_path_factory.mktemp("kit"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "GRACE", 0.5)
        patch.setattr(kit, "ask_for_facts", lambda device, *_: Facts(device, paddle="x"))  # see the command's test
        code = kit.run_kit("cpu", ["nms/faulty_*"], folder, imports=[FAULTY], command="check <all>", stream=screen)
    CHECKS.clear()
    CHECKS.update(before)
    return code, screen.getvalue(), folder


@pytest.fixture(scope="module")
def content(faulty_run):
    return json.loads((faulty_run[2] / "report.json").read_text())


@pytest.fixture(scope="module")
def rows(content):
    return {row["name"].partition("faulty_")[2]: row for row in content["checks"]}


def test_each_check_has_its_result_whatever_became_of_its_process(rows):
    assert [(name, row["status"]) for name, row in rows.items()] == [
        ("unmet", "skipped"),
        ("fine", "pass"),
        ("fails", "fail"),
        ("gives_up", "skipped"),
        ("raises", "fail"),
        ("aborts", "fail"),
        ("hangs", "fail"),
    ]
    assert rows["unmet"]["detail"] == "no unicorn on this cpu"
    assert rows["gives_up"]["detail"] == "there is nothing to compare with"
    assert rows["fails"]["detail"] == "5 <rows> differ"
    assert rows["raises"]["detail"].startswith("ValueError: (InvalidArgument) Broadcast dimension mismatch")
    assert "paddle.ones([2]) + paddle.ones([3])" in rows["raises"]["traceback"]
    assert rows["aborts"]["detail"] == "the process was killed by SIGABRT"
    assert rows["hangs"]["detail"].startswith("stopped after ")
    assert "in hangs" in rows["hangs"]["log"]  # where it was, from Python's faulthandler
    assert rows["aborts"]["log"].startswith("last words\nFatal Python error: Aborted")
    assert rows["fails"]["log"] == "what fails printed"


def test_a_failure_that_was_meant_keeps_the_process_of_the_others(rows):
    assert rows["fine"]["numbers"] == {"pid": rows["fails"]["numbers"]["pid"], "nan": "nan"}
    assert rows["fine"]["numbers"]["pid"] != os.getpid()


def test_a_failure_gives_exit_code_1_and_says_what_to_do(faulty_run):
    code, screen, folder = faulty_run
    assert code == 1
    assert "1 passed, 4 failed, 2 skipped" in screen
    assert "  FAILED nms/faulty_aborts: the process was killed by SIGABRT\n    advice about aborts\n" in screen
    assert f"{folder.resolve()}/report.md" in screen
    assert (folder / "logs" / "nms.log").is_file()


def test_the_report_says_where_and_by_what_command(content):
    assert content["finished"] and content["quick"] and not content["not_run"]
    assert content["command"] == "check <all>"
    assert content["facts"]["device"] == "cpu"
    assert content["summary"] == {"pass": 1, "fail": 4, "skipped": 2}


def test_the_text_for_an_issue_is_a_table_and_its_failures(faulty_run, rows):
    text = (faulty_run[2] / "report.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| nms/")]
    assert len(table) == len(rows)
    assert "| nms/faulty_fails | **FAIL** | 5 <rows> differ | 0.0 |" in table
    assert "#### nms/faulty_hangs: title of hangs" in text and "#### nms/faulty_fine" not in text
    assert "advice about aborts" in text and "last words" in text and "advice about fine" not in text


def test_a_report_of_what_was_done(tmp_path):
    checks = [Check(f"nms/{name}", "t", "a", lambda context: Outcome("ran")) for name in "bac"]
    report = Report(tmp_path, ON_CPU, checks, command="c", quick=True)
    report.add(Result("nms/a", "pass", "well"))
    content = json.loads((tmp_path / "report.json").read_text())
    assert not content["finished"] and content["not_run"] == ["nms/b", "nms/c"]
    assert [row["name"] for row in content["checks"]] == ["nms/a"]
    text = (tmp_path / "report.md").read_text()
    assert "Not run: nms/b, nms/c" in text and "2 not run" in text


def test_what_had_no_time_is_no_pass(tmp_path):
    results = []
    context = Context(ON_CPU, True, tmp_path, deadline=time.time() - 1)
    checks = [Check("nms/a", "t", "a", lambda context: Outcome("ran"))]
    options = {"imports": (), "logs": tmp_path}
    runner.Run(checks, context, **options, on_result=lambda check, result: results.append(result)).run()
    detail = "not run: the time of the run was over; --minutes gives more"
    assert [(r.status, r.detail) for r in results] == [("fail", detail)]


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (0, "stopped after 10 s: the time of the whole run was over; --minutes gives more"),
        (1000, "stopped after 70 s: it hangs or is far too slow, its time limit is 60 s"),
    ],
)
def test_what_runs_when_the_time_is_over_is_stopped(left, said, tmp_path, monkeypatch):
    class Silent:
        """A process that has started its first check and then reports nothing."""

        killed = False

        def read_events(self):
            yield {"start": "nms/a", "log": 0, "limit": 60.0}
            while True:
                yield {}

        def kill(self):
            self.killed = True

        def log_size(self):
            return 0

        def log_since(self, start):
            return "last words"

    results, clock = [], iter(range(0, 10_000, 10))
    monkeypatch.setattr(runner, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(Context, "seconds_left", lambda self: left)
    checks = [Check(f"nms/{name}", "t", "a", lambda context: Outcome("ran")) for name in "ab"]
    options = {"imports": (), "logs": tmp_path, "on_result": lambda check, result: results.append(result)}
    process = Silent()
    left_over = runner.Run(checks, Context(ON_CPU, True, tmp_path), **options).watch(process, checks)
    assert [(r.name, r.status, r.detail, r.log) for r in results] == [("nms/a", "fail", said, "last words")]
    assert process.killed and left_over == checks[1:]


def test_a_process_that_cannot_start_is_no_endless_loop(tmp_path, monkeypatch):
    results = []
    monkeypatch.setattr(runner.sys, "executable", "/bin/false")
    checks = [Check(f"nms/{name}", "t", "a", lambda context: Outcome("ran")) for name in "ab"]
    options = {"imports": (), "logs": tmp_path / "logs"}
    context = Context(ON_CPU, True, tmp_path)
    runner.Run(checks, context, **options, on_result=lambda check, result: results.append(result)).run()
    assert [(r.name, r.detail) for r in results] == [
        (name, "the process ended with exit code 1") for name in ("nms/a", "nms/b")
    ]


def test_checks_share_what_is_made_once(tmp_path):
    made = []
    context = Context(ON_CPU, True, tmp_path)
    for _ in range(2):
        path = context.shared_folder("data", lambda folder: (made.append(folder), (folder / "x").write_text("1")))
        assert (path / "x").read_text() == "1"
        assert context.shared_value("losses", lambda: made.append(0) or [1.5]) == [1.5]
    assert len(made) == 2
    other = Context.from_json(json.loads(json.dumps(context.to_json())))
    assert other.facts == ON_CPU and other.shared_folder("data", lambda folder: made.append(folder)) == path
    assert len(made) == 2


def test_what_was_half_made_is_made_again(tmp_path):
    context = Context(ON_CPU, True, tmp_path)

    def fail(folder):
        (folder / "half").write_text("")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        context.shared_folder("data", fail)
    path = context.shared_folder("data", lambda folder: (folder / "whole").write_text(""))
    assert [file.name for file in path.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    ("need", "facts", "reason"),
    [
        (GPU, Facts("xpu"), "needs a GPU, this is xpu"),
        (GPU, Facts("gpu"), None),
        (cards(2), Facts("gpu", cards=1), "needs 2 cards, 1 visible"),
        (cards(2), Facts("npu", cards=8), None),
        (cards(2), Facts("cpu", cards=8), "needs 2 devices, this is the CPU"),
        (amp("float16", "O2"), Facts("gpu", capability=(7, 0), amp=("float16",)), None),
        (
            amp("bfloat16", "O2"),
            Facts("gpu", capability=(7, 0), amp=("float16",)),
            "no mixed precision in bfloat16 on this gpu of capability 7.0: it supports float16",
        ),
        (amp("bfloat16"), Facts("cpu"), "no mixed precision in bfloat16 on this cpu: it supports none"),
        (amp("bfloat16", "O2"), Facts("cpu", amp=("bfloat16",)), "O2 is for devices; CPUs only have O1"),
    ],
)
def test_why_a_check_is_skipped(need, facts, reason):
    assert need.missing(facts) == reason


def test_selecting_checks():
    names = [one.name for one in all_checks()]
    assert [one.name for one in select([])] == names
    assert [one.name for one in select(["environment"])] == [n for n in names if n.startswith("environment/")]
    assert [one.name for one in select(["environment/pa*"])] == ["environment/paddle"]
    order = [group.name for group in GROUPS]
    assert [order.index(one.group) for one in all_checks()] == sorted(order.index(one.group) for one in all_checks())
    with pytest.raises(ValueError, match="group"):
        check("nowhere/a", title="t", advice="a")(lambda context: Outcome(""))


def test_every_check_says_what_a_failure_means():
    for one in all_checks():
        assert len(one.advice) > 80 and one.advice.endswith((".", ")", "`.")), one.name
        assert 10 < len(one.title) < 120 and one.limit >= 2 * one.seconds, one.name


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo", "one"),
        ("", ""),
        (
            "\n\n----\nC++ Traceback\n----\n0 x\n\n----------------------\nError Message Summary:\n"
            "----------------------\nExternalError: CUDA error(700)\n  [Hint: ...]",
            "ExternalError: CUDA error(700)",
        ),
    ],
)
def test_the_line_of_an_error_that_tells_most(message, line):
    assert check_process.reason_in(message) == line


def test_figures_become_json():
    np = pytest.importorskip("numpy")
    assert to_plain_json({"a": np.float32(0.5), 2: (np.arange(2), float("inf")), "p": Path("x")}) == {
        "a": 0.5,
        "2": [[0, 1], "inf"],
        "p": "x",
    }


def test_the_screen_of_a_terminal_shows_what_runs(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    checks = [Check(f"nms/{name}", "t", "a", lambda context: Outcome(""), seconds=90) for name in "ab"]
    screen = kit.Screen(checks, stream, Context(ON_CPU, True, tmp_path))
    screen.print_running(checks[0])
    assert stream.getvalue().endswith("[1/2] nms/a, about 3 min left on one GPU")
    screen.print_result(checks[0], Result("nms/a", "pass", "well", seconds=1.25))
    screen.print_running(checks[1])
    assert stream.getvalue().endswith(
        "  nms/a  pass        1.2 s  well\n\r\x1b[K  [2/2] nms/b, about 2 min left on one GPU"
    )
