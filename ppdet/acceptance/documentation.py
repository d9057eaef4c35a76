"""The part of docs/GPU.md that the checks themselves make: `python -m ppdet.acceptance.documentation` writes it."""

from pathlib import Path

from ppdet.acceptance.check_registry import GROUPS, SHARED, Group, all_checks, expected_seconds
from ppdet.acceptance.context import ROOT

PAGE = ROOT / "docs" / "GPU.md"
BEGIN, END = "<!-- checks: begin -->", "<!-- checks: end -->"


def section() -> str:
    """Markdown of all checks: what they compare, what they need, seconds on a GPU, and what a failure means."""
    parts = []
    for group in GROUPS:
        checks = [check for check in all_checks() if check.group == group.name]
        if not checks:
            continue
        seconds = sum(check.seconds for check in checks) + sum(SHARED[name].seconds for name in made_in(group))
        parts += [f"### {group.title} (`{group.name}`, {len(checks)} checks, about {seconds:.0f} s)", ""]
        parts += ["| check | what | needs | s |", "|---|---|---|---|"]
        for check in checks:
            needs = ", ".join(need.text for need in check.needs)
            parts.append(f"| `{check.name}` | {check.title} | {needs} | {check.seconds:.0f} |".replace("|  |", "| |"))
        parts += [
            f"| | made once here: {SHARED[name].title} | | {SHARED[name].seconds:.0f} |" for name in made_in(group)
        ]
        for advice in dict.fromkeys(check.advice for check in checks):
            named = [check.name.partition("/")[2] for check in checks if check.advice == advice]
            which = "A failure" if len(named) == len(checks) else " or ".join(f"`{name}`" for name in named)
            parts += ["", f"**{which}:** {advice}"]
        parts.append("")
    total = expected_seconds(all_checks())
    one_card = expected_seconds([check for check in all_checks() if check.group != "cards"])
    parts.append(f"Together about {total / 60:.1f} minutes, {one_card / 60:.1f} of them on one card.")
    return "\n".join(parts)


def made_in(group: Group) -> list[str]:
    """What checks of this group are the first to use, and so make."""
    first = {name: check.group for check in reversed(all_checks()) for name in check.uses}
    return [name for name in SHARED if first[name] == group.name]


def with_section(text: str) -> str:
    """The page with its section as the checks have it now."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE}: {BEGIN} and {END} have to be there")
    return f"{before}{BEGIN}\n\n{section()}\n\n{END}{after}"


def main(path: Path = PAGE) -> None:
    path.write_text(with_section(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
