"""Start-up by stage: a real training process prints what the table needs, and PERFORMANCE.md has its stages."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import pytest
import startup

PAGE = startup.ROOT / "docs" / "PERFORMANCE.md"


def test_a_training_process_prints_every_stage_up_to_its_first_step(tiny, tmp_path):
    options = ["-c", str(tiny), "--eval", "-o", f"save_dir={tmp_path / 'runs'}", "worker_num=1"]
    spent = startup.run(startup.TRAINING, options)
    assert set(spent) == {*startup.STAGES, startup.STEP}
    assert all(seconds >= 0 and cpu >= 0 for seconds, cpu in spent.values())
    assert all(spent[stage][1] > 0 for stage in ("imports", "network", startup.STEP))


def test_the_table_has_medians_of_the_stages_and_of_their_sums():
    def turn(imports, network):
        return {"imports": [imports, 1.0], "network": [network, 0.5], startup.STEP: [9.0, 8.0]}

    rows = startup.table([turn(1.0, 5.0), turn(2.0, 1.0), turn(4.0, 2.0)], [{"import": [0.5, 0.25]}])
    assert [row[0] for row in rows] == [*startup.STAGES, startup.BEFORE, startup.STEP, startup.LIMIT]
    numbers = {row[0]: row[1:] for row in rows}
    assert numbers["imports"] == [2.0, 1.0] and numbers["network"] == [2.0, 0.5] and numbers["workers"] == [0.0, 0.0]
    assert numbers[startup.BEFORE] == [6.0, 1.5]  # of 6, 3 and 6 seconds
    assert numbers[startup.STEP] == [9.0, 8.0] and numbers[startup.LIMIT] == [0.5, 0.25]


def test_a_process_that_fails_ends_the_benchmark_with_its_message():
    with pytest.raises(SystemExit, match=r"(?s)exit code 1: .*No module named 'nothing'"):
        startup.run("import nothing")
    with pytest.raises(SystemExit, match="exit code 0"):
        startup.run("pass")


def test_performance_has_the_stages():
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    start = next(i for i, cells in enumerate(lines) if cells[0] == "stage of the start")
    names = [cells[0] for cells in lines[start + 2 : start + 2 + len(startup.STAGES) + 1]]
    assert names == [*startup.STAGES, startup.BEFORE]
