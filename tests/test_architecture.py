"""Imports only go down, and cheap imports stay cheap."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Highest floor first; a package imports from its own floor's own package and from lower floors.
FLOORS = [
    {"acceptance"},
    {"cli"},
    {"zoo"},
    {"engine"},
    {"deploy"},
    {"data", "modeling", "optimizer", "metrics", "visualize", "convert"},
    {"core"},
    {"utils"},
]
HEIGHT = {package: -floor for floor, packages in enumerate(FLOORS) for package in packages}


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "ppdet"}
    return names


def files():
    return [path for path in (ROOT / "ppdet").rglob("*.py") if path.parent != ROOT / "ppdet"]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_down(path):
    package = path.relative_to(ROOT / "ppdet").parts[0]
    for module in imported_modules(path):
        if module.startswith("ppdet."):
            other = module.split(".")[1]
            assert other == package or HEIGHT[other] < HEIGHT[package], f"{path} imports {module}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 320


def test_no_two_modules_have_one_name():
    """Modules of commands are called like the commands, and `base` is the contract of a room."""
    names = Counter(path.stem for path in files() if path.parent.name != "cli")
    assert {name for name, times in names.items() if times > 1} == {"__init__", "base"}


def test_no_test_is_timed():
    """Speed is the benchmarks' affair, and what takes longer on a busy machine is right all the same."""
    clocks = re.compile(r"perf_counter|process_time|time\.monotonic|timeout=\d|\.(?:wait|join|result)\(\d")
    # What waits for all others, this, and what says itself what its clock shows.
    timed = {"patience.py", Path(__file__).name, "test_speed_checks.py"}
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.name not in timed]
    paths = [path for path in paths if path.parent.name not in ("soak", "mutants", "fuzz")]
    assert len(paths) > 100
    assert [f"{path}: {found[0]}" for path in paths if (found := clocks.search(path.read_text()))] == []


def test_one_module_asks_what_the_device_is():
    """Everybody else asks ppdet/utils/device.py, which a test can answer for, so that each branch runs on a CPU."""
    question = re.compile(
        r"paddle\.get_device|get_device\(\)|device\.cuda\b|is_compiled_with|get_(?:cuda|xpu|custom)_device|get_all_(?:custom_)?device"
        r"|is_(?:gpu|xpu|custom)_place|CUDAPlace|XPUPlace|CustomPlace|expected_place"
    )
    allowed = {"ppdet/utils/device.py"}
    paths = [path for folder in ("ppdet", "tools", "deploy") for path in (ROOT / folder).rglob("*.py")]
    asking = {str(path.relative_to(ROOT)): found[0] for path in paths if (found := question.search(path.read_text()))}
    assert {path: found for path, found in asking.items() if path not in allowed} == {}
    assert set(asking) == allowed  # or the pattern finds nothing


def test_worker_processes_are_started_by_one_module():
    """It keeps forked processes from finalizing what they inherit, and spawned ones from running the main script."""
    starting = r"get_context\(|os\.fork\(|ProcessPoolExecutor\(|multiprocessing\.(?:Process|Pool)\("
    paths = [path for path in (ROOT / "ppdet").rglob("*.py") if re.search(starting, path.read_text())]
    assert [path.name for path in paths] == ["start.py"]
    paths = [path for path in (ROOT / "ppdet").rglob("*.py") if "process_context(" in path.read_text()]
    assert {path.name for path in paths} == {"start.py", "workers.py", "process_life.py", "doctor.py"}
    # The doctor starts none: it tells the user how they are started.
    paths = [path for path in paths if path.name not in ("start.py", "doctor.py")]
    assert all("starting(context)" in path.read_text() for path in paths)


def test_no_process_imports_from_the_working_directory():
    """`python -m` and `python -c` put it first on the path, so that a user's packaging.py would run in place of it."""
    paths = [path for folder in ("ppdet", "tools", "deploy") for path in (ROOT / folder).rglob("*.py")]
    texts = {path.name: path.read_text() for path in paths if re.search(r"\[sys\.executable", path.read_text())}
    assert set(texts) == {"child.py", "runner.py", "launched_jobs.py"}
    assert "cwd=ROOT" in texts.pop("launched_jobs.py")
    assert all('"import sys; sys.path[0] = {root!r}; ' in text for text in texts.values())


# Threads that touch no tensor of Paddle's, and why; an engine's own tensors know their device.
NO_TENSORS = {
    "ppdet/acceptance/check_process.py": "it looks whether the process that started it is there",
    "ppdet/engine/distributed/watchdog.py": "it reads and writes sockets",
    "ppdet/deploy/serving/service.py": "they wait for other processes",
    "ppdet/deploy/serving/batching.py": "they wait for the process that runs the model",
    "ppdet/deploy/serving/process_life.py": "it waits for the end of the process that started it",
    "ppdet/deploy/batch/read_images.py": "files are fetched",
    "ppdet/utils/process/child.py": "it waits for the end of the process that started it",
}


def test_threads_that_may_touch_tensors_take_their_device_along():
    paths = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "ppdet").rglob("*.py")}
    starting = {path: text for path, text in paths.items() if re.search(r"\bThread(?:PoolExecutor)?\(", text)}
    assert {path for path, text in starting.items() if "device.thread_initializer()" not in text} == set(NO_TENSORS)
    assert {"ppdet/engine/evaluator.py", "ppdet/utils/iteration.py"} == set(starting) - set(NO_TENSORS)


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import ppdet", {"paddle", "cv2", "numpy", "yaml"}),
        ("import ppdet.core.workspace", {"paddle", "cv2"}),
        ("import ppdet.data", {"paddle"}),
        ("import ppdet.deploy.detector, ppdet.deploy.results", {"paddle", "ppdet.engine", "ppdet.modeling"}),
        ("import ppdet.deploy.serving.server", {"paddle", "ppdet.engine", "ppdet.modeling"}),
        ("import ppdet.deploy.serving.worker_process", {"paddle", "cv2", "numpy"}),
        ("import ppdet.convert", {"paddle", "torch", "cv2", "ppdet.engine", "ppdet.modeling"}),
        ("import ppdet.engine.device_choice", {"paddle", "cv2", "ppdet.modeling"}),
        ("from ppdet.acceptance import check_registry; check_registry.all_checks()", {"paddle", "cv2", "ppdet.engine"}),
    ],
)
def test_cheap_imports(statement, absent):
    assert not absent & modules_after(statement)


def test_transforms_need_numpy_and_opencv_only():
    allowed = {"numpy", "cv2", "collections", "typing", "os", "math", "struct", "itertools", "dataclasses", "ppdet"}
    paths = list((ROOT / "ppdet" / "data" / "transforms").rglob("*.py"))
    assert len(paths) > 20
    for path in paths:
        optional = {"albumentations", "inspect", "random", "types"} if path.parent.name == "albu" else set()
        foreign = {m.split(".")[0] for m in imported_modules(path)} - allowed - optional
        assert not foreign, f"{path} imports {foreign}"
