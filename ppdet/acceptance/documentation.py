"""Writes the part of docs/GPU.md that describes all checks: python -m ppdet.acceptance.documentation"""

from pathlib import Path

from ppdet.acceptance.check_registry import GROUPS, SHARED, Group, all_checks, expected_seconds
from ppdet.acceptance.context import ROOT
from ppdet.utils.disk.files import read_text

PAGE = ROOT / "docs" / "GPU.md"
BEGIN, END = "<!-- checks: begin -->", "<!-- checks: end -->"


def section() -> str:
    """Return the Markdown about all checks: title, needs, seconds on a GPU, and the meaning of a failure."""
    parts = []
    for group in GROUPS:
        checks = [check for check in all_checks() if check.group == group.name]
        made = made_in(group)
        seconds = sum(check.seconds for check in checks) + sum(SHARED[name].seconds for name in made)
        parts += [f"### {group.title} (`{group.name}`, {len(checks)} checks, about {seconds:.0f} s)", ""]
        parts += ["| check | what it compares or measures | needs | seconds |", "|---|---|---|---|"]
        for check in checks:
            needs = ", ".join(need.text for need in check.needs)
            parts.append(f"| `{check.name}` | {check.title} | {needs} | {check.seconds:.0f} |".replace("|  |", "| |"))
        parts += [f"| | shared, made once: {SHARED[name].title} | | {SHARED[name].seconds:.0f} |" for name in made]
        for advice in dict.fromkeys(check.advice for check in checks):
            named = [check.name.partition("/")[2] for check in checks if check.advice == advice]
            which = ", ".join(f"`{name}`" for name in named)
            parts += ["", f"**{'All checks' if len(named) == len(checks) else which}:** {advice}"]
        parts.append("")
    total = expected_seconds(all_checks())
    one_card = expected_seconds([check for check in all_checks() if check.group != "cards"])
    parts.append(f"All checks together take about {total / 60:.1f} minutes, those of one card {one_card / 60:.1f}.")
    return "\n".join(parts)


def made_in(group: Group) -> list[str]:
    """Return the names of the shared objects that checks of this group are the first to use."""
    first_user = {name: check.group for check in reversed(all_checks()) for name in check.uses}
    return [name for name in SHARED if first_user[name] == group.name]


def with_section(text: str) -> str:
    """Return the text of the page with the current section between its marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: expected the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section()}\n\n{END}{after}"


def main(path: Path = PAGE) -> None:
    path.write_text(with_section(read_text(path)), encoding="utf-8")


if __name__ == "__main__":
    main()
