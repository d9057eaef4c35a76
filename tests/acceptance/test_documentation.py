"""docs/GPU.md agrees with the kit, and its figures with each other."""

import re
import shlex
from pathlib import Path

from commands import execute

from ppdet.acceptance import documentation
from ppdet.acceptance.check_registry import GROUPS, all_checks, expected_seconds, select

ROOT = Path(__file__).resolve().parents[2]
TEXT = documentation.PAGE.read_text(encoding="utf-8")


def test_the_page_has_every_check_with_its_advice():
    """If this fails, run `python -m ppdet.acceptance.documentation`."""
    assert documentation.with_section(TEXT) == TEXT
    for check in all_checks():
        assert f"| `{check.name}` | {check.title} |" in TEXT and check.advice in TEXT


def test_the_section_is_written_between_its_marks(tmp_path):
    page = tmp_path / "GPU.md"
    page.write_text(f"before {documentation.BEGIN} old {documentation.END} after")
    documentation.main(page)
    assert page.read_text() == (
        f"before {documentation.BEGIN}\n\n{documentation.section()}\n\n{documentation.END} after"
    )


def test_all_checks_of_one_card_take_ten_minutes():
    table = re.search(r"\| group \| what takes the time \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", TEXT)[1]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()))
    assert named == [group.name for group in GROUPS]
    assert expected_seconds([check for check in all_checks() if check.group != "cards"]) <= 600


def test_the_commands_of_the_page():
    commands = re.findall(r"^ppdet check-device([^#\n]*?) *(?:#.*)?$", TEXT, flags=re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        arguments = shlex.split(command)
        only = arguments[arguments.index("--only") + 1 :] if "--only" in arguments else []
        assert select(only)
        result = execute("tools/check_device.py", *arguments, "--list")
        assert result.returncode == 0 and (only or ["nms"])[0] in result.stdout


def test_images_per_second_are_the_quotient_of_peak_and_work():
    """The work is that of docs/PERFORMANCE.md, 1,163 GFLOP for 896x1152, converted to 896x1408."""
    work = 1163 / 1152 * 1408 / 1e3
    assert "1,163 GFLOP" in (ROOT / "docs" / "PERFORMANCE.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (.+?) \| ([\d.]+) \| (\S+) \| (\d+)[^|]*\|[^|]*\| (.*?) \| (.*?) \|$", TEXT, re.MULTILINE)
    assert [row[0] for row in found] == ["V100 SXM2", "T4", "A10", "A100 SXM", "H100 SXM"]
    for name, single, tf32, half, in_float32, in_half in found:
        for peak, cell in ((single if tf32 == "-" else tf32, in_float32), (half, in_half)):
            low, high, least, most = map(int, re.match(r"(\d+) to (\d+) \((\d+) to (\d+) %", cell).groups())
            assert [low, high] == [round(float(peak) * share / 100 / work) for share in (least, most)], name
