"""The check of oneDNN is computed once on a machine: what was kept is of this machine and passed, or it is computed."""

import json
import os

import pytest

from ppdet.modeling import cpu
from ppdet.modeling.cpu import kept_checks, onednn, self_test
from ppdet.modeling.cpu.kept_checks import forget, kept_difference

pytestmark = pytest.mark.skipif(not cpu.ready(), reason="oneDNN cannot be used on this machine")


class Check:
    """A check that returns `value` and counts its calls; `files` are those that were kept."""

    def __init__(self, home):
        self.value, self.calls, self.home = 1e-6, [], home

    def __call__(self, dtype):
        self.calls.append(dtype)
        return self.value

    def count(self, dtype="float32"):
        """How often the check runs in another process's place."""
        before = len(self.calls)
        assert kept_difference(dtype, self, 1e-4) == self.value
        return len(self.calls) - before

    @property
    def files(self):
        return sorted((self.home / "cpu_layers").glob("*"))


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.setenv("PPDET_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept_checks, "processor_description", lambda: "flags: avx2")
    return Check(tmp_path)


def test_the_second_process_does_not_compute(check):
    assert [check.count() for _ in range(3)] == [1, 0, 0]
    assert [check.count("bfloat16") for _ in range(2)] == [1, 0]
    assert [json.loads(path.read_text()) for path in check.files] == [{"difference": 1e-6}] * 2


def test_training_asks_for_what_was_kept(check, monkeypatch):
    monkeypatch.setattr(self_test, "difference", check)
    for calls in (["float32"], ["float32"]):
        cpu.agrees.cache_clear()
        assert cpu.ready() and check.calls == calls
    cpu.agrees.cache_clear()


@pytest.mark.parametrize("value", [2e-4, float("nan"), float("inf")])
def test_a_check_that_failed_is_computed_each_time(check, value):
    check.value = value
    for _ in range(2):
        found = kept_difference("float32", check, 1e-4)
        assert found == value or found != found
    assert len(check.calls) == 2 and not check.files


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[]", "null", "1e-6", '{"difference": null}', '{"difference": "0.0"}', '{"difference": true}'),
        *('{"difference": 0}', '{"difference": -1e-6}', '{"difference": NaN}', '{"difference": Infinity}'),
        *('{"difference": 1.0}', '{"another": 1e-6}', '{"difference": 1e-6}' + " " * 1000, "[" * 900),
    ],
)
def test_a_damaged_file_is_computed_and_written_again(check, damage):
    check.count()
    check.files[0].write_text(damage)
    assert [check.count() for _ in range(2)] == [1, 0]


def test_a_file_that_is_not_text_or_no_file_is_computed(check):
    check.count()
    check.files[0].write_bytes(b"\xff\xfe\xfd")
    assert check.count() == 1
    (path,) = check.files
    path.unlink()
    path.mkdir()
    assert [check.count() for _ in range(2)] == [1, 1]


def change_processor(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_checks, "processor_description", lambda: "flags: avx2 avx512f")


def change_paddle(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_checks.paddle, "__version__", "9.9.9")


def change_library(monkeypatch, tmp_path):
    monkeypatch.setattr(onednn, "library", lambda: onednn.Library(None, None, None, (3, 99, 0)))


def change_place(monkeypatch, tmp_path):
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "libdnnl.so.3").write_bytes(b"another build")
    monkeypatch.setattr(kept_checks.paddle, "__file__", str(tmp_path / "__init__.py"))


def change_instructions(monkeypatch, tmp_path):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX")  # which no run of these tests has


def change_threads(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "61")


def change_code(monkeypatch, tmp_path):
    (tmp_path / "norm.py").write_text("another code")
    monkeypatch.setattr(kept_checks, "__file__", str(tmp_path / "kept_checks.py"))


CHANGES = [value for name, value in sorted(globals().items()) if name.startswith("change_")]


@pytest.mark.parametrize("change", CHANGES, ids=[function.__name__ for function in CHANGES])
def test_what_another_machine_or_version_kept_does_not_count(check, change, monkeypatch, tmp_path):
    check.count()
    with monkeypatch.context() as patch:
        change(patch, tmp_path)
        assert [check.count() for _ in range(2)] == [1, 0]
    assert check.count() == 0 and len(check.files) == 2


def test_nothing_is_kept_where_the_processor_is_unknown_or_the_cache_cannot_be_written(check, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(kept_checks, "processor_description", lambda: None)
        assert [check.count() for _ in range(2)] == [1, 1] and not check.files
    monkeypatch.setenv("PPDET_CACHE_HOME", "/proc/nowhere")
    assert [check.count() for _ in range(2)] == [1, 1]


def test_a_full_disk_keeps_nothing(check, monkeypatch):
    def fail(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(kept_checks, "write_json", fail)
    assert [check.count() for _ in range(2)] == [1, 1]


def test_the_oldest_results_go(check, monkeypatch):
    monkeypatch.setattr(kept_checks, "KEPT", 2)
    for number in range(4):
        monkeypatch.setenv("OMP_NUM_THREADS", str(number + 50))
        check.count()
        for age, path in enumerate(check.files):
            os.utime(path, (number * 10 + age, number * 10 + age))
    assert len(check.files) == 2


def test_forgetting_computes_again(check):
    forget()
    assert check.count() == 1
    forget()
    assert not check.files and check.count() == 1
